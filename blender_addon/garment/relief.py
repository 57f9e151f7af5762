"""The relief of an embroidered picture: what its threads add to the flat artwork, as a height."""

from __future__ import annotations

import numpy as np

from .pixels import fill

__all__ = ["height_map"]

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
# Lightness that a thread's flank differs from its ridge by, at least: less is smooth cloth.
_LEAST_DETAIL = 0.06
_HIGHEST = 97.0
_THREADS = 1.5


def height_map(rgba: np.ndarray, flat: np.ndarray | None, thread_px: float) -> np.ndarray:
    """Heights from lightness, without the artwork's own light and dark shapes.

    Lighter is higher, as on a photo taken with light from the viewer's side. The flat artwork is
    subtracted first, so that its outlines, which are dyed and not sewn, leave no step; what is
    wider than a few threads is shading and goes too.

    Args:
        rgba: (H, W, 4) uint8, the embroidered picture; alpha 0 where nothing is sewn.
        flat: (H, W, 3 or 4) uint8, the same before, or None if it is lost.
        thread_px: width of a thread in pixels.

    Returns:
        (H, W) uint8; 128 is the thread's middle height.
    """
    covered = rgba[..., 3] > 0
    if not covered.any():
        return np.full(covered.shape, 128, np.uint8)
    detail = rgba[..., :3] @ _LUMA / 255
    if flat is not None and flat.shape[:2] == rgba.shape[:2]:
        detail = detail - flat[..., :3] @ _LUMA / 255
    detail = fill(detail[..., None].astype(np.float32), covered)[..., 0]
    radius = max(1, round(_THREADS * thread_px))
    # Two box averages make a soft one; a single one would leave its corners in the relief.
    detail = detail - _average(_average(detail, radius), radius)
    strength = np.percentile(np.abs(detail[covered]), _HIGHEST)
    detail = detail / (2 * max(float(strength), _LEAST_DETAIL))
    return np.asarray((np.clip(detail + 0.5, 0.0, 1.0) * 255 + 0.5).astype(np.uint8))


def _average(values: np.ndarray, radius: int) -> np.ndarray:
    """Box averages of (H, W) over 2·radius + 1 pixels; borders are continued."""
    for axis in (0, 1):
        size = values.shape[axis]
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(values, padding, mode="edge"), axis=axis, dtype=np.float64)
        high = np.take(total, np.arange(size) + 2 * radius + 1, axis=axis)
        values = (high - np.take(total, np.arange(size), axis=axis)) / (2 * radius + 1)
    return values.astype(np.float32)
