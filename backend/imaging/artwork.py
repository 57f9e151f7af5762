"""Artwork as it is to be sewn, or painted: with a colour everywhere, and where that goes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import thread_colours
from backend.imaging.crisp import crisp, edge_width
from backend.imaging.masks import colour_outlines, extend_colours

__all__ = ["covered", "sewable"]

# Widest edge of enlarged print, in threads.
_WIDEST = 3.0


def covered(
    rgba: NDArray[np.float32], mask: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A picture with a colour everywhere, and where to change it.

    Args:
        rgba: (H, W, 4); what lies under transparency is no part of it.
        mask: (H, W), 1 where to, between for a soft edge; None: wherever it is seen.

    Returns:
        colours (H, W, 3), and how much of each pixel is to be changed (H, W).
    """
    cover = (rgba[..., 3] > 0.0).astype(np.float32)
    if mask is not None:
        cover *= mask
    return extend_colours(rgba[..., :3], rgba[..., 3] > 0.5), cover


def sewable(
    rgba: NDArray[np.float32], mask: NDArray[np.float32] | None, thread: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`covered`, in colours that thread can have: it does not fade, into another or into the cloth.

    Args:
        thread: its width, pixels.
    """
    colours, cover = covered(rgba, mask)
    sewn = cover > 0.5
    width = edge_width(colours, sewn, _WIDEST * thread)
    # The cloth beside it as well, so that what fades into it can be told.
    around = np.ones((2 * round(width) + 1,) * 2, np.uint8)
    colours = crisp(colours, cv2.dilate((cover > 0.0).astype(np.uint8), around) > 0, width)
    if mask is not None:
        cloth = (mask <= 0.5) & (rgba[..., 3] > 0.5)
        colours = colour_outlines(colours, sewn, cloth, max(thread, 1.5 * width))
    return thread_colours(colours), cover
