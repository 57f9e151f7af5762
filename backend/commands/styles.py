"""`styles`: a folder of trained styles from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.commands import EXIT_FAILED, EXIT_OK, add_command, watched
from backend.errors import InputError
from backend.library import FORMATS, SUFFIX, TRASH

if TYPE_CHECKING:
    from backend.library.shelf import Entry

__all__ = ["add_styles"]

MIB = 2**20
_LORA = (
    "Write a style's LoRA for another program. diffusers: the names that load_lora_weights reads; "
    "kohya: the names that ComfyUI, A1111 and kohya's scripts read (diffusers reads them as well). "
    "Prompt routing is not carried along: there every block reads one prompt, so end it with the "
    "style's trigger words (`styles show` names them) and expect a weaker style than here. It fits "
    "the base model that the style was trained on and no other: for those programs, train with "
    "--profile sdxl."
)


def add_styles(commands: Any) -> None:
    """Add the command and its own commands to the parser's."""
    about = "List, share and tidy up trained styles."
    parser = add_command(commands, "styles", about, lambda options: EXIT_FAILED)
    verbs = parser.add_subparsers(required=True, metavar="verb")

    verb = _verb(verbs, "list", "List the styles of a folder.", _list)
    verb.add_argument("words", nargs="*", metavar="WORD", help="only names with all these words")
    _as_json(verb)

    verb = _verb(verbs, "show", "Show all that is known of a style.", _show)
    _style(verb)
    _as_json(verb)

    verb = _verb(verbs, "rename", "Give a style and its folder another name.", _rename)
    _style(verb)
    verb.add_argument("new", metavar="NEW", help="its new name")

    about = f"Move a style to the trash, the folder {TRASH} beside it. Nothing is erased."
    verb = _verb(verbs, "delete", about, _delete)
    _style(verb)
    verb.add_argument("--yes", action="store_true", help="do not ask")

    about = f"Write a style as one file ({SUFFIX}), to keep or to give away."
    verb = _verb(verbs, "export", about, _export)
    _style(verb)
    verb.add_argument("--out", type=Path, metavar="PATH", help=f"default: its name and {SUFFIX}")

    about = "Take a style from a file made by export. No style is ever overwritten."
    verb = _verb(verbs, "import", about, _import)
    verb.add_argument("file", type=Path, metavar="FILE", help=f"file that ends in {SUFFIX}")
    verb.add_argument("--name", metavar="NAME", help="name for the style, in place of its own")

    about = (
        "List the styles that sew most alike, by thread width, lay, scale and depth of stitches."
    )
    verb = _verb(verbs, "similar", about, _similar)
    _style(verb)
    verb.add_argument("--count", type=int, default=10, metavar="N", help="at most (default: 10)")
    _as_json(verb)

    verb = _verb(verbs, "export-lora", _LORA, _export_lora)
    _style(verb)
    verb.add_argument("--format", required=True, choices=FORMATS, help="whose names to use")
    verb.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors file")


def _verb(verbs: Any, name: str, about: str, run: Any) -> argparse.ArgumentParser:
    parser = add_command(verbs, name, about, run)
    parser.add_argument(
        "--library",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="folder that holds the styles' folders (default: this folder)",
    )
    return parser


