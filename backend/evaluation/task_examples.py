"""A small example of each of the paper's other tasks, from drawn pictures alone, with a report.

    python -m backend.evaluation.task_examples --out DIR

Each task has its folder in DIR: reference and input as drawn, the trained style, the result, and
strip.jpg with reference, design, input and result side by side. A style that is there is not
trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend import tasks
from backend.commands import absolute, watched
from backend.engine import Engine
from backend.evaluation.report import Fact, Manifest, Picture, write_report
from backend.evaluation.task_inputs import draw_inputs
from backend.imaging.files import read_rgba, write_png
from backend.jobs import Progress, RestyleJob, TrainJob
from backend.styles import Style, is_style

__all__ = ["EXAMPLES", "make_examples"]

EXAMPLES = tuple(name for name in tasks.names() if name != "embroidery")
# What each picture of a task is.
_CAPTIONS = {
    "painting": ("a painting", "the same, smooth", "a photo", "painted"),
    "sketch": ("a coloured drawing", "its lines", "a sketch", "coloured"),
    "appearance": ("a thing", "its lines", "a picture", "its outlines, with the thing's look"),
}
# Of an input: one window of the starter, so that it sees the whole.
SIDE = 256
_GAP = 6


def make_examples(
    out: Path,
    names: Sequence[str] = EXAMPLES,
    *,
    steps_one: int = 240,
    steps_two: int = 16,
    base: str | None = None,
) -> Generator[Progress, None, Path]:
    """Draw, train and restyle; returns the report's path.

    Args:
        names: tasks, of `EXAMPLES`.
        base: in place of the starter's weights.
    """
    engine = Engine()
    pictures, facts = [], []
    for name in names:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        reference, shown = draw_inputs(name)
        write_png(folder / "reference.png", reference)
        small = cv2.resize(shown, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        write_png(folder / "input.png", small)
        style = folder / "style"
        train = TrainJob(
            reference=str(folder / "reference.png"),
            out=str(style),
            task=name,
            steps_one=steps_one,
            steps_two=steps_two,
            base=base,
        )
        restyle = RestyleJob(
            style=str(style),
            input=str(folder / "input.png"),
            out=str(folder / "result.png"),
            task=name,
            base=base,
        )
        for job in (restyle,) if is_style(style) else (train, restyle):
            for each in engine.run(job):
                yield replace(each, stage=f"{name}: {each.stage}")
        learnt = Style.load(style)
        result = read_rgba(folder / "result.png")[..., :3]
        row = (learnt.reference, learnt.design, small, result)
        write_png(folder / "design.png", learnt.design)
        strip(row).save(folder / "strip.jpg", quality=88)
        files = ("reference.png", "design.png", "input.png", "result.png")
        pictures += [
            Picture(path=f"{name}/{file}", caption=caption, group=name)
            for file, caption in zip(files, _CAPTIONS[name])
        ]
        steps = " + ".join(str(each) for each in learnt.steps.values())
        facts.append(Fact(name=name, value=f"{steps} steps, {', '.join(learnt.blocks)}"))
    report = out / "tasks.html"
    title = "The other tasks, learnt from one drawn picture each"
    write_report(
        Manifest(title=title, facts=tuple(facts), pictures=tuple(pictures), folder=out), report
    )
    return report


def strip(pictures: Sequence[NDArray[np.float32]]) -> Image.Image:
    """The pictures side by side, white between them, each `SIDE` pixels square."""
    width = len(pictures) * (SIDE + _GAP) - _GAP
    row = Image.new("RGB", (width, SIDE), "white")
    for number, each in enumerate(pictures):
        square = cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        values = np.round(np.clip(square, 0.0, 1.0) * 255.0).astype(np.uint8)
        row.paste(Image.fromarray(values), (number * (SIDE + _GAP), 0))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the pictures and the report")
    parser.add_argument("--task", action="append", choices=EXAMPLES, help="one of them only")
    parser.add_argument("--steps-one", type=int, default=240, help="stage one (default: 240)")
    parser.add_argument("--steps-two", type=int, default=16, help="stage two (default: 16)")
    options = parser.parse_args()
    report = watched(
        make_examples(
            Path(absolute(options.out)),
            options.task or EXAMPLES,
            steps_one=options.steps_one,
            steps_two=options.steps_two,
        )
    )
    print(f"report: {report}")


if __name__ == "__main__":
    main()
