"""Relief: how its lightness scales with the thread's, and how it runs at region boundaries.

Sewn areas stand up from the cloth, dip where two meet and catch light on one flank. The profile is
measured in the reference, per direction of the boundary, and laid along the target's boundaries.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.preview.guides import REACH, Guides

__all__ = ["apply_shading", "measure_shading", "relief_scale"]

DISTANCES = 13
DIRECTIONS = 8
# Pixels a bin must have before its own mean is believed over that of all directions.
TRUSTED = 60.0
LARGEST = 14.0
# CIELAB lightness whose relief counts as 1, and what dark thread's own sheen adds to it.
USUAL, SHEEN = 60.0, 24.0
# Highlights on light thread meet white: from where on, and how soon.
LIGHT, HEADROOM = 75.0, 35.0


def relief_scale(lightness: NDArray[np.floating]) -> NDArray[np.float32]:
    """How strong relief is on thread of a lightness, against that on thread of a usual one.

    Light and shade multiply a colour (CIELAB's L + 16 is its cube root), until there is no room
    left for highlights. Photos of several embroideries, and the stitch renderer, bear it out.
    """
    level = np.clip(lightness, 0.0, 100.0)
    scale = (level + SHEEN) / (USUAL + SHEEN)
    scale *= np.minimum(1.0, 1.0 - (level - LIGHT) / HEADROOM)
    return scale.astype(np.float32)


def _bins(guides: Guides) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance bin in [0, DISTANCES - 1] and direction bin in [0, DIRECTIONS), fractional."""
    distance = np.clip(guides.distance / REACH, 0.0, 1.0) * (DISTANCES - 1)
    direction = (guides.inward / (2 * np.pi) * DIRECTIONS) % DIRECTIONS
    return distance.astype(np.float32), direction.astype(np.float32)


def measure_shading(
    residual: NDArray[np.float32], guides: Guides, thread: float
) -> NDArray[np.float32]:
    """Mean relief by direction and distance.

    Args:
        residual: (H, W) lightness minus its mean in the region, over `relief_scale`.
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
    """Relief to add along the target's boundaries, (H, W)."""
    distance, direction = _bins(guides)
    # One wrapped direction on either side, so that interpolation knows the circle.
    table = np.concatenate([profile[-1:], profile, profile[:1]])
    shade = cv2.remap(
        table, distance, direction + 1.0, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.where(guides.labels >= 0, shade, 0.0).astype(np.float32)
