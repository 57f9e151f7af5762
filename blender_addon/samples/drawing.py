"""Flat vector drawing in plain numpy: curves in, clean antialiased shapes out.

Coordinates are x right, y down, like a picture's rows. A polygon is a float array (N, 2), closed by
itself; a shape is a list of polygons filled by the even-odd rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Canvas", "Floats", "blob", "coverage", "hex_colour", "leaf", "path", "place", "stroke"]

Floats = NDArray[np.float64]

_TOKENS = re.compile(r"[MLCQZ]|-?\d+(?:\.\d+)?")
_ARGUMENTS = {"M": 1, "L": 1, "Q": 2, "C": 3}


def hex_colour(text: str) -> Floats:
    """sRGB triple in [0, 1] of "#rrggbb"."""
    return np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def path(data: str, steps: int = 24) -> Floats:
    """Polygon of one outline in SVG's notation (absolute M, L, C, Q and Z only)."""
    tokens = _TOKENS.findall(data)
    points: list[Floats] = []
    position = 0
    while position < len(tokens):
        command = tokens[position]
        position += 1
        if command == "Z":
            break
        count = _ARGUMENTS[command] * 2
        values = np.array([float(t) for t in tokens[position : position + count]]).reshape(-1, 2)
        position += count
        if command in "ML":
            points.append(values)
        else:
            points.append(bezier(np.vstack([points[-1][-1:], values]), steps)[1:])
    return np.vstack(points)


def bezier(control: Floats, steps: int) -> Floats:
    """`steps` + 1 points of a Bezier curve of any degree (de Casteljau)."""
    t = np.linspace(0.0, 1.0, steps + 1)[:, None]
    layers = [np.broadcast_to(c, (steps + 1, 2)) for c in control]
    while len(layers) > 1:
        layers = [(1 - t) * a + t * b for a, b in pairwise(layers)]
    return np.asarray(layers[0])


def leaf(length: float, width: float, steps: int = 24, *, belly: float = 0.42) -> Floats:
    """A pointed leaf along +x from the origin, widest at `belly` of its length."""
    t = np.linspace(0.0, 1.0, steps + 1)
    # A skewed sine arch: its top lies at `belly`.
    arch = np.sin(np.pi * t ** (np.log(0.5) / np.log(belly))) * width / 2
    upper = np.stack([t * length, -arch], axis=1)
    lower = np.stack([t * length, arch], axis=1)[-2:0:-1]
    return np.vstack([upper, lower])


def blob(radius: float, squeeze: float = 1.0, steps: int = 48) -> Floats:
    """A circle round the origin, or an ellipse whose height is `squeeze` of its width."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * squeeze * np.sin(angle)], axis=1)


def place(polygon: Floats, at: Sequence[float], degrees: float = 0.0, scale: float = 1.0) -> Floats:
    """The polygon scaled, turned (clockwise on the picture) and moved to `at`."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(polygon * scale @ turn + np.asarray(at, dtype=float))


def stroke(line: Floats, start: float, end: float | None = None) -> Floats:
    """Outline of an open line drawn with a pen whose width runs from `start` to `end`."""
    widths = np.linspace(start, start if end is None else end, len(line))[:, None] / 2
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    cap = np.linspace(-np.pi / 2, np.pi / 2, 9)[1:-1, None]
    head = line[-1] + widths[-1] * (np.cos(cap) * along[-1] + np.sin(cap) * across[-1])
    tail = line[0] - widths[0] * (np.cos(cap) * along[0] + np.sin(cap) * across[0])
    return np.vstack([line - across * widths, head, (line + across * widths)[::-1], tail])


def coverage(polygons: Sequence[Floats], height: int, width: int) -> NDArray[np.bool_]:
    """Which pixel centres lie inside (even-odd); polygons in pixel units, (height, width)."""
    toggles = np.zeros((height, width + 1), dtype=np.int32)
    for polygon in polygons:
        a, b = polygon, np.roll(polygon, -1, axis=0)
        top = np.clip(np.ceil(np.minimum(a[:, 1], b[:, 1]) - 0.5).astype(int), 0, height)
        bottom = np.clip(np.ceil(np.maximum(a[:, 1], b[:, 1]) - 0.5).astype(int), 0, height)
        counts = bottom - top
        edge = np.repeat(np.arange(len(a)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        row = np.repeat(top, counts) + np.arange(counts.sum()) - first
        share = (row + 0.5 - a[edge, 1]) / (b[edge, 1] - a[edge, 1])
        x = a[edge, 0] + share * (b[edge, 0] - a[edge, 0])
        np.add.at(toggles, (row, np.clip(np.ceil(x - 0.5).astype(int), 0, width)), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :width] % 2 == 1)


class Canvas:
    """A picture (height, width, 3) in sRGB values, drawn on at `oversample` times its size."""

    def __init__(self, height: int, width: int, ground: Floats, oversample: int = 4) -> None:
        self.oversample = oversample
        self.pixels = np.empty((height * oversample, width * oversample, 3), dtype=np.float32)
        self.pixels[:] = ground
        self.drawn = np.zeros(self.pixels.shape[:2], dtype=bool)

    def fill(self, polygons: Sequence[Floats], colour: Floats, scale: float = 1.0) -> None:
        """Fill a shape given in units of `scale` pixels."""
        factor = scale * self.oversample
        mask = coverage([p * factor for p in polygons], *self.drawn.shape)
        self.pixels[mask] = colour
        self.drawn |= mask

    def picture(self) -> NDArray[np.float32]:
        """The drawing at its real size, (height, width, 3)."""
        return self._shrink(self.pixels)

    def mask(self) -> NDArray[np.float32]:
        """How much of each pixel is drawn on, (height, width, 1)."""
        return self._shrink(self.drawn[..., None].astype(np.float32))

    def _shrink(self, big: NDArray[np.float32]) -> NDArray[np.float32]:
        n = self.oversample
        height, width, channels = big.shape
        return big.reshape(height // n, n, width // n, n, channels).mean(axis=(1, 3))
