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
# Lightness that two colours differ by, at least; thread of one colour varies less.
_STEP = 0.15


def height_map(rgba: np.ndarray, flat: np.ndarray | None, thread_px: float) -> np.ndarray:
    """Heights from lightness, without the artwork's own light and dark shapes.

    Lighter is higher, as on a photo taken with light from the viewer's side. The flat artwork is
    subtracted first, so that its outlines, which are dyed and not sewn, leave no step; what is
    wider than a few threads is shading and goes too.

    Args:
        rgba: (H, W, 4) uint8, the embroidered picture; alpha 0 where nothing is sewn.
        flat: (H, W, 3 or 4) uint8, the same before; None if it is lost, or was never there, as for
            a motif from words: its colours are then told from its thread by their steps.
        thread_px: width of a thread in pixels.

    Returns:
        (H, W) uint8; 128 is the thread's middle height.
    """
    covered = rgba[..., 3] > 0
    if not covered.any():
        return np.full(covered.shape, 128, np.uint8)
    detail = rgba[..., :3] @ _LUMA / 255
    radius = max(1, round(_THREADS * thread_px))
    if flat is not None:
        detail = detail - flat[..., :3] @ _LUMA / 255
    detail = fill(detail[..., None].astype(np.float32), covered)[..., 0]
    if flat is None:
        detail = detail - _areas(detail, radius)
    # Two box averages make a soft one; a single one would leave its corners in the relief.
    detail = detail - _soft(detail, radius)
    strength = np.percentile(np.abs(detail[covered]), _HIGHEST)
    detail = detail / (2 * max(float(strength), _LEAST_DETAIL))
    return np.asarray((np.clip(detail + 0.5, 0.0, 1.0) * 255 + 0.5).astype(np.uint8))


def _areas(values: np.ndarray, radius: int) -> np.ndarray:
    """Averages that keep to areas of like lightness: a bilateral filter.

    In levels, after Durand and Dorsey, Fast Bilateral Filtering (2002).
    """
    low, high = float(values.min()), float(values.max())
    count = max(2, int(np.ceil((high - low) / _STEP)) + 1)
    kept = np.zeros_like(values)
    step = max((high - low) / (count - 1), 1e-6)
    for level in low + step * np.arange(count):
        weight = np.exp(-0.5 * ((values - level) / _STEP) ** 2)
        mean = _soft(weight * values, radius) / np.maximum(_soft(weight, radius), 1e-6)
        kept += np.maximum(1.0 - np.abs(values - level) / step, 0.0) * mean
    return kept


def _soft(values: np.ndarray, radius: int) -> np.ndarray:
    return _average(_average(values, radius), radius)


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
