"""The part of a photo that a pair shows, at the scale at which a profile sees threads well."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.masks import densest
from backend.models.profiles import Profile

__all__ = ["Box", "scaled", "with_margin"]

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends exclusive."""


def with_margin(box: Box, size: tuple[int, int]) -> Box:
    """The box of a motif with cloth around it, in a photo of `size` (height, width)."""
    if box[2] == 0:
        return 0, 0, size[1], size[0]
    margin = round(0.08 * max(box[2] - box[0], box[3] - box[1]))
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(size[1], box[2] + margin),
        min(size[0], box[3] + margin),
    )


def scaled(
    stack: NDArray[np.float32], box: Box, thread: float, profile: Profile
) -> NDArray[np.float32]:
    """The crop of the motif at training scale, at least a window on both sides.

    Args:
        stack: (H, W, C), the photo; its fourth layer is 1 on the motif and 0 on cloth.
        thread: width of a thread in it, pixels; 0: not known.

    Returns:
        (h, w, C), sides multiples of 8.
    """
    settings, window = profile.pair, profile.window
    height, width = stack.shape[:2]
    longest = max(box[2] - box[0], box[3] - box[1])
    by_thread = settings.thread_px > 0.0 and thread > 0.0
    scale = settings.thread_px / thread if by_thread else window / longest
    scale = min(scale, settings.enlarge_at_most)
    if settings.whole:
        scale = min(scale, settings.largest * window / longest)
    scale = max(scale, window / max(height, width), 0.75 * window / min(height, width))
    need = window / scale  # a window in the photo's pixels
    x0, x1 = _grown(box[0], box[2], need, width)
    y0, y1 = _grown(box[1], box[3], need, height)
    crop = stack[y0:y1, x0:x1]
    if not settings.whole:
        most = int(settings.largest * window / scale)
        crop = crop[densest(np.ascontiguousarray(crop[..., 3]), most)]
    size = [max(8, round(side * scale / 8) * 8) for side in crop.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    layers = [
        cv2.resize(np.ascontiguousarray(crop[..., c]), size, interpolation=method)
        for c in range(crop.shape[2])
    ]
    whole = np.clip(np.dstack(layers), 0.0, 1.0)
    missing = [max(0, window - side) for side in whole.shape[:2]]
    pad = [(m // 2, m - m // 2) for m in missing]
    return np.pad(whole, [*pad, (0, 0)], mode="reflect").astype(np.float32)


def _grown(low: int, high: int, need: float, limit: int) -> tuple[int, int]:
    """An interval about the same middle, of at least `need`, within [0, limit]."""
    length = min(limit, max(high - low, int(np.ceil(need))))
    start = min(max(0, (low + high - length) // 2), limit - length)
    return start, start + length
