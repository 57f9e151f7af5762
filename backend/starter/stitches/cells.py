"""Families made of small units on a lattice: chain, knit, weave, terry, beads, French knots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backend.starter.stitches.canvas import Canvas, Grid, Relief

__all__ = ["beads", "chain", "french_knots", "knit", "scatter", "terry", "weave"]

Unit = Callable[[Grid, Grid, Grid], tuple[Grid, Grid]]
"""(along, across, chance) from a unit's centre in units -> its height and its fibre angle."""


def _lattice(canvas: Canvas, long: float, wide: float) -> tuple[Grid, Grid, Grid, Grid]:
    """Column and row index, and the position in the cell, -0.5 to 0.5 both ways."""
    a, b = canvas.along / long, canvas.across / wide
    i, j = np.floor(b), np.floor(a)
    return (
        i.astype(np.float32),
        j.astype(np.float32),
        (a - j - 0.5).astype(np.float32),
        (b - i - 0.5).astype(np.float32),
    )


def _relief(
    canvas: Canvas,
    i: Grid,
    j: Grid,
    height: Grid,
    angle: Grid,
    to_centre: tuple[Grid, Grid],
    *,
    gloss: float,
    uneven: float = 0.14,
) -> Relief:
    x, y = canvas.to_pixels(*to_centre)
    return Relief(
        height=height.astype(np.float32),
        angle=angle.astype(np.float32),
        cover=np.clip(height * 3.0, 0, 1).astype(np.float32),
        tint=(1 + uneven * (canvas.chance(i, j, salt=4) - 0.5)).astype(np.float32),
        shift_x=x,
        shift_y=y,
        gloss=gloss,
    )


def chain(canvas: Canvas) -> Relief:
    """Rows of linked loops, each caught by the next."""
    wide, long = 2.3 * canvas.width, 2.9 * canvas.width
    i, j, a, b = _lattice(canvas, long, wide)
    narrow = 0.34 + 0.12 * a
    ring = np.sqrt((b / narrow) ** 2 + (a / 0.6) ** 2)
    height = np.sqrt(np.maximum(0, 1 - ((ring - 0.78) / 0.34) ** 2))
    angle = np.asarray(canvas.angle + np.sign(b) * 0.5 * a, np.float32)
    return _relief(canvas, i, j, height, angle, (-0.6 * a * long, -0.6 * b * wide), gloss=0.4)


def knit(canvas: Canvas) -> Relief:
    """Stocking stitch: columns of V, two plump legs a stitch."""
    wide, long = 2.2 * canvas.width, 1.6 * canvas.width
    b = canvas.across / wide
    i = np.floor(b).astype(np.float32)
    b = b - i - 0.5
    a = canvas.along / long + 1.5 * np.abs(b)
    j = np.floor(a).astype(np.float32)
    a = a - j - 0.5
    side = (np.abs(b) - 0.25) / 0.25
    height = np.sqrt(np.maximum(0, 1 - side**2)) ** 0.6 * np.sqrt(np.maximum(0, 1 - (2 * a) ** 2))
    fuzz = canvas.fibres(i, (2 * a).astype(np.float32), 0.12)
    angle = canvas.angle - np.sign(b) * 0.9
    return _relief(
        canvas, i, j, height * fuzz, angle, (-0.8 * a * long, -0.6 * b * wide), gloss=0.12
    )


