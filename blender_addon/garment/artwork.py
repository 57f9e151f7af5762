"""Artwork on cloth: compact motifs that stand out from the cloth of their UV island.

Cloth is every colour that runs into an island's border (ground, colour-blocked panels) or is
strewn all over it (an all-over print), each followed through smooth shading. What is left is
artwork if it lies free in the cloth and has a sharp outline; seams, trims, folds and labels do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .foreign import foreign_motifs
from .raster import dilate, label

__all__ = ["Artwork", "difference", "find", "to_lab"]

# Folds painted into a texture change lightness far more than hue, so lightness counts less.
_LIGHTNESS_WEIGHT = 0.6
_SAME_COLOUR = 12.0
_LEAST_DIFFERENCE = 9.0
_CELL = np.array([8.0, 6.0, 6.0])
# A ground that covers less of its island is one colour of an all-over print.
_LEAST_GROUND = 0.4
_MOST_COLOURS = 6
# Shares of an island: a colour that may be cloth, the most that a motif covers.
_LEAST_CLOTH, _LARGEST_MOTIF = 0.03, 0.4
# Contact with the border, by the root of the area: a stripe ten times as long as wide has 0.6.
_CONTACT = 0.15
# A colour in this share of an island's tiles is strewn all over it.
_TILES, _STREWN, _LEAST_STREWN = 8, 0.5, 0.1
# Steepness of an outline, by the difference it bridges: print has 0.8 and more, folds below 0.3.
_SHARP = 0.5
_STEP = 2
# A free piece of cloth's own colour that fills its box like this is a label or a pocket.
_FILLED = 0.8
_COARSE = 4
# More than any two colours differ.
_NEVER = 1e4


@dataclass(frozen=True, slots=True)
class Artwork:
    """What `find` found.

    Attributes:
        mask: (H, W) bool, artwork.
        ground: (H, W, 3) CIELAB colour the cloth has, or would have under the artwork.
        threshold: (H, W) difference from the ground above which a pixel is artwork.
        groundless: islands without a ground colour, such as camouflage.
        patterned: islands printed all over, the groundless among them; `mask` holds there all
            that is not the ground, and no single motif.
        entire: (H, W) bool, artwork whose outline alone counts: its colours may be the cloth's.
    """

    mask: np.ndarray
    ground: np.ndarray
    threshold: np.ndarray
    groundless: tuple[int, ...]
    patterned: tuple[int, ...]
    entire: np.ndarray


@dataclass(frozen=True, slots=True)
class _Cloth:
    """One colour of an island: where it is, its local value, and how far pixels stray from it."""

    mask: np.ndarray
    local: np.ndarray
    limit: float


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


def find(rgb: np.ndarray, island: np.ndarray) -> Artwork:
    """Tell artwork from cloth, on every second pixel of a large picture.

    Args:
        rgb: (H, W, 3) uint8 sRGB bake of the whole UV square.
        island: (H, W) int, 0 where no island lies, else 1..n.
    """
    every = 2 if max(island.shape) >= 1024 else 1
    small = _find(rgb[::every, ::every], island[::every, ::every])
    height, width = island.shape
    mask, ground, threshold, entire = (
        each.repeat(every, 0)[:height].repeat(every, 1)[:, :width]
        for each in (small.mask, small.ground, small.threshold, small.entire)
    )
    mask &= island > 0
    return Artwork(mask, ground, threshold, small.groundless, small.patterned, entire)


def _find(rgb: np.ndarray, island: np.ndarray) -> Artwork:
    lab = to_lab(rgb)
    mask, entire = np.zeros(island.shape, bool), np.zeros(island.shape, bool)
    ground = np.zeros(lab.shape, np.float32)
    threshold = np.full(island.shape, np.inf, np.float32)
    groundless, patterned = [], []
    inner = _away_from_border(island)
    for number in np.unique(island[island > 0]):
        rows, columns = np.nonzero(island == number)
        if len(rows) < 16:
            continue
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        inside = island[box] == number
        # Prints keep away from seams, so the cloth near an island's border counts more.
        weight = np.where(inner[box], 1.0, 3.0)
        colours = _colours(lab[box], inside, weight)
        if _cloth_share(colours, inside) < _LEAST_GROUND:
            motif = foreign_motifs(lab[box], inside)
            if motif.any():
                entire[box] |= motif
                threshold[box][inside] = _NEVER
            else:
                groundless.append(int(number))
                patterned.append(int(number))
            continue
        motif, local, limit, strewn = _motifs(lab[box], inside, colours)
        if strewn:
            # No motif stands out by itself; by hand, all that is not the ground may be meant.
            patterned.append(int(number))
            motif = inside & ~colours[0].mask
            local, limit = colours[0].local, np.full(inside.shape, colours[0].limit, np.float32)
        mask[box] |= motif
        ground[box][inside] = local[inside]
        threshold[box][inside] = limit[inside]
    mask |= entire
    return Artwork(mask, ground, threshold, tuple(groundless), tuple(patterned), entire)


def _colours(lab: np.ndarray, inside: np.ndarray, weight: np.ndarray) -> list[_Cloth]:
    """The island's colours that cover enough of it to be cloth, the most frequent first."""
    found: list[_Cloth] = []
    left = inside.copy()
    least = _LEAST_CLOTH * inside.sum()
    radius = max(2 * _COARSE, max(inside.shape) // 16)
    for _ in range(2 * _MOST_COLOURS):
        if left.sum() <= least or len(found) == _MOST_COLOURS:
            break
        colour = _frequent_colour(lab[left], weight[left])
        near = left & (difference(lab, colour) < _SAME_COLOUR)
        local = _local_ground(lab, near, colour, radius)
        # What is near its own surroundings follows the cloth through folds and light.
        for _ in range(4):
            before = int(near.sum())
            near = left & (difference(lab, local) < _SAME_COLOUR)
            local = _local_ground(lab, near, colour, radius)
            if near.sum() < 1.01 * before:
                break
        if not near.any():
            break
        left &= ~near
        if near.sum() > least:
            spread = 1.4826 * float(np.median(difference(lab[near], local[near])))
            found.append(_Cloth(near, local, max(_LEAST_DIFFERENCE, 4.0 * spread)))
    return sorted(found, key=lambda each: -int(each.mask.sum()))


def _frequent_colour(lab: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The most frequent colour (3,) of pixels (N, 3)."""
    # One number per cell of a 64³ grid of colours, centred on grey.
    middle = np.array([0, 32, 32])
    cell = np.floor(lab / _CELL).astype(np.int64) + middle
    best = int(np.argmax(np.bincount(cell @ [64 * 64, 64, 1], weight)))
    colour = (np.array(np.unravel_index(best, (64, 64, 64))) - middle + 0.5) * _CELL
    for _ in range(4):
        near = difference(lab, colour) < _SAME_COLOUR
        if not near.any():
            break
        colour = np.average(lab[near], axis=0, weights=weight[near])
    return np.asarray(colour, np.float32)


def _motifs(
    lab: np.ndarray, inside: np.ndarray, colours: list[_Cloth]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Motifs of one island, the cloth around them, its limit, and whether a print is strewn."""
    candidates = inside.copy()
    for each in colours:
        candidates &= difference(lab, each.local) > each.limit
    strewn = False
    free = np.zeros_like(inside)
    for each in colours:
        loose = _loose(each.mask, inside)
        if _is_strewn(loose, inside):
            strewn = True
        else:
            # A plain free piece of a colour that the cloth has elsewhere is a label or a pocket.
            elsewhere = (each.mask & ~loose).sum() > _LEAST_CLOTH * inside.sum()
            free |= loose & ~_plain(loose) if elsewhere else loose
    candidates |= free
    motif = _sound(lab, inside, candidates)
    if _is_strewn(motif, inside):
        strewn, motif = True, np.zeros_like(motif)
    local, limit = _nearest_cloth(lab, colours, motif)
    return motif, local, limit, strewn


def _cloth_share(colours: list[_Cloth], inside: np.ndarray) -> float:
    """The share of an island whose colour runs into its border."""
    cloth = sum(int((each.mask & ~_loose(each.mask, inside)).sum()) for each in colours)
    return cloth / float(inside.sum())


def _loose(mask: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The areas of a mask that do not run into the island's border."""
    pieces = label(mask)
    area = np.bincount(pieces.ravel())
    contact = np.bincount(pieces.ravel(), _border(inside).ravel(), len(area))
    keep = contact <= _CONTACT * np.sqrt(area)
    keep[0] = False
    return np.asarray(keep[pieces])


def _border(inside: np.ndarray) -> np.ndarray:
    """The island's own outermost pixels; the picture's edge is a border as well."""
    padded = np.pad(inside, 1)
    core = padded[1:-1, 2:] & padded[1:-1, :-2] & padded[2:, 1:-1] & padded[:-2, 1:-1]
    return inside & ~core


def _is_strewn(mask: np.ndarray, inside: np.ndarray) -> bool:
    """Whether something of the mask is nearly everywhere on the island."""
    rows, columns = np.indices(inside.shape)
    tile = rows * _TILES // inside.shape[0] * _TILES + columns * _TILES // inside.shape[1]
    whole = np.bincount(tile.ravel(), inside.ravel(), _TILES * _TILES)
    part = np.bincount(tile.ravel(), mask.ravel(), _TILES * _TILES)
    counted = whole > 0.25 * inside.size / (_TILES * _TILES)
    if mask.sum() < _LEAST_STREWN * inside.sum():
        return False
    return (
        bool((part[counted] > 0.01 * whole[counted]).mean() > _STREWN) if counted.any() else False
    )


def _plain(mask: np.ndarray) -> np.ndarray:
    """Areas of a mask that fill their upright box."""
    pieces = label(mask)
    area = np.bincount(pieces.ravel())
    rows, columns = np.nonzero(pieces)
    number = pieces[rows, columns]
    sides = []
    for place in (rows, columns):
        low, high = np.full(len(area), max(mask.shape)), np.zeros(len(area), np.int64)
        np.minimum.at(low, number, place)
        np.maximum.at(high, number, place)
        sides.append(high - low + 1)
    full = area > _FILLED * sides[0] * sides[1]
    full[0] = False
    return np.asarray(full[pieces])


def _sound(lab: np.ndarray, inside: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Candidates that lie free in the cloth with a sharp outline, and do not cover most of it."""
    found = _loose(candidates, inside)
    if not found.any():
        return found
    pieces = label(found)
    outline = found & ~dilate(found, -1)
    steep, total = _steepness(lab, inside), np.maximum(np.bincount(pieces[outline]), 1)
    sharp = np.bincount(pieces[outline], steep[outline]) / total
    keep = sharp > _SHARP
    keep[0] = False
    found = keep[pieces]
    return found if found.sum() < _LARGEST_MOTIF * inside.sum() else np.zeros_like(found)


def _steepness(lab: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The share of a colour change over a wide step that a narrow one has, 0..1."""
    narrow, wide = (_change(lab, inside, step) for step in (_STEP, 4 * _STEP))
    return np.asarray(np.minimum(narrow / np.maximum(wide, _LEAST_DIFFERENCE), 1.0))


def _change(lab: np.ndarray, inside: np.ndarray, step: int) -> np.ndarray:
    """The largest difference between opposite neighbours `step` pixels away, on the island."""
    most = np.zeros(inside.shape, np.float32)
    for axis in (0, 1):
        size = inside.shape[axis]
        low, high = (np.clip(np.arange(size) + by, 0, size - 1) for by in (-step, step))
        change = difference(np.take(lab, high, axis), np.take(lab, low, axis))
        known = np.take(inside, high, axis) & np.take(inside, low, axis)
        most = np.maximum(most, np.where(known, change, 0.0))
    return most


def _nearest_cloth(
    lab: np.ndarray, colours: list[_Cloth], motif: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local colour of the cloth under each pixel, and its limit: of the colour most around it."""
    local, limit = np.zeros_like(lab), np.full(motif.shape, np.inf, np.float32)
    most = np.zeros(motif.shape, np.float32)
    radius = max(2 * _COARSE, max(motif.shape) // 16)
    for number, each in enumerate(colours):
        here = _coarse_blur((each.mask & ~motif).astype(np.float32)[..., None], radius)[..., 0]
        better = (here > most) | (number == 0)
        local[better], limit[better] = each.local[better], each.limit
        most = np.maximum(most, here)
    return local, limit


def _blur(values: np.ndarray, radius: int) -> np.ndarray:
    """Box blur sums of (H, W, C) with zeros outside."""
    for axis in (0, 1):
        padding = [(0, 0)] * values.ndim
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(values, padding), axis=axis, dtype=np.float64)
        size = values.shape[axis]
        high = np.take(total, np.arange(size) + 2 * radius + 1, axis=axis)
        values = high - np.take(total, np.arange(size), axis=axis)
    return values


def _coarse_blur(values: np.ndarray, radius: int) -> np.ndarray:
    """Box sums of (H, W, C), counted on a grid of coarse pixels, which is many times faster."""
    height, width = values.shape[:2]
    step = _COARSE
    padded = np.pad(values, ((0, -height % step), (0, -width % step), (0, 0)))
    rows, columns = padded.shape[0] // step, padded.shape[1] // step
    coarse = padded.reshape(rows, step, columns, step, -1).sum((1, 3))
    total = _blur(coarse, max(1, radius // step)).astype(np.float32)
    return total.repeat(step, 0)[:height].repeat(step, 1)[:, :width]


def _local_ground(lab: np.ndarray, near: np.ndarray, colour: np.ndarray, radius: int) -> np.ndarray:
    """The cloth's colour near each pixel, so that shading painted into it is not artwork."""
    share = near.astype(np.float32)[..., None]
    # The island's own colour enters with a small weight: it decides where no cloth is near.
    floor = np.float32(0.02 * (2 * radius + 1) ** 2)
    total = _coarse_blur(share, radius) + floor
    return np.asarray((_coarse_blur(lab * share, radius) + colour * floor) / total)


def _away_from_border(island: np.ndarray) -> np.ndarray:
    """True further than 4% of the picture from an island's border."""
    edge = np.zeros(island.shape, bool)
    edge[:, 1:] |= island[:, 1:] != island[:, :-1]
    edge[1:] |= island[1:] != island[:-1]
    edge[[0, -1]] = True
    edge[:, [0, -1]] = True
    return ~dilate(edge, max(2, max(island.shape) * 0.04))
