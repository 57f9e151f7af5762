"""The reference photo's motif in millimetres: flat shapes, and the stitches that fill them.

A flower of 34 by 34 mm: satin petals, leaves and stem, a tatami centre and one tatami leaf half.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .drawing import Floats, bezier, blob, leaf, place, stroke

__all__ = ["REGIONS", "SIDE", "Region", "Stitch", "stitches", "underlay"]

SIDE = 34.0
"""Width and height of the picture, mm."""
PITCH = 0.34
"""Distance of neighbouring threads, mm: a little less than a thread, so that no cloth shows."""


@dataclass(frozen=True)
class Region:
    """One flat shape (x right, y down, mm), its thread colour and how it is sewn."""

    colour: str
    outline: Floats
    degrees: float
    """Direction of the stitches, clockwise from +x as seen on the picture."""
    level: float
    """How far what is sewn beneath lifts this region, mm."""
    longest: float | None = None
    """Length of a tatami stitch, mm; None for satin, which spans the region."""
    fan: float = 0.0
    """How many degrees the stitches turn from the region's one end to the other."""


@dataclass(frozen=True)
class Stitch:
    """One visible piece of thread from needle hole to needle hole (mm)."""

    start: Floats
    end: Floats
    colour: str
    level: float
    loft: float
    """How much higher its middle lies for every mm of its length (satin over padding), mm."""


def _regions() -> list[Region]:
    stem = bezier(np.array([[17.2, 15.0], [17.6, 22], [16.4, 27], [16.8, 33.0]]), 40)
    regions = [Region("stem", stroke(stem, 1.9, 2.3), 8.0, 0.05)]
    for at, degrees, length, width in (
        ((16.4, 31.6), -146.0, 15.0, 7.6),
        ((17.4, 30.6), -33.0, 15.5, 7.8),
    ):
        whole = leaf(length, width, 40, belly=0.46)
        tip = len(whole) // 2
        upper, lower = whole[: tip + 1], np.vstack([whole[tip:], whole[:1]])
        gap = np.array([0.0, 0.06])
        regions.append(Region("leaf", place(upper - gap, at, degrees), degrees - 48, 0.12))
        regions.append(Region("lime", place(lower + gap, at, degrees), degrees + 48, 0.12))
    petal = _petal()
    for k in range(5):
        degrees = -90.0 + 72 * k
        regions.append(
            Region("petal", place(petal, (17.0, 12.2), degrees), degrees + 90, 0.16, fan=16.0)
        )
    regions.append(Region("heart", place(blob(3.9), (17.0, 12.2)), 24.0, 0.50, longest=2.9))
    return regions


def _petal() -> Floats:
    """A rounded petal along +x, its foot under the flower's centre."""
    upper = bezier(np.array([[3.4, -2.1], [5.6, -4.6], [11.6, -5.6], [11.2, 0.0]]), 40)
    return np.vstack([upper, upper[-2::-1] * np.array([1.0, -1.0])])


REGIONS = _regions()
"""Back to front."""


def _hatch(outline: Floats, degrees: float, pitch: float, fan: float = 0.0) -> list[Floats]:
    """Lines across a shape, each (2, 2): its two ends on the outline, in sewing order."""
    middle = outline.mean(axis=0)
    local = place(outline - middle, (0.0, 0.0), -degrees)
    low, high = local[:, 1].min(), local[:, 1].max()
    lines = []
    for row in np.arange(low + pitch / 2, high, pitch):
        tilt = np.radians(fan) * ((row - low) / (high - low) - 0.5)
        height = local[:, 1] - row - np.tan(tilt) * local[:, 0]
        following = np.roll(height, -1)
        edge = np.flatnonzero((height > 0) != (following > 0))
        share = (height[edge] / (height[edge] - following[edge]))[:, None]
        hits = local[edge] + share * (np.roll(local, -1, axis=0)[edge] - local[edge])
        hits = hits[np.argsort(hits[:, 0])]
        lines += [hits[i : i + 2] for i in range(0, len(hits) - 1, 2)]
    return [place(line, middle, degrees) for line in lines]


def stitches(random: np.random.Generator) -> list[Stitch]:
    """All threads of the upper layer, with a hand's small irregularities."""
    result: list[Stitch] = []
    for region in REGIONS:
        rows = _hatch(region.outline, region.degrees, PITCH, region.fan)
        for number, row in enumerate(rows):
            line = row[::-1] if number % 2 else row
            for start, end in _split(line, region.longest, number):
                if np.linalg.norm(end - start) < 0.7:
                    continue
                jitter = random.normal(0.0, 0.025, (2, 2))
                result.append(
                    Stitch(
                        start + jitter[0],
                        end + jitter[1],
                        region.colour,
                        region.level + float(random.normal(0.0, 0.012)),
                        0.075 if region.longest is None else 0.012,
                    )
                )
    return result


def _split(line: Floats, longest: float | None, number: int) -> list[tuple[Floats, Floats]]:
    """A row cut into stitches; tatami rows are shifted by thirds, so that holes never line up."""
    if longest is None:
        return [(line[0], line[1])]
    total = float(np.linalg.norm(line[1] - line[0]))
    cuts = np.arange((number % 3 + 1) / 3 * longest, total - 0.5, longest)
    marks = np.concatenate([[0.0], cuts[cuts > 0.5], [total]]) / total
    points = line[0] + marks[:, None] * (line[1] - line[0])
    return list(pairwise(points))


def underlay() -> list[Stitch]:
    """The first layer: wide rows across the upper stitches, well inside the outline."""
    result: list[Stitch] = []
    for region in REGIONS:
        middle = region.outline.mean(axis=0)
        inner = middle + (region.outline - middle) * 0.84
        for row in _hatch(inner, region.degrees + 90, 0.9):
            if np.linalg.norm(row[1] - row[0]) > 0.8:
                result.append(Stitch(row[0], row[1], region.colour, region.level - 0.22, 0.0))
    return result
