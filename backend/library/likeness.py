"""Which styles sew alike, by what can be measured in their references at training scale."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.imaging.files import read_mask, read_rgba
from backend.jobs import Progress
from backend.library.shelf import Entry, entries

__all__ = ["Likeness", "similar"]

# About as much as photos of two different embroideries differ, each at training scale: thread
# (octaves), lay (points of 100), detail at other scales (decibels), its strength (octaves). Two
# halves of one photo differ by a tenth to a half of that.
THREAD, ORIENTATION, SPECTRUM, CONTRAST = 0.58, 20.0, 4.0, 0.58


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How much another style is like the one asked about.

    Attributes:
        alike: 100 for the same, 0 for nothing in common.
        thread: octaves between thread widths; 0 where one has none that can be measured.
        orientation, spectrum, contrast: as `evaluation.measures` defines the distances of
            orientation, spectrum and band energies.
    """

    entry: Entry
    alike: float
    thread: float
    orientation: float
    spectrum: float
    contrast: float


def similar(library: Path, style: Entry) -> Generator[Progress, None, list[Likeness]]:
    """The other styles of the same profile, most alike first; a step for each.

    Styles of another profile have pixels of another size and are left out, and so are damaged ones.

    Raises:
        InputError: the style's own pictures cannot be read.
    """
    others = [
        each
        for each in entries(library)
        if each.folder != style.folder and each.profile == style.profile and not each.problem
    ]
    ours = _texture(style)
    found = []
    for done, other in enumerate(others):
        yield Progress(stage="comparing", step=done, steps=len(others))
        found.append(_compared(style, ours, other))
    return sorted(found, key=lambda each: (-each.alike, each.entry.name))


def _texture(style: Entry) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rgb = np.ascontiguousarray(read_rgba(style.folder / "reference.png")[..., :3])
    return rgb, read_mask(style.folder / "mask.png", rgb.shape[:2])


def _compared(
    style: Entry, ours: tuple[NDArray[np.float32], NDArray[np.float32]], other: Entry
) -> Likeness:
    from backend.evaluation.measures import (
        band_distance,
        orientation_distance,
        spectrum_distance,
    )

    rgb, mask = ours
    theirs, their_mask = _texture(other)
    widths = (style.thread_width_px, other.thread_width_px)
    known = all(math.isfinite(each) and each > 0.0 for each in widths)
    thread = abs(math.log2(widths[0] / widths[1])) if known else 0.0
    orientation = orientation_distance(rgb, theirs, mask, their_mask)
    spectrum = spectrum_distance(rgb, theirs, mask, their_mask)
    contrast = band_distance(rgb, theirs, mask, their_mask)
    steps = (thread / THREAD, orientation / ORIENTATION, spectrum / SPECTRUM, contrast / CONTRAST)
    return Likeness(
        entry=other,
        alike=100.0 * math.exp(-math.hypot(*steps) / 2.0),
        thread=thread,
        orientation=orientation,
        spectrum=spectrum,
        contrast=contrast,
    )
