"""Simple coloured motifs drawn by code: designs to embroider where a base knows few words."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["SHAPES", "draw_motif"]

# Supersampling against jagged boundaries.
_FINE = 4
Point = tuple[float, float]


def _around(count: int, radius: Callable[[float], float], turn: float = 0.0) -> list[Point]:
    angles = [2 * math.pi * i / count for i in range(count)]
    return [(radius(a) * math.cos(a + turn), radius(a) * math.sin(a + turn)) for a in angles]


def _heart() -> list[Point]:
    angles = [2 * math.pi * i / 90 for i in range(90)]
    return [
        (
            0.94 * math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 17,
        )
        for a in angles
    ]


def _leaf() -> list[Point]:
    side = [(t, 0.42 * math.sin(math.pi * (t + 1) / 2)) for t in np.linspace(-1, 1, 40).tolist()]
    return side + [(x, -y) for x, y in reversed(side)]


def _moon() -> list[Point]:
    outer = [math.radians(d) for d in range(60, 301, 4)]
    inner = [math.radians(d) for d in range(292, 67, -4)]
    return [(0.9 * math.cos(a) + 0.2, 0.9 * math.sin(a)) for a in outer] + [
        (0.72 * math.cos(a) + 0.42, 0.78 * math.sin(a)) for a in inner
    ]


_OUTLINES: dict[str, Callable[[], list[Point]]] = {
    "circle": lambda: _around(90, lambda a: 0.85),
    "heart": _heart,
    "leaf": _leaf,
    "star": lambda: _around(
        10, lambda a: 0.95 if round(a * 5 / math.pi) % 2 == 0 else 0.42, -math.pi / 2
    ),
    "flower": lambda: _around(180, lambda a: 0.7 + 0.25 * math.cos(5 * a)),
    "moon": _moon,
}
SHAPES = (*_OUTLINES, "letter")


def draw_motif(
    shape: str, side: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A motif of two or three even colours on an even ground.

    Args:
        shape: one of `SHAPES`.
        side: of the square picture, pixels.
        rng: decides colours, turn and size.

    Returns:
        picture (side, side, 3) in [0, 1] and its mask (side, side).
    """
    hue = rng.random()
    main = _colour(hue, rng.uniform(0.6, 0.95), rng.uniform(0.45, 0.95))
    second = _colour(hue + rng.uniform(0.2, 0.8), rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.95))
    ground = _colour(rng.random(), rng.uniform(0.0, 0.35), rng.choice((0.15, 0.5, 0.9, 0.97)))
    fine = side * _FINE
    image, mask = Image.new("RGB", (fine, fine), ground), Image.new("L", (fine, fine), 0)
    scale, turn = fine * rng.uniform(0.36, 0.46), rng.uniform(-0.4, 0.4)
    letter = chr(ord("A") + int(rng.integers(26)))
    for size, colour in ((1.0, main), (0.5, second)):
        if shape == "letter" and size < 1.0:
            break
        points = _outline(shape, scale * size, turn, fine / 2)
        for canvas, fill in ((image, colour), (mask, 255)):
            pen = ImageDraw.Draw(canvas)
            if shape == "letter":
                font = ImageFont.load_default(1.9 * scale)
                pen.text(
                    (fine / 2, fine / 2),
                    letter,
                    fill=fill,
                    font=font,
                    anchor="mm",
                    stroke_width=round(scale * 0.06),
                    stroke_fill=fill,
                )
            else:
                pen.polygon(points, fill=fill)
    small = image.resize((side, side), Image.Resampling.BOX)
    cover = mask.resize((side, side), Image.Resampling.BOX)
    return (
        np.asarray(small, dtype=np.float32) / np.float32(255.0),
        np.asarray(cover, dtype=np.float32) / np.float32(255.0),
    )


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _outline(shape: str, scale: float, turn: float, middle: float) -> list[Point]:
    if shape == "letter":
        return []
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    return [(middle + x * cos - y * sin, middle + x * sin + y * cos) for x, y in _OUTLINES[shape]()]
