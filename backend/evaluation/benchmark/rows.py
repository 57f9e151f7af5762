"""Picture rows: a reference, one design, its true answer and what methods made of it, side by side.

Crops at full size, so that stitches can be judged; the whole pictures are in the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.evaluation.benchmark.methods import OURS, Method
from backend.evaluation.benchmark.sets import Reference
from backend.evaluation.benchmark.store import Store
from backend.imaging.files import read_rgba, write_png
from backend.starter.designs import Design
from backend.styles import Style

__all__ = ["busiest", "write_rows"]

# What a reader wants to see first: the rivals of each kind.
SHOWN = (OURS, "ours-design", "no-stage-two", "db-lora", "base", "preview")
_GAP = 4


def write_rows(
    store: Store,
    references: Sequence[Reference],
    designs: Sequence[Design],
    methods: Sequence[Method],
    side: int = 192,
) -> list[Path]:
    """`rows/REFERENCE.png` for each reference; designs take turns.

    From left to right: the reference, the design, its true answer (the design again where that is
    not known), then the shown methods among `methods`, in their order.

    Args:
        side: of a crop, pixels.

    Raises:
        InputError: a style or a picture of the benchmark cannot be read.
        ResourceError: the folder cannot be written.
    """
    written = []
    names = [each.name for each in methods if each.name in SHOWN]
    for number, reference in enumerate(references):
        design = designs[number % len(designs)]
        top, left = busiest(design.art.astype(np.float32), side)
        flat = store.folder / f"designs/{design.name}.png"
        truth = store.folder / f"truth/{reference.name}/{design.name}.png"
        pictures = [flat, truth if truth.is_file() else flat]
        cells = store.folder / f"cells/{reference.name}"
        pictures += [cells / name / f"{design.name}.png" for name in names]
        style = Style.load(store.folder / f"styles/{reference.name}/{OURS}")
        crops = [_reference(style, side)]
        crops += [_crop(read_rgba(path)[..., :3], top, left, side) for path in pictures]
        gap = np.ones((side, _GAP, 3), np.float32)
        strips = [part for crop in crops for part in (crop, gap)][:-1]
        path = store.place(f"rows/{reference.name}.png")
        write_png(path, np.concatenate(strips, axis=1))
        written.append(path)
    return written


def busiest(weight: NDArray[np.float32], side: int) -> tuple[int, int]:
    """Top and left of the square of `side` with most of a weight (H, W); the middle of equals."""
    height, width = weight.shape
    side_y, side_x = min(side, height), min(side, width)
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = np.cumsum(np.cumsum(weight, axis=0, dtype=np.float64), axis=1)
    sums = total[side_y:, side_x:] - total[:-side_y, side_x:]
    sums -= total[side_y:, :-side_x] - total[:-side_y, :-side_x]
    best = np.argwhere(sums >= sums.max() - 1e-6)
    top, left = best[len(best) // 2]
    return int(top), int(left)


def _reference(style: Style, side: int) -> NDArray[np.float32]:
    """Of the photo as the style keeps it, at the thread width that the results have."""
    return _crop(style.reference, *busiest(style.mask, side), side)


def _crop(picture: NDArray[np.float32], top: int, left: int, side: int) -> NDArray[np.float32]:
    """A square of `side`, white where the picture ends."""
    crop = np.ones((side, side, 3), np.float32)
    part = picture[top : top + side, left : left + side]
    crop[: part.shape[0], : part.shape[1]] = part
    return crop