def weave(canvas: Canvas) -> Relief:
    """Woven filling: two thread directions, over and under in turn (plain weave or twill)."""
    wide = 1.15 * canvas.width
    i, j, a, b = _lattice(canvas, wide, wide)
    period = int(canvas.one_of([2, 2, 3, 4]))
    over = ((i + j) % period) < max(1, period // 2)
    hump = np.where(over, np.cos(np.pi * a), np.cos(np.pi * b))
    profile = np.where(over, np.sqrt(1 - (2 * b) ** 2), np.sqrt(1 - (2 * a) ** 2))
    angle = np.where(over, canvas.angle, canvas.angle + np.pi / 2)
    return _relief(
        canvas, i, j, profile * (0.35 + 0.65 * hump), angle, (-a * wide, -b * wide), gloss=0.25
    )


def scatter(
    canvas: Canvas,
    long: float,
    wide: float,
    jitter: float,
    unit: Unit,
    *,
    gloss: float,
    uneven: float = 0.14,
) -> Relief:
    """Units on a staggered lattice that may overlap; the higher one is seen.

    Args:
        canvas: where to.
        long, wide: lattice distances along and across, in pixels.
        jitter: how far centres stray, in lattice distances.
        unit: shape of one unit.
        gloss: see `Relief`.
        uneven: how much the units differ in brightness.
    """
    shape = canvas.shape
    jitter = canvas.stray(jitter)
    best = np.full(shape, -1.0, np.float32)
    keep = [np.zeros(shape, np.float32) for _ in range(5)]
    row0 = np.floor(canvas.across / wide)
    for di in (-1, 0, 1):
        row = (row0 + di).astype(np.float32)
        stagger = canvas.stagger * (row % 2)
        column0 = np.floor(canvas.along / long - stagger)
        for dj in (-1, 0, 1):
            column = (column0 + dj).astype(np.float32)
            da = jitter * (canvas.chance(row, column, salt=11) - 0.5)
            db = jitter * (canvas.chance(row, column, salt=12) - 0.5)
            a = canvas.along - (column + stagger + 0.5 + da) * long
            b = canvas.across - (row + 0.5 + db) * wide
            pick = canvas.chance(row, column, salt=13)
            height, angle = unit(a.astype(np.float32), b.astype(np.float32), pick)
            rank = np.where(height > 0, height + 0.05 * pick, -1)
            higher = rank > best
            best[higher] = rank[higher]
            for kept, new in zip(keep, (np.maximum(height, 0), angle, a, b, pick), strict=True):
                kept[higher] = new[higher]
    height, angle, a, b, pick = keep
    x, y = canvas.to_pixels(-a, -b)
    return Relief(
        height=height,
        angle=canvas.angle + angle,
        cover=np.clip(height * 4, 0, 1),
        tint=1 + uneven * (pick - 0.5),
        shift_x=x,
        shift_y=y,
        gloss=gloss,
    )


def terry(canvas: Canvas) -> Relief:
    """Towelling: a thick pile of small loops lying every way."""
    size = 1.15 * canvas.width

    def loop(a: Grid, b: Grid, pick: Grid) -> tuple[Grid, Grid]:
        turn = (np.pi / 4 + canvas.stray(2 * np.pi) * pick).astype(np.float32)
        s, t = a * np.cos(turn) + b * np.sin(turn), -a * np.sin(turn) + b * np.cos(turn)
        ring = np.sqrt((s / (1.0 * size)) ** 2 + (t / (0.62 * size)) ** 2)
        arch = np.maximum(0, 1 - ((ring - 0.6) / 0.42) ** 2)
        return np.sqrt(arch) * (0.75 + 0.25 * s / size), turn

    return scatter(canvas, 1.1 * size, 1.0 * size, 0.8, loop, gloss=0.08, uneven=0.3)


def beads(canvas: Canvas) -> Relief:
    """Glass seed beads in rows, each with a hole and a highlight."""
    radius = canvas.width * canvas.between(0.7, 0.95)

    def bead(a: Grid, b: Grid, pick: Grid) -> tuple[Grid, Grid]:
        r = np.sqrt((a / (0.9 * radius)) ** 2 + (b / radius) ** 2)
        hole = 0.5 * np.exp(-(((a / radius) / 0.25) ** 2 + ((b / radius) / 0.18) ** 2))
        dome = np.sqrt(np.maximum(0, 1 - r * r)) * 1.3
        return np.where(r < 1, dome - hole + 0.02, 0), np.zeros_like(a)

    return scatter(canvas, 1.85 * radius, 2.05 * radius, 0.12, bead, gloss=1.0, uneven=0.25)


def french_knots(canvas: Canvas) -> Relief:
    """Round knots of thread wound about the needle, close together."""
    radius = canvas.width * canvas.between(0.95, 1.25)

    def knot(a: Grid, b: Grid, pick: Grid) -> tuple[Grid, Grid]:
        r = np.sqrt(a * a + b * b) / radius
        turn = np.arctan2(b, a)
        wound = 0.16 * np.sin(2 * turn + 7.0 * r + 6.28 * pick)
        dome = np.sqrt(np.maximum(0, 1 - r * r)) * (1 + wound)
        return dome.astype(np.float32), (turn + np.pi / 2).astype(np.float32)

    return scatter(canvas, 1.75 * radius, 1.6 * radius, 0.35, knot, gloss=0.25)
