"""Colour correction: embroidery keeps the design's colours (paper, section 3.4)."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb, rgb_to_lab

__all__ = ["Correction", "correct_colours", "in_strips"]

Correction = Literal["paper", "shade", "coarse"]


def correct_colours(
    result: NDArray[np.floating],
    design: NDArray[np.floating],
    how: Correction,
    sigma: float,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Give the output the design's colours.

    "paper" takes the design's A and B and keeps the output's L whole. "shade" takes the coarse part
    of L from the design too, since a model that darkens or flattens areas would otherwise pass for
    one that sews well. "coarse" takes the coarse part of all three: for relief, whose beads and
    sequins have colours of their own, from a model whose colours drift.

    Args:
        result, design: (H, W, 3) in [0, 1].
        sigma: coarse is what is smoother than this many pixels.
        inside: (H, W) pixels to look at; the others are not averaged in.
    """
    ours, theirs = rgb_to_lab(result), rgb_to_lab(design)
    corrected = np.dstack([ours[..., 0], theirs[..., 1:]])
    if how != "paper":
        shape = result.shape[:2]
        weight = np.ones(shape, np.float32) if inside is None else inside.astype(np.float32)
        share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-4)
        for channel in (0,) if how == "shade" else (0, 1, 2):
            error = (theirs[..., channel] - ours[..., channel]) * weight
            moved = cv2.GaussianBlur(error, (0, 0), sigma) / share
            corrected[..., channel] = ours[..., channel] + moved
    np.clip(corrected[..., 0], 0.0, 100.0, out=corrected[..., 0])
    return lab_to_rgb(corrected)


def in_strips(
    result: NDArray[np.float32],
    design: NDArray[np.float32],
    how: Correction,
    sigma: float,
    inside: NDArray[np.bool_],
) -> None:
    """`correct_colours` in place of `result`, with memory bounded by strips of rows."""
    halo, rows = int(4 * sigma) + 1, 256
    before = result[:0]  # the rows above as they were
    for top in range(0, len(result), rows):
        low, high = max(0, top - halo), min(len(result), top + rows + halo)
        seen = np.concatenate([before, result[top:high]])
        before = seen[max(0, top + rows - halo - low) : top + rows - low].copy()
        strip = correct_colours(seen, design[low:high], how, sigma, inside[low:high])
        result[top : top + rows] = strip[top - low :][:rows]
