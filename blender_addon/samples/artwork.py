"""The sample garment's own printed artwork: a bird on a flowering branch, and a sprig.

Drawn for this project; large flat areas of seven colours, none finer than about 4 mm in cloth.
"""

from __future__ import annotations

import numpy as np

from .drawing import Floats, bezier, blob, hex_colour, leaf, path, place, stroke

__all__ = ["COLOURS", "Layer", "bird", "sprig"]

Layer = tuple[str, list[Floats]]
"""Colour name and the polygons of one shape, in a box of 100 by 100 units, y down."""

COLOURS = {
    name: hex_colour(value)
    for name, value in {
        "coral": "#e4573d",
        "cream": "#f6e7c8",
        "mustard": "#efb03a",
        "ink": "#1f2b3d",
        "leaf": "#3f8f5b",
        "lime": "#9cc356",
        "wood": "#8c5634",
    }.items()
}


def _two_tone_leaf(at: tuple[float, float], degrees: float, length: float) -> list[Layer]:
    whole = leaf(length, length * 0.46)
    half = whole[: len(whole) // 2 + 1]
    return [
        ("leaf", [place(whole, at, degrees)]),
        ("lime", [place(half, at, degrees)]),
    ]


def _flower(at: tuple[float, float], radius: float, turn: float, petals: str) -> list[Layer]:
    petal = place(blob(radius * 0.40, 0.86), (radius * 0.58, 0.0))
    layers: list[Layer] = [(petals, [place(petal, at, turn + 72 * k)]) for k in range(5)]
    layers.append(("mustard", [place(blob(radius * 0.30), at)]))
    return layers


def bird() -> list[Layer]:
    """The chest motif, back to front."""
    branch = bezier(np.array([[4.0, 86], [30, 74], [62, 86], [96, 70]]), 40)
    twig = bezier(np.array([[70.0, 80], [76, 88], [80, 91], [86, 92.5]]), 20)
    layers: list[Layer] = [
        ("wood", [stroke(twig, 2.6, 1.6)]),
        ("wood", [stroke(branch, 4.4, 2.6)]),
    ]
    for at, degrees, length in (
        ((26.0, 80.0), 74.0, 19.0),
        ((44.0, 82.0), 52.0, 17.0),
        ((83.0, 76.5), -78.0, 19.0),
        ((88.0, 74.0), 38.0, 13.0),
        ((84.0, 92.5), 8.0, 14.0),
        ((66.0, 81.0), 96.0, 16.0),
    ):
        layers += _two_tone_leaf(at, degrees, length)
    layers += [
        ("mustard", [stroke(np.array([[47.0, 66], [47.6, 71], [48.0, 78.5]]), 2.2)]),
        ("mustard", [stroke(np.array([[56.0, 64], [57.0, 70], [57.5, 79.0]]), 2.2)]),
        ("ink", [path("M 36 43 C 26 51 10 65 3 76 C 4 81 8 83 13 82 C 19 76 27 71 36 66 Z")]),
        (
            "cream",
            [path("M 8.5 70.5 C 13 72 16.5 74.5 18.5 77.5 L 13 82 C 11 77.5 8 75.5 3.8 75 Z")],
        ),
        ("mustard", [path("M 75 23.5 C 80 25 85 27.5 89 31.5 C 84 33 79 34 74.5 34.5 Z")]),
        (
            "coral",
            [
                path(
                    "M 77 30 C 77 19 67 13 57.5 16.5 C 49 19.5 46 28 39 37 C 32 45 26 51 22 59"
                    " C 30 68 42 71.5 52 69 C 67 65 78 52 77 30 Z"
                )
            ],
        ),
        (
            "cream",
            [
                path(
                    # A little past the coral, or a rim of it would be left.
                    "M 77.1 32.5 C 78.6 52.5 67.8 65.9 52.3 69.8 C 45 71.4 38 70.6 29.5 67"
                    " C 38 61 50 56 57 50 C 61 43.5 67 36 77.1 32.5 Z"
                )
            ],
        ),
        (
            "ink",
            [
                path(
                    "M 58.5 38 C 53 31.5 43 35 37.5 42 C 31 50 24 58 12 68"
                    " C 26 69.5 42 66 51 58 C 57.5 52 62 44 58.5 38 Z"
                )
            ],
        ),
        (
            "mustard",
            [path("M 52.5 49 C 46.5 49.5 41 47.5 37 43 L 33 48 C 37.5 53 43 55.5 49.5 55.3 Z")],
        ),
        (
            "cream",
            [path("M 45 59.5 C 39.5 58.5 35 56 31 52 L 26.5 57 C 30 60 34 62 39.5 63.2 Z")],
        ),
        ("ink", [place(blob(2.9), (66.0, 26.0))]),
        ("cream", [place(blob(0.95), (67.0, 25.1))]),
    ]
    layers += _flower((76.0, 70.5), 10.5, -90.0, "cream")
    layers += _flower((20.0, 92.0), 8.0, -70.0, "coral")
    layers += _flower((93.0, 49.0), 7.5, -40.0, "coral")
    stem = bezier(np.array([[90.0, 73], [95, 66], [95, 60], [93.5, 55]]), 16)
    layers.insert(2, ("wood", [stroke(stem, 2.0)]))
    layers.insert(2, ("wood", [stroke(np.array([[14.0, 82], [17, 85], [19, 89.0]]), 2.0)]))
    return layers


def sprig() -> list[Layer]:
    """The sleeve motif: one flower with four leaves."""
    stem = bezier(np.array([[50.0, 98], [44, 80], [54, 60], [50, 38]]), 24)
    layers: list[Layer] = [("wood", [stroke(stem, 6.5, 5.0)])]
    for at, degrees in (
        ((48.0, 84.0), -150.0),
        ((49.0, 88.0), -30.0),
        ((51.0, 64.0), -150.0),
        ((51.0, 68.0), -30.0),
    ):
        layers += _two_tone_leaf(at, degrees, 36.0)
    return layers + _flower((50.0, 27.0), 27.0, -90.0, "coral")
