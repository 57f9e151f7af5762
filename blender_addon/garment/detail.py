"""How fine an artwork is: the width of its shapes, to be compared with the thread's."""

from __future__ import annotations

import numpy as np

from .artwork import difference, to_lab

__all__ = ["shape_width"]

# Colour change over two pixels that ends a shape; woven cloth and compression stay below.
_EDGE = 14.0
_STEP = 2
_FINEST_SHARE = 0.25


def shape_width(rgb: np.ndarray, mask: np.ndarray) -> float:
    """The width in pixels that a quarter of the artwork's area lies in narrower shapes than.

    A pixel's shape is as wide as the shorter of the two runs, along its row and its column, that
    no outline interrupts.

    Args:
        rgb: (H, W, 3) uint8, flat artwork.
        mask: (H, W) bool, where to look; not empty.
    """
    lab = to_lab(rgb)
    widths = np.minimum(_runs(lab, mask), _runs(lab.swapaxes(0, 1), mask.T).T)
    return float(np.quantile(widths[mask], _FINEST_SHARE))


def _runs(lab: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W) length of the run along its row that each pixel belongs to."""
    height, width = mask.shape
    change = np.zeros((height, width + 2), np.float32)
    if width > _STEP:
        # Soft outlines spread over several pixels; only the steepest of them is the outline.
        change[:, 2:-2] = difference(lab[:, _STEP:], lab[:, :-_STEP])
    here = change[:, 1:-1]
    starts = (here > _EDGE) & (here > change[:, :-2]) & (here >= change[:, 2:])
    starts[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    starts[:, 0] = True
    run = np.cumsum(starts.ravel()) - 1
    return np.asarray(np.bincount(run)[run].reshape(height, width))
