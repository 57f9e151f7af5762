"""Families kept out of every training stream; only measuring uses them."""

from __future__ import annotations

import numpy as np

from backend.starter.stitches.canvas import Canvas, Grid, Relief
from backend.starter.stitches.cells import scatter

__all__ = ["cross_stitch", "herringbone", "sequins"]


def _bar(s: Grid, t: Grid, half: float) -> Grid:
    """Height of a thread lying along s at t = 0, of half length 1 and half width `half`."""
    body = np.sqrt(np.maximum(0, 1 - (t / half) ** 2))
    return np.where(np.abs(s) < 1, body * np.sqrt(np.maximum(0, 1 - s**4)), 0)


def cross_stitch(canvas: Canvas) -> Relief:
    """Counted crosses on a square grid: one diagonal over the other, one colour a cross."""
    size = 2.3 * canvas.width
    y, x = (grid.astype(np.float32) for grid in np.mgrid[: canvas.shape[0], : canvas.shape[1]])
    j, i = np.floor(x / size).astype(np.float32), np.floor(y / size).astype(np.float32)
    a, b = 2 * (x / size - j) - 1, 2 * (y / size - i) - 1
    s, t = (a + b) / 2, (b - a) / 2
    upper, lower = _bar(s, t, 0.27), 0.7 * _bar(t, s, 0.27)
    first = upper >= lower
    strand = np.sin(2 * np.pi * np.where(first, t, s) / 0.18)
    return Relief(
        height=(np.maximum(upper, lower) * (1 + 0.08 * strand)).astype(np.float32),
        angle=np.where(first, np.pi / 4, -np.pi / 4).astype(np.float32),
        cover=np.clip(np.maximum(upper, lower) * 3, 0, 1).astype(np.float32),
        tint=(1 + 0.1 * (canvas.chance(i, j, salt=4) - 0.5)).astype(np.float32),
        shift_x=(-a * size / 2).astype(np.float32),
        shift_y=(-b * size / 2).astype(np.float32),
        gloss=0.35,
    )


def sequins(canvas: Canvas) -> Relief:
    """Overlapping shiny discs like scales, each tilted its own way and sewn at its middle."""
    radius = 1.7 * canvas.width

    def disc(a: Grid, b: Grid, pick: Grid) -> tuple[Grid, Grid]:
        r = np.sqrt(a * a + b * b) / radius
        tilt = 0.55 + 0.45 * a / radius + 0.25 * (pick - 0.5) * b / radius
        cup = 0.25 * r * r - 0.45 * np.exp(-((r / 0.2) ** 2))
        return np.where(r < 1, np.maximum(0.03, tilt + cup), 0), 6.28 * pick

    return scatter(canvas, 1.5 * radius, 1.1 * radius, 0.1, disc, gloss=0.9, uneven=0.5)


def herringbone(canvas: Canvas) -> Relief:
    """Bands of crossed slanting stitches, an open zigzag with the ground showing through."""
    wide, long = 4.2 * canvas.width, 2.6 * canvas.width
    i = np.floor(canvas.across / wide).astype(np.float32)
    b = canvas.across / wide - i - 0.5
    layers = []
    for slope in (1.0, -1.0):
        a = canvas.along / long + slope * 1.1 * b
        j = np.floor(a)
        t = (a - j - 0.5) * long * 0.85
        layers.append(np.sqrt(np.maximum(0, 1 - (t / (0.5 * canvas.width)) ** 2)))
    upper, lower = layers[0], 0.65 * layers[1]
    first = upper >= lower
    x, y = canvas.to_pixels(np.zeros_like(b), (-0.3 * b * wide).astype(np.float32))
    return Relief(
        height=np.maximum(upper, lower).astype(np.float32),
        angle=(canvas.angle + np.where(first, 0.9, -0.9)).astype(np.float32),
        cover=np.clip(np.maximum(upper, lower) * 3, 0, 1).astype(np.float32),
        tint=(1 + 0.12 * (canvas.chance(i, salt=4) - 0.5)).astype(np.float32),
        shift_x=x,
        shift_y=y,
        gloss=0.4,
    )
