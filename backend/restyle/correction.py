"""Colour correction: embroidery keeps the design's colours (paper, section 3.4)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb, rgb_to_lab

__all__ = ["correct_colours", "in_strips"]


def correct_colours(
    result: NDArray[np.floating],
    design: NDArray[np.floating],
    sigma: float,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Give the output the design's colours: its A and B, and its light and shade.

    The paper keeps the output's L whole. Its coarse part is the design's here, since a model that
    darkens or flattens areas would otherwise pass for one that sews well.

    Args:
        result, design: (H, W, 3) in [0, 1].
        sigma: lightness smoother than this many pixels comes from the design.
        inside: (H, W) pixels to look at; the others are not averaged in.
    """
    weight = np.ones(result.shape[:2], np.float32) if inside is None else inside.astype(np.float32)

    def coarse(lightness: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-4)
        return cv2.GaussianBlur(lightness * weight, (0, 0), sigma) / share

    ours, theirs = rgb_to_lab(result), rgb_to_lab(design)
    lightness = ours[..., 0] + coarse(theirs[..., 0] - ours[..., 0])
    return lab_to_rgb(np.dstack([np.clip(lightness, 0.0, 100.0), theirs[..., 1:]]))


def in_strips(
    result: NDArray[np.float32],
    design: NDArray[np.float32],
    sigma: float,
    inside: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """`correct_colours` with memory bounded by strips of rows."""
    corrected = np.empty_like(result)
    halo, rows = int(4 * sigma) + 1, 1024
    for top in range(0, len(result), rows):
        low, high = max(0, top - halo), min(len(result), top + rows + halo)
        strip = correct_colours(result[low:high], design[low:high], sigma, inside[low:high])
        corrected[top : top + rows] = strip[top - low :][:rows]
    return corrected