def _style(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("style", metavar="STYLE", help="a style's name, or its folder's")


def _as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(options: argparse.Namespace) -> int:
    from backend.library import shelf

    found = shelf.entries(options.library, " ".join(options.words))
    if options.json:
        print(json.dumps([_plain(each) for each in found], indent=2))
        return EXIT_OK
    rows = [
        (each.name, each.task, each.profile, each.kind, _size(each.bytes), _when(each.created))
        for each in found
        if not each.problem
    ]
    _table(("name", "task", "profile", "kind", "size", "made"), rows)
    for each in found:
        if each.problem:
            print(f"damaged: {each.name}: {each.problem}", file=sys.stderr)
    return EXIT_OK


def _show(options: argparse.Namespace) -> int:
    from backend.library import shelf
    from backend.styles import DESIGNED, read_description

    style = shelf.find(options.library, options.style)
    data = read_description(style.folder)
    if options.json:
        print(json.dumps({"folder": str(style.folder.resolve()), "bytes": style.bytes, **data}))
        return EXIT_OK
    seconds = sum(data.get("seconds", {}).values())
    steps = " + ".join(str(each) for each in data["steps"].values())
    facts = {
        "name": data["name"],
        "folder": style.folder.resolve(),
        "size": _size(style.bytes),
        "made": f"{_when(data['created'])}, in {seconds / 60:.1f} minutes",
        "task": data["task"],
        "profile": f"{data['profile']} (base {data['base']['id']}, {data['base']['hash']})",
        "kind": data["kind"],
        "design": DESIGNED[data["designed"]],
        "thread": f"{data['thread_width_px']:g} px at training scale",
        "blocks": ", ".join(data["blocks"]),
        "trigger": data["prompts"]["trigger"],
        "prompt": data["prompts"]["embroidery"],
        "trained": f"{steps} steps, rank {data['rank']}, seed {data['seed']}",
        "measures": ", ".join(f"{k} {v:.3g}" for k, v in data.get("measures", {}).items()),
        "versions": ", ".join(f"{k} {v}" for k, v in data.get("versions", {}).items()),
        "licence": data["licence_note"],
    }
    for name, value in facts.items():
        print(f"{name:<9} {_safe(str(value))}")
    return EXIT_OK


def _rename(options: argparse.Namespace) -> int:
    from backend.library import shelf

    folder = shelf.rename(options.library, options.style, options.new)
    print(f"style: {folder.resolve()}")
    return EXIT_OK


def _delete(options: argparse.Namespace) -> int:
    from backend.library import shelf

    style = shelf.find(options.library, options.style)
    if not options.yes:
        if not sys.stdin.isatty():
            raise InputError(f"{style.folder}: nobody can be asked.", "Give --yes to delete it.")
        print(f"Move the style {_safe(style.name)!r} ({_size(style.bytes)}) to the trash? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was done", file=sys.stderr)
            return EXIT_FAILED
    folder = shelf.delete(options.library, options.style)
    print(f"moved to {folder.resolve()}: move it back to restore it, or erase it there")
    return EXIT_OK


def _export(options: argparse.Namespace) -> int:
    from backend.library import shelf
    from backend.library.archive import export_style

    style = shelf.find(options.library, options.style)
    out = options.out or Path(f"{style.folder.name}{SUFFIX}")
    export_style(style.folder, out)
    print(f"file: {out.resolve()} ({_size(out.stat().st_size)})")
    return EXIT_OK


def _import(options: argparse.Namespace) -> int:
    from backend.library.archive import import_style

    folder = import_style(options.file, options.library, options.name)
    print(f"style: {folder.resolve()}")
    return EXIT_OK


def _similar(options: argparse.Namespace) -> int:
    from backend.library import shelf
    from backend.library.likeness import similar

    style = shelf.find(options.library, options.style)
    found = watched(similar(options.library, style))[: max(0, options.count)]
    if options.json:
        rows = [{**dataclasses.asdict(each), "entry": _plain(each.entry)} for each in found]
        print(json.dumps(rows, indent=2))
        return EXIT_OK
    _table(
        ("name", "alike", "kind", "thread", "orientation", "spectrum", "contrast"),
        [
            (
                each.entry.name,
                f"{each.alike:.0f} %",
                each.entry.kind,
                f"{each.entry.thread_width_px:.1f} px",
                f"{each.orientation:.0f}",
                f"{each.spectrum:.1f} dB",
                f"{each.contrast:.2f} oct",
            )
            for each in found
        ],
    )
    return EXIT_OK


def _export_lora(options: argparse.Namespace) -> int:
    from backend.library import shelf
    from backend.library.lora import export_lora
    from backend.styles import Style

    style = Style.load(shelf.find(options.library, options.style).folder)
    export_lora(style, options.format, options.out)
    print(f"file: {options.out.resolve()}")
    print(f"trigger words: {_safe(style.prompts.trigger)}")
    if style.profile != "sdxl":
        print(f"note: it fits the base model of profile {style.profile} only, not SDXL")
    return EXIT_OK


def _plain(style: Entry) -> dict[str, Any]:
    return {**dataclasses.asdict(style), "folder": str(style.folder.resolve())}


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [titles, *([_safe(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(titles))]
    for row in shown:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())


def _size(count: int) -> str:
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{count / 1024:.0f} KiB"


def _when(created: str) -> str:
    return created[:16].replace("T", " ")


def _safe(text: str) -> str:
    """Text from a file, without what a terminal would act on."""
    return "".join(each if each.isprintable() else "�" for each in text)
