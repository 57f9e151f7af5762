"""Relief of photographed thread: lightness finer than its areas; how clear and how strong it is."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb
from backend.imaging.masks import bounding_box
from backend.preview.guides import make_palette, region_labels

__all__ = [
    "evened",
    "flaws_of",
    "photo_labels",
    "region_means",
    "texture_of",
    "without_outlines",
]

# By how much weak relief is raised, and strong relief lowered, at most.
EVENED = 1.6
# Share of the relief's power below which a scale has none.
FAINTEST = 0.003


def photo_labels(
    lab: NDArray[np.float32], mask: NDArray[np.bool_], thread: float
) -> NDArray[np.int16]:
    """Colour regions of the photo itself: where the design missed a detail, these still know."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.5 * thread)
    smooth = cv2.bilateralFilter(smooth, 2 * max(2, round(thread)) + 1, 12.0, 0.8 * thread)
    return region_labels(smooth, mask, make_palette(lab_to_rgb(smooth), mask, most=8), thread)


def region_means(
    values: NDArray[np.float32], labels: NDArray[np.integer], sigma: float
) -> NDArray[np.float32]:
    """Smooth mean of (H, W) `values` that never looks across a region's boundary."""
    mean = np.zeros_like(values)
    # Three box blurs are near enough a Gaussian, and cost the same at any width.
    box = (2 * round(sigma) + 1,) * 2

    def blur(layer: NDArray[np.float32]) -> NDArray[np.float32]:
        for _ in range(3):
            layer = cv2.blur(layer, box, borderType=cv2.BORDER_CONSTANT)
        return layer

    for label in np.unique(labels):
        here = labels == label
        x0, y0, x1, y1 = bounding_box(here)
        view = np.s_[y0:y1, x0:x1]
        inside = here[view]
        share = np.maximum(blur(inside.astype(np.float32)), 1e-4)
        smooth = blur(values[view] * inside) / share
        mean[view][inside] = smooth[inside]
    return mean


def without_outlines(
    lightness: NDArray[np.float32], mask: NDArray[np.bool_], distance: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cut what no thread within an area reaches: beside an edge, it is the neighbour's colour.

    Args:
        lightness: of the detail.
        distance: to the nearest edge, as in `Guides`.
    """
    inner = mask & (distance > 1.0)
    if inner.sum() < 0.1 * mask.sum():
        return lightness
    low, high = np.percentile(lightness[inner], (1.0, 99.0))
    return np.clip(lightness, 1.3 * low, 1.3 * high)


def flaws_of(
    detail: NDArray[np.float32], mask: NDArray[np.bool_], patch: int, thread: float
) -> NDArray[np.float32]:
    """Penalty of the patch around each pixel, 0 for clear even thread.

    Remains of the motif show as energy coarser than thread; blur and glare as lack of thread.
    """
    box = (patch, patch)
    coarse = cv2.GaussianBlur(detail, (0, 0), 1.2 * thread)
    low = np.sqrt(cv2.blur(coarse**2, box))
    fine = np.sqrt(cv2.blur((detail - coarse) ** 2, box))
    usual_low, usual_fine = float(np.median(low[mask])), float(np.median(fine[mask]))
    uneven = np.maximum(low / max(usual_low, 1e-3) - 1.3, 0.0)
    dull = np.maximum(np.log(max(usual_fine, 1e-3) / np.maximum(fine, 1e-3)) - 0.2, 0.0)
    loud = np.maximum(np.log(np.maximum(fine, 1e-3) / max(usual_fine, 1e-3)) - 0.5, 0.0)
    return (uneven + dull + loud).astype(np.float32)


def texture_of(detail: NDArray[np.float32], patch: int, thread: float) -> NDArray[np.float32]:
    """(H, W, 3) RMS relief around each pixel within, between and over threads, as logarithms.

    Without their mean: how strong relief is tells the light, how it is shared out the stitch.
    """
    levels = [detail] + [cv2.GaussianBlur(detail, (0, 0), s * thread) for s in (0.3, 0.7, 1.4)]
    power = [cv2.blur((fine - rest) ** 2, (patch, patch)) for fine, rest in pairwise(levels)]
    least = np.maximum(FAINTEST * np.sum(power, axis=0), 1e-6)
    strength = np.dstack([0.5 * np.log(np.maximum(each, least)) for each in power])
    return strength - strength.mean(axis=2, keepdims=True)


def evened(detail: NDArray[np.float32], mask: NDArray[np.bool_], patch: int) -> NDArray[np.float32]:
    """Relief as strong everywhere as it usually is: where light falls well, threads show more."""
    share = np.maximum(cv2.blur(mask.astype(np.float32), (patch, patch)), 1e-3)
    local = np.sqrt(np.maximum(cv2.blur(detail**2 * mask, (patch, patch)), 0.0) / share)
    usual = float(np.median(local[mask]))
    return detail * np.clip(usual / np.maximum(local, 1e-3), 1 / EVENED, EVENED)
