"""Separate pieces of artwork, such as a chest and a sleeve print, and the boxes around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .raster import dilate, label

__all__ = ["Box", "boxes"]

# Share of a piece that is not thin: lettering has a half, seams and piping next to nothing.
_THICK = 0.35
# Share of its own box that a piece fills: line art has a fifth, a curved seam a few hundredths.
_FILL = 0.12


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels, right and bottom exclusive, and how much artwork it holds."""

    left: int
    top: int
    right: int
    bottom: int
    pixels: int


def boxes(
    mask: np.ndarray, island: np.ndarray, gap: float, thinnest: float, smallest: float = 0.0
) -> list[Box]:
    """Rectangles around separate pieces of artwork, largest first.

    Args:
        mask: (H, W) bool artwork.
        island: (H, W) int; artwork on two islands is never one piece.
        gap: pieces nearer than this many pixels are one.
        thinnest: what nowhere is this many pixels wide is a seam or a speck, not artwork.
        smallest: pieces whose longer side has fewer pixels are buttons or hardware.
    """
    if not mask.any():
        return []
    core = dilate(dilate(mask, -thinnest / 2), thinnest / 2) & mask
    # A seam that passes close to a motif must not join it.
    near = dilate(core, gap / 2) & (island > 0)
    pieces = label(near, island) * mask
    whole = np.bincount(pieces.ravel())
    thick = np.bincount(pieces.ravel(), core.ravel(), len(whole))
    found = []
    for number in np.flatnonzero(whole):
        if number == 0 or thick[number] < _THICK * whole[number]:
            continue
        rows, columns = np.nonzero(pieces == number)
        sides = np.ptp(rows) + 1, np.ptp(columns) + 1
        if max(sides) < smallest or len(rows) < _FILL * sides[0] * sides[1]:
            continue
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
