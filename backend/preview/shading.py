"""Relief at region boundaries: how light or dark embroidery is by distance from the edge.

Sewn areas stand up from the cloth, dip where two meet and catch light on one flank. The profile is
measured in the reference, per direction of the boundary, and laid along the target's boundaries.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.preview.guides import REACH, Guides

__all__ = ["apply_shading", "measure_shading"]

DISTANCES = 13
DIRECTIONS = 8
# Pixels a bin must have before its own mean is believed over that of all directions.
TRUSTED = 60.0
LARGEST = 14.0


def _bins(guides: Guides) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance bin in [0, DISTANCES - 1] and direction bin in [0, DIRECTIONS), fractional."""
    distance = np.clip(guides.distance / REACH, 0.0, 1.0) * (DISTANCES - 1)
    direction = (guides.inward / (2 * np.pi) * DIRECTIONS) % DIRECTIONS
    return distance.astype(np.float32), direction.astype(np.float32)


def measure_shading(
    residual: NDArray[np.float32], guides: Guides, thread: float
) -> NDArray[np.float32]:
    """Mean lightness by direction and distance.

    Args:
        residual: (H, W) lightness minus its mean in the region, L units.
        guides: of the reference.
        thread: thread width in pixels.

    Returns:
        (DIRECTIONS, DISTANCES), zero at the far end.
    """
    inside = guides.labels >= 0
    soft = cv2.GaussianBlur(residual * inside, (0, 0), 0.4 * thread)
    distance, direction = _bins(guides)
    rows = np.round(direction).astype(np.int64)[inside] % DIRECTIONS
    columns = np.round(distance).astype(np.int64)[inside]
    cell = rows * DISTANCES + columns
    size = DIRECTIONS * DISTANCES
    count = np.bincount(cell, minlength=size).reshape(DIRECTIONS, DISTANCES)
    total = np.bincount(cell, weights=soft[inside], minlength=size).reshape(count.shape)
    overall = total.sum(0) / np.maximum(count.sum(0), 1)
    # Neighbouring directions see nearly the same light.
    spread = [np.roll(each, 1, 0) + 2 * each + np.roll(each, -1, 0) for each in (total, count)]
    profile = (spread[0] + TRUSTED * overall) / (spread[1] + TRUSTED)
    profile -= profile[:, -1:]
    return np.clip(profile, -LARGEST, LARGEST).astype(np.float32)


def apply_shading(profile: NDArray[np.float32], guides: Guides) -> NDArray[np.float32]:
    """Lightness to add along the target's boundaries, (H, W) in L units."""
    distance, direction = _bins(guides)
    # One wrapped direction on either side, so that interpolation knows the circle.
    table = np.concatenate([profile[-1:], profile, profile[:1]])
    shade = cv2.remap(
        table, distance, direction + 1.0, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.where(guides.labels >= 0, shade, 0.0).astype(np.float32)
