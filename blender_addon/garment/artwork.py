"""Artwork on cloth: what differs from the ground colour of its UV island."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .raster import dilate, label

__all__ = ["Artwork", "Box", "boxes", "difference", "find", "to_lab"]

# Folds painted into a texture change lightness far more than hue, so lightness counts less.
_LIGHTNESS_WEIGHT = 0.6
_SAME_COLOUR = 12.0
_LEAST_DIFFERENCE = 9.0
_CELL = np.array([8.0, 6.0, 6.0])
# A ground that covers less of its island is one colour of an all-over print.
_LEAST_GROUND = 0.4


@dataclass(frozen=True, slots=True)
class Artwork:
    """What `find` found.

    Attributes:
        mask: (H, W) bool, artwork.
        ground: (H, W, 3) CIELAB colour the cloth has, or would have under the artwork.
        threshold: (H, W) difference from the ground above which a pixel is artwork.
        groundless: islands without a ground colour, such as all-over prints.
    """

    mask: np.ndarray
    ground: np.ndarray
    threshold: np.ndarray
    groundless: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels, right and bottom exclusive, and how much artwork it holds."""

    left: int
    top: int
    right: int
    bottom: int
    pixels: int


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB bytes (..., 3), float32."""
    table = np.arange(256, dtype=np.float32) / 255
    table = np.where(table > 0.04045, ((table + 0.055) / 1.055) ** 2.4, table / 12.92)
    linear = table.astype(np.float32)[rgb]
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ],
        np.float32,
    )
    white = np.array([0.95047, 1.0, 1.08883], np.float32)
    xyz = linear @ (matrix / white[:, None]).T
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def difference(lab: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Colour distance with lightness weighted down."""
    delta = lab - ground
    delta[..., 0] *= _LIGHTNESS_WEIGHT
    return np.sqrt(np.einsum("...i,...i->...", delta, delta))


def _ground_colour(lab: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """The most frequent colour (N, 3) → (3,), and the share of pixels near it."""
    # One number per cell of a 64³ grid of colours, centred on grey.
    middle = np.array([0, 32, 32])
    cell = np.floor(lab / _CELL).astype(np.int64) + middle
    best = int(np.argmax(np.bincount(cell @ [64 * 64, 64, 1], weight)))
    colour = (np.array(np.unravel_index(best, (64, 64, 64))) - middle + 0.5) * _CELL
    near = np.zeros(len(lab), bool)
    for _ in range(4):
        near = difference(lab, colour) < _SAME_COLOUR
        if not near.any():
            break
        colour = np.average(lab[near], axis=0, weights=weight[near])
    return colour, float(weight[near].sum() / weight.sum())


def _blur(values: np.ndarray, radius: int) -> np.ndarray:
    """Box blur of (H, W, C) with zeros outside."""
    for axis in (0, 1):
        padding = [(0, 0)] * values.ndim
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(values, padding), axis=axis, dtype=np.float64)
        size = values.shape[axis]
        high = np.take(total, np.arange(size) + 2 * radius + 1, axis=axis)
        values = high - np.take(total, np.arange(size), axis=axis)
    return values


def _local_ground(
    lab: np.ndarray, is_ground: np.ndarray, colour: np.ndarray, radius: int
) -> np.ndarray:
    """The ground near each pixel, so that shading painted into the cloth is not artwork."""
    share = is_ground.astype(np.float64)[..., None]
    # The island's own colour enters with a small weight: it decides where no ground is near.
    floor = 0.02 * (2 * radius + 1) ** 2
    total = _blur(share, radius) + floor
    return (_blur(lab * share, radius) + colour * floor) / total


def find(rgb: np.ndarray, island: np.ndarray) -> Artwork:
    """Tell artwork from cloth.

    Args:
        rgb: (H, W, 3) uint8 sRGB bake of the whole UV square.
        island: (H, W) int, 0 where no island lies, else 1..n.
    """
    lab = to_lab(rgb).astype(np.float64)
    mask = np.zeros(island.shape, bool)
    ground = np.zeros(lab.shape)
    threshold = np.full(island.shape, np.inf)
    groundless = []
    inner = _away_from_border(island)
    for number in np.unique(island[island > 0]):
        here = island == number
        colours = lab[here]
        if len(colours) < 16:
            continue
        # Prints keep away from seams, so the cloth near an island's border counts more.
        weight = np.where(inner[here], 1.0, 3.0)
        colour, share = _ground_colour(colours, weight)
        if share < _LEAST_GROUND:
            groundless.append(int(number))
            continue
        rows, columns = np.nonzero(here)
        box = (
            slice(rows.min(), rows.max() + 1),
            slice(columns.min(), columns.max() + 1),
        )
        part, inside = lab[box], here[box]
        near = inside & (difference(part, colour) < _SAME_COLOUR)
        radius = max(4, max(inside.shape) // 16)
        local = _local_ground(part, near, colour, radius)
        away = difference(part, local)
        spread = 1.4826 * float(np.median(away[near]))
        limit = max(_LEAST_DIFFERENCE, 4.0 * spread)
        mask[box] |= inside & (away > limit)
        ground[box][inside] = local[inside]
        threshold[box][inside] = limit
    return Artwork(mask, ground, threshold, tuple(groundless))


def _away_from_border(island: np.ndarray) -> np.ndarray:
    """True further than 4% of the picture from an island's border."""
    edge = np.zeros(island.shape, bool)
    edge[:, 1:] |= island[:, 1:] != island[:, :-1]
    edge[1:] |= island[1:] != island[:-1]
    edge[[0, -1]] = True
    edge[:, [0, -1]] = True
    return ~dilate(edge, max(2, max(island.shape) * 0.04))


def boxes(mask: np.ndarray, island: np.ndarray, gap: float, thinnest: float) -> list[Box]:
    """Rectangles around separate pieces of artwork, largest first.

    Args:
        mask: (H, W) bool artwork.
        island: (H, W) int; artwork on two islands is never one piece.
        gap: pieces nearer than this many pixels are one.
        thinnest: what nowhere is this many pixels wide is a seam or a speck, not artwork.
    """
    if not mask.any():
        return []
    near = dilate(mask, gap / 2) & (island > 0)
    pieces = label(near, island) * mask
    core = dilate(dilate(mask, -thinnest / 2), thinnest / 2) & mask
    whole = np.bincount(pieces.ravel())
    thick = np.bincount(pieces.ravel(), core.ravel(), len(whole))
    found = []
    for number in np.flatnonzero(whole):
        if number == 0 or thick[number] < 0.2 * whole[number]:
            continue
        rows, columns = np.nonzero(pieces == number)
        found.append(
            Box(
                int(columns.min()),
                int(rows.min()),
                int(columns.max()) + 1,
                int(rows.max()) + 1,
                len(rows),
            )
        )
    found.sort(key=lambda each: (-each.pixels, each.top, each.left))
    return [each for each in found if each.pixels >= 0.01 * found[0].pixels]
