"""A real Blender in mid-job, in a process of its own, and how to find all that belongs to it.

    python tests/backend/mid_job.py --times 50

kills one again and again in mid-training, and counts the processes that are left after 5 seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running import ROOT, alive, children, embroidery, environment, save

SECONDS = 5.0
PROGRAM = """
import sys, time
from pathlib import Path
import bpy, blender_addon
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()
from blender_addon.link import polling
from blender_addon.link.tasks import train_task
photo, model, out = sys.argv[1:]
bpy.context.scene.stitchwork.reference = photo
session = polling.session
polling.connect(roots=(model,))
task = train_task(bpy.context.scene, out=Path(out), base=model, steps_one=100_000, steps_two=1)
session.submit(task)
while task.progress is None or task.progress.stage == "loading":
    assert not session.step(), session.failure
    time.sleep(0.1)
print(session.owned, flush=True)
while not Path(photo).with_suffix(".end").exists():
    session.step()
    time.sleep(0.1)
blender_addon.unregister()  # as Blender does when it is closed
"""


def blender_python() -> Path:
    """The Python that has the bpy wheel."""
    given = os.environ.get("STITCHWORK_BLENDER_PYTHON")
    return Path(given or ROOT / ".venvs" / "blender" / "bin" / "python")


@contextmanager
def training(blender: Path, data: Path, model: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A Blender in mid-training; the style's name is in the library."""
    data.mkdir(exist_ok=True)
    photo = save(data / f"{name}.png", embroidery())
    process = subprocess.Popen(
        [str(blender), "-c", PROGRAM, str(photo), str(model), str(style(data, name))],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **environment(),
            "STITCHWORK_DATA": str(data),
            "STITCHWORK_BACKEND_PYTHON": sys.executable,
        },
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def style(data: Path, name: str) -> Path:
    return data / "styles" / name


def owns(blender: subprocess.Popen[str]) -> bool:
    """Wait until its training runs; whether it has started the backend."""
    assert blender.stdout is not None
    return blender.stdout.readline().strip().endswith("True")


def below(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(each for child in found for each in below(child))]


def belonging(data: Path) -> list[int]:
    """All processes that work for a data folder, by their environment (Linux)."""
    mark, found = f"STITCHWORK_DATA={data}\0".encode(), []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (each / "environ").read_bytes() and alive(int(each.name)):
                found.append(int(each.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def killed_in_mid_job(blender: Path, data: Path, model: Path, delay: float) -> tuple[int, float]:
    """Kill a Blender that trains, after a while.

    Returns:
        how many processes it had besides itself, and the seconds until the last was gone; infinite
        if one was left after SECONDS.
    """
    with training(blender, data, model, "late") as process:
        assert owns(process), "it joined another's backend"
        time.sleep(delay)
        others = len(belonging(data)) - 1
        process.kill()
        began = time.monotonic()
        while belonging(data):
            if time.monotonic() - began > SECONDS:
                return others, float("inf")
            time.sleep(0.02)
        return others, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from tiny import make_tiny_model

    chance, seconds, left = random.Random(options.seed), [], 0
    with tempfile.TemporaryDirectory() as name:
        model = make_tiny_model(Path(name) / "model")
        for number in range(options.times):
            data = Path(name) / f"data-{number}"
            others, lasted = killed_in_mid_job(
                blender_python(), data, model, chance.uniform(0.0, 3.0)
            )
            seconds.append(lasted)
            print(f"{number + 1}: {others} processes gone within {lasted:.2f} s", flush=True)
            for pid in belonging(data):
                print(f"left after {SECONDS:.0f} s: {pid}", flush=True)
                left += 1
            if others < 2:
                print(f"Blender {number} had no backend in mid-job", flush=True)
                left += 1
            if list(data.rglob("style.json")):
                print(f"Blender {number} left a result that was never finished", flush=True)
                left += 1
    print(f"{options.times} killed, {left} left over, all gone within {max(seconds):.2f} s")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
