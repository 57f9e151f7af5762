"""The add-on without an interface: `blender --command stitchwork …`, and the same as a function.

    blender --command stitchwork run --garment tshirt.blend --reference photo.jpg --out result
    python -m blender_addon.headless run …                  # with the bpy wheel
    blender_addon.cli.run(["run", "--garment", …])          # in a script; returns the exit code

Exit codes: 0 done, 1 an error that the user can act on (one line), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any

import bpy

from . import main_job
from .garment.errors import GarmentError
from .link import polling
from .link.client import LinkError
from .link.terminal import Terminal
from .wording import at_command_line

__all__ = ["parser", "run"]

COMMAND = "stitchwork"


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    root = argparse.ArgumentParser(
        prog=f"blender --command {COMMAND}",
        description="Show a garment as if its artwork were embroidered.",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="command")

    everything = commands.add_parser("run", help="bake, train if needed, embroider and apply")
    _add_garment(everything)
    _add_patch(everything)
    _add_style(everything)
    _add_backend(everything)
    everything.add_argument("--out", type=Path, required=True, help="folder for all results")
    everything.add_argument(
        "--instant", action="store_true", help="patch synthesis in seconds instead of training"
    )
    everything.add_argument(
        "--no-preview", action="store_true", help="without texture_preview.png, for comparison"
    )
    _add_render(everything)

    baked = commands.add_parser("bake", help="write a patch's base colour and mask as pictures")
    _add_garment(baked)
    _add_patch(baked)
    baked.add_argument("--out", type=Path, required=True, help="folder for bake.png and mask.png")

    applied = commands.add_parser("apply", help="lay a picture over a patch and save the garment")
    _add_garment(applied)
    _add_patch(applied)
    applied.add_argument("--image", type=Path, required=True, help="embroidered picture")
    applied.add_argument("--save", type=Path, required=True, help=".blend file to write")

    reverted = commands.add_parser("revert", help="take embroidery off and save the garment")
    _add_garment(reverted)
    reverted.add_argument("--patch", metavar="NAME", help="only this patch")
    reverted.add_argument("--save", type=Path, required=True, help=".blend file to write")

    down = commands.add_parser(
        "bake-down", help="merge applied patches into one texture, and its relief into a normal map"
    )
    _add_garment(down)
    down.add_argument("--uv-layer", default="", metavar="NAME")
    down.add_argument("--size", type=int, default=4096, help="pixels a side")
    down.add_argument(
        "--texture", type=Path, required=True, help="PNG to write; the relief: NAME-normal.png"
    )
    return root


def _add_garment(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("garment")
    group.add_argument(
        "--garment", type=Path, required=True, help=".blend, .glb, .gltf, .obj or .fbx"
    )
    group.add_argument("--object", metavar="NAME", help="mesh; the likeliest if absent")
    group.add_argument(
        "--print",
        type=Path,
        metavar="FILE",
        help="its printed texture, in its UV layout, in place of the file's own materials",
    )
    group.add_argument("--height-cm", type=float, help="real height, where the file's is wrong")
    group.add_argument("--json", action="store_true", help="progress as JSON lines")


def _add_patch(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("patch")
    group.add_argument(
        "--patch", metavar="NAME", help="a patch that the file holds; else one is made"
    )
    group.add_argument("--uv-layer", metavar="NAME", help="the active one if absent")
    group.add_argument(
        "--rect",
        type=float,
        nargs=4,
        metavar=("U0", "V0", "U1", "V1"),
        help="rectangle in UV units; around the largest artwork if absent",
    )
    group.add_argument(
        "--words",
        metavar="TEXT",
        help='embroider a motif from these words, such as "a red heart", in place of the artwork',
    )
    group.add_argument("--region", choices=("auto", "faces", "group", "mask", "all"))
    group.add_argument("--vertex-group", metavar="NAME", help="for --region group")
    group.add_argument("--mask-image", type=Path, help="for --region mask; white: embroider")
    group.add_argument("--thread-mm", type=float, help="real thread width (0.4)")
    group.add_argument("--exaggeration", type=float, help="thread this many times wider")
    group.add_argument("--max-side", type=int, help="largest picture side in pixels (8192)")


def _add_style(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("style")
    group.add_argument("--reference", type=Path, help="photo of one embroidery, to train on")
    group.add_argument("--design", type=Path, help="the photo's flat artwork, if owned")
    group.add_argument("--style", type=Path, help="folder of a trained style; no training then")
    group.add_argument("--subject", help='what the photo shows, such as "red heart"')
    group.add_argument("--profile", default="starter", choices=("starter", "sdxl"))
    group.add_argument("--base", help="hub id or folder in place of the profile's base model")
    group.add_argument("--seed", type=int, default=42)
    group.add_argument("--steps-one", type=int, metavar="N", help="stage-one training steps")
    group.add_argument("--steps-two", type=int, metavar="N", help="stage-two training steps")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    group.add_argument(
        "--strength", type=float, help="share of the noise schedule redone; not for words"
    )
    group.add_argument("--style-strength", type=float, default=1.0, help="LoRA scale (1.0)")
    group.add_argument("--guidance", type=float)
    group.add_argument("--kind", default="auto", choices=("auto", "flat", "relief"))
    group.add_argument("--start", default="auto", choices=("auto", "design", "preview"))


def _add_backend(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("backend")
    group.add_argument("--backend-python", default="", metavar="EXE")
    group.add_argument("--backend-url", default="", metavar="URL", help="one that runs already")
    group.add_argument("--backend-token", default="", metavar="TOKEN")


def _add_render(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("pictures")
    group.add_argument(
        "--render", action="store_true", help="before.png, after.png and closeup.png"
    )
    group.add_argument("--size", type=int, default=1024, help="pixels of a render's longer side")
    group.add_argument("--samples", type=int, default=32, help="samples a pixel")


def run(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code; nothing is left running."""
    try:
        options = parser().parse_args(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    with _own_output() as stream, at_command_line():
        return _carry_out(options, Terminal(stream, as_json=options.json))


@contextmanager
def _own_output() -> Iterator[IO[str]]:
    """Standard output for progress alone: Blender's own chatter goes nowhere meanwhile."""
    _flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        with (
            open(kept, "w", encoding="utf-8", errors="replace", closefd=False) as stream,
            open(os.devnull, "w") as silent,
            redirect_stdout(silent),  # operators called from Python report there
        ):
            yield stream
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


def _flush() -> None:
    """Empty Python's buffer and Blender's own, so that each line goes where it was meant to."""
    sys.stdout.flush()
    library = "ucrtbase" if sys.platform == "win32" else None
    ctypes.CDLL(library).fflush(None)


def _carry_out(options: argparse.Namespace, terminal: Terminal) -> int:
    # Blender takes Ctrl+C for itself; here it must end the work in order.
    ours = threading.current_thread() is threading.main_thread()
    before: Any = signal.signal(signal.SIGINT, signal.default_int_handler) if ours else None
    try:
        main_job.COMMANDS[options.command](options, terminal)
    except (GarmentError, LinkError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {name}{error.strerror or error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr, flush=True)
        return 130
    finally:
        polling.session.stop()
        if ours:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    return 0


_handle: Any = None


def register() -> None:
    global _handle
    _handle = bpy.utils.register_cli_command(COMMAND, run)


def unregister() -> None:
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
