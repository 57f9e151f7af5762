"""Artwork on cloth that is printed all over: what has colours that the print has nowhere else.

A print repeats: each of its colours comes back over the whole island. A crest or a flag on it
brings colours of its own, in one place. Where colours are not repeated (a photo print, noise)
nothing can be told so, and nothing is found.
"""

from __future__ import annotations

import numpy as np

from .raster import dilate, label

__all__ = ["foreign_motifs"]

# A colour in a smaller share of an island's tiles, each with more than a trace of it, is foreign.
_TILES, _SPREAD, _TRACE = 8, 0.3, 0.004
# Colours are counted in cells of this size in CIELAB, with their neighbours.
_CELL, _CELLS = 10.0, 32
# Foreign colours that together cover more of an island mean that its print does not repeat.
_MOST = 0.25
# By the island's longer side: gaps in a motif. By its area: the least motif.
_GAP, _LEAST = 0.02, 0.002
# Share of a motif, its gaps filled, that has foreign colours.
_FOREIGN = 0.3


def foreign_motifs(lab: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Compact areas of colours that the rest of the island lacks.

    Args:
        lab: (H, W, 3) CIELAB of the box around an island.
        inside: (H, W) bool, the island.

    Returns:
        (H, W) bool, colours of the print within a motif included; none if the print's colours do
        not repeat.
    """
    none = np.zeros(inside.shape, bool)
    foreign = _foreign(lab, inside)
    area = int(inside.sum())
    if foreign.sum() > _MOST * area:
        return none
    # Single pixels are soft outlines between the print's own colours.
    core = dilate(dilate(foreign, -0.7), 0.7)
    gap = _GAP * max(inside.shape)
    pieces = label(dilate(dilate(core, gap), -gap) & inside)
    size = np.bincount(pieces.ravel())
    share = np.bincount(pieces.ravel(), foreign.ravel(), len(size)) / np.maximum(size, 1)
    keep = (size > _LEAST * area) & (share > _FOREIGN)
    keep[0] = False
    return np.asarray(_filled(keep[pieces]) & inside)


def _foreign(lab: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(H, W) bool, pixels whose colour few tiles of the island have."""
    height, width = inside.shape
    rows, columns = np.nonzero(inside)
    tile = rows * _TILES // height * _TILES + columns * _TILES // width
    middle = np.array([2, _CELLS // 2, _CELLS // 2])
    cell = np.floor(lab[rows, columns] / _CELL).astype(np.int64) + middle
    cell = cell.clip(0, _CELLS - 1) @ np.array([_CELLS * _CELLS, _CELLS, 1])
    colours = _CELLS**3
    count = np.bincount(tile * colours + cell, minlength=_TILES**2 * colours)
    count = count.reshape(_TILES**2, _CELLS, _CELLS, _CELLS).astype(np.float32)
    total = count.sum((1, 2, 3))
    counted = total > 0.25 * inside.size / _TILES**2
    if not counted.any():
        return np.zeros(inside.shape, bool)
    part = count[counted] / total[counted, None, None, None]
    for axis in (1, 2, 3):
        part = _with_neighbours(part, axis)
    spread = (part > _TRACE).mean(0).ravel()
    found = np.zeros(inside.shape, bool)
    found[rows, columns] = spread[cell] < _SPREAD
    return found


def _with_neighbours(values: np.ndarray, axis: int) -> np.ndarray:
    """Sums over each place and the two beside it along an axis."""
    padding = [(0, 0)] * values.ndim
    padding[axis] = (1, 1)
    wide, size = np.pad(values, padding), values.shape[axis]
    return np.asarray(sum(np.take(wide, range(at, at + size), axis) for at in range(3)))


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask with what it encloses."""
    outer = label(np.pad(~mask, 1, constant_values=True))
    return np.asarray((outer != outer[0, 0])[1:-1, 1:-1])
