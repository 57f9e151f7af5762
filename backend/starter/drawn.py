"""Flat designs drawn by code: stripes, dots, checks, blobs, rings and letters."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "draw"]

KINDS = ("stripes", "dots", "check", "shape", "rings", "letter", "pattern")
"""What `draw` can draw, by the word its caption uses."""

_LETTERS = "ABCDEFGHJKLMNPRSTUVXYZ23456789&"


def draw(
    kind: str, colours: npt.NDArray[np.float32], size: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draw one design.

    Args:
        kind: one of `KINDS`.
        colours: (N, 3) at least three colours; the first is the ground.
        size: side in pixels.
        rng: randomness of this picture.

    Returns:
        (size, size, 4) RGBA in [0, 1]; alpha is 1 on the artwork.
    """
    scale = 2  # drawn at twice the size: cv2's outlines have no clean antialiasing
    side = size * scale
    layer = np.zeros((side, side), np.uint8)
    _DRAW[kind](layer, len(colours), rng)
    palette = np.concatenate([colours, np.ones((len(colours), 1), np.float32)], 1)
    palette[0, 3] = 0
    picture = palette[layer].astype(np.float32)
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.float32)


Layer = npt.NDArray[np.uint8]


def _stripes(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    y, x = np.mgrid[: layer.shape[0], : layer.shape[1]]
    angle, period = rng.uniform(0, np.pi), rng.uniform(30, 120)
    bent = 20 * rng.uniform(0, 1) * np.sin(x / rng.uniform(40, 90))
    layer[:] = ((x * np.cos(angle) + y * np.sin(angle) + bent) // period).astype(int) % colours


def _dots(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(5, 30))):
        centre = rng.integers(0, layer.shape[0], 2).tolist()
        cv2.circle(layer, centre, int(rng.integers(14, 80)), int(rng.integers(1, colours)), -1)


def _check(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    y, x = np.mgrid[: layer.shape[0], : layer.shape[1]]
    cell = rng.uniform(40, 130)
    layer[:] = ((x // cell).astype(int) + 2 * (y // cell).astype(int)) % colours


def _shape(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 5))):
        cv2.fillPoly(layer, [_star(layer.shape[0], rng)], int(rng.integers(1, colours)))


def _star(side: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    count = int(rng.integers(3, 14))
    turn = np.linspace(0, 2 * np.pi, 4 * count, endpoint=False) + rng.uniform(0, 6)
    wobble = rng.uniform(0, 0.5) * np.cos(turn * rng.integers(2, 7))
    radius = rng.uniform(0.15, 0.4) * side * (1 + wobble)
    centre = rng.uniform(0.25, 0.75, 2) * side
    return (centre + radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)).astype(np.int32)


def _rings(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    centre = (rng.uniform(0.3, 0.7, 2) * layer.shape[0]).astype(int).tolist()
    radii = np.sort(rng.uniform(0.05, 0.5, int(rng.integers(2, 7))))[::-1] * layer.shape[0]
    for number, radius in enumerate(radii):
        cv2.circle(layer, centre, int(radius), 1 + number % (colours - 1), -1)


def _letter(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    side = layer.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
        font = int(rng.choice([cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
        size, thick = rng.uniform(5, 14), int(rng.integers(14, 60))
        (wide, high), _ = cv2.getTextSize(letter, font, size, thick)
        spot = rng.uniform(0.3, 0.7, 2) * side + np.array([-wide / 2, high / 2])
        corner = spot.astype(int).tolist()
        cv2.putText(layer, letter, corner, font, size, int(rng.integers(1, colours)), thick)


def _pattern(layer: Layer, colours: int, rng: np.random.Generator) -> None:
    coarse = rng.uniform(0, 1, (int(rng.integers(4, 9)),) * 2).astype(np.float32)
    smooth = cv2.resize(coarse, layer.shape[::-1], interpolation=cv2.INTER_CUBIC)
    layer[:] = np.clip(smooth * colours, 0, colours - 1).astype(int)


_DRAW = dict(zip(KINDS, (_stripes, _dots, _check, _shape, _rings, _letter, _pattern), strict=True))
