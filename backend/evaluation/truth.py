"""Measures against a true answer: the design as a renderer sews it in the reference's own look.

All images are (H, W, 3) float in [0, 1] of one size, all masks (H, W), counted where above 0.5.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.evaluation.measures import Image, Mask, psnr, selected, similarity, smooth
from backend.imaging.colour import rgb_to_lab

__all__ = ["by_region", "colour_psnr", "ms_ssim", "shape_loss"]

# Weights of the five scales (Wang, Simoncelli, Bovik, 2003, section 3.2), finest first.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
# Threads that lie elsewhere make a scale's similarity negative, of which there is no root.
_LEAST_SIMILARITY = 0.01
# Regions under this share of the motif are too small to tell how they are sewn.
_LEAST_SHARE = 0.04


def ms_ssim(output: Image, truth: Image, mask: Mask = None) -> float:
    """Structural similarity of lightness over scales, 1 where both are the same.

    Source: Wang, Simoncelli, Bovik, "Multiscale structural similarity", 2003. Scales at which the
    picture is smaller than the 11 px window are left out, and the other weights raised; a scale
    counts at least as 0.01.
    """
    inside = selected(mask, output.shape).astype(np.float32)
    planes = [np.ascontiguousarray(rgb_to_lab(each)[..., 0]) for each in (output, truth)]
    count = sum(min(inside.shape) >> scale >= _WINDOW for scale in range(len(_WEIGHTS)))
    weights = np.array(_WEIGHTS[: max(count, 1)])
    values = []
    for scale in range(len(weights)):
        if scale > 0:
            planes = [_halved(each) for each in planes]
            inside = _halved(inside)
        luminance, structure = similarity(planes[0], planes[1])
        index = luminance * structure if scale == len(weights) - 1 else structure
        # A region of a pixel or two vanishes at coarse scales; what is left of it counts then.
        here = inside >= min(0.5, float(inside.max()))
        values.append(max(float(index[here].mean()), _LEAST_SIMILARITY))
    return float(np.prod(np.array(values) ** (weights / weights.sum())))


def shape_loss(output: Image, design: Image, mask: Mask = None) -> float:
    """What is lost of the design's shapes and shades, 0 (nothing) to 100 (nothing is left).

    100 · (1 - r), where r correlates both pictures in CIELAB, blurred over the threads (half the
    amplitude at 16 px), on what the mask selects and a rim around it: stitches are no fault, an
    outline that moved or a shade that vanished is.
    """
    inside = selected(mask, output.shape).astype(np.uint8)
    inside = cv2.dilate(inside, np.ones((25, 25), np.uint8)) > 0
    vectors = []
    for rgb in (output, design):
        planes = np.moveaxis(rgb_to_lab(rgb), -1, 0)
        blurred = (smooth(np.ascontiguousarray(each), inside, 16.0)[inside] for each in planes)
        vectors.append(np.concatenate([each - each.mean() for each in blurred]).astype(np.float64))
    first, second = vectors
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    if size < 1e-6:
        return 0.0 if np.allclose(first, second, atol=1e-3) else 100.0
    return 100.0 * min(1.0, 1.0 - float(first @ second) / size)


def colour_psnr(output: Image, truth: Image, mask: Mask = None) -> float:
    """PSNR in decibels of both pictures blurred over the threads: colour counts, stitches do not.

    The blur halves the amplitude at a period of 32 px.
    """
    inside = selected(mask, output.shape)

    def blurred(rgb: Image) -> Image:
        planes = np.moveaxis(np.asarray(rgb, dtype=np.float32), -1, 0)
        return np.dstack([smooth(np.ascontiguousarray(each), inside, 32.0) for each in planes])

    return psnr(blurred(output), blurred(truth), inside)


def by_region(
    distance: Callable[[Image, Image, Mask, Mask], float],
    output: Image,
    truth: Image,
    labels: NDArray[np.integer],
) -> float:
    """A texture distance within each region of the design, mean weighted by area.

    Args:
        distance: of two textures under their masks.
        labels: (H, W) number of each pixel's region; 0 is the ground, which does not count.
    """
    areas = np.bincount(labels[labels > 0].ravel())
    large = np.flatnonzero(areas >= _LEAST_SHARE * max(int(areas.sum()), 1))
    large = large[areas[large] > 0]
    found = []
    for label in large:
        here = labels == label
        rows, columns = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
        # With a frame, so that texture beside the region is there to be masked, not reflected.
        box = np.s_[
            max(0, rows[0] - 32) : rows[-1] + 33, max(0, columns[0] - 32) : columns[-1] + 33
        ]
        found.append(distance(output[box], truth[box], here[box], here[box]))
    if not found:
        return distance(output, truth, labels > 0, labels > 0)
    return float(np.average(found, weights=areas[large]))


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = values.shape
    size = (max(1, width // 2), max(1, height // 2))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)
