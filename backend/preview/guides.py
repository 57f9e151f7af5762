"""What steers the synthesis: the regions, and where their boundaries lie.

Guides after Hertzmann et al., "Image Analogies" (2001), section 4; the choice of guides (distance
to and direction of the nearest boundary, art or cloth) is this project's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import rgb_to_lab

__all__ = ["Guides", "Palette", "make_guides", "make_palette", "region_labels"]

# Colours nearer than this in CIELAB are one region.
SAME_REGION = 10.0
# How far from a boundary it still matters, in thread widths.
REACH = 3.0

Palette = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Guides:
    """Guides of one image, all (H, W).

    Attributes:
        labels: region colour, a row of the palette; -1 outside the mask.
        distance: to the nearest boundary, in thread widths.
        inward: direction away from the nearest boundary, radians.
    """

    labels: NDArray[np.int16]
    distance: NDArray[np.float32]
    inward: NDArray[np.float32]


def make_palette(rgb: NDArray[np.floating], mask: NDArray[np.bool_], most: int = 14) -> Palette:
    """The few colours of a design, (K, 3) CIELAB; the most frequent first."""
    height, width = rgb.shape[:2]
    scale = min(1.0, 256 / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(rgb, np.float32), size, interpolation=cv2.INTER_NEAREST)
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    samples = rgb_to_lab(small)[inside]
    if len(samples) == 0:
        return np.zeros((1, 3), dtype=np.float32)
    # Mode seeking on a coarse colour grid: flat artwork has few, heavily used colours.
    cells = np.round(samples / 6.0).astype(np.int32) @ np.array([64**2, 64, 1], np.int32)
    _, inverse, counts = np.unique(cells, return_inverse=True, return_counts=True)
    sums = [np.bincount(inverse, weights=samples[:, channel]) for channel in range(3)]
    means = np.stack(sums, axis=1) / counts[:, None]
    chosen: list[NDArray[np.float64]] = []
    for index in np.argsort(-counts, kind="stable"):
        rare = counts[index] < 0.002 * len(samples) and chosen
        if len(chosen) >= most or rare:
            break
        if all(np.linalg.norm(means[index] - other) > SAME_REGION for other in chosen):
            chosen.append(means[index])
    return np.asarray(chosen, dtype=np.float32)


def region_labels(
    lab: NDArray[np.float32], mask: NDArray[np.bool_], palette: Palette, thread: float
) -> NDArray[np.int16]:
    """Nearest palette row of every pixel, slivers voted away; -1 outside the mask."""
    smooth = cv2.medianBlur(lab, 5) if min(lab.shape[:2]) >= 5 else lab
    best = np.full(mask.shape, np.inf, dtype=np.float32)
    labels = np.zeros(mask.shape, dtype=np.int16)
    for index, colour in enumerate(palette):
        distance = ((smooth - colour) ** 2).sum(-1)
        nearer = distance < best
        best[nearer] = distance[nearer]
        labels[nearer] = index
    # Slivers of in-between colour along anti-aliased edges are no regions: vote them away.
    sigma = max(0.8, thread / 5.0)
    votes = np.full(mask.shape, -1.0, dtype=np.float32)
    voted = labels.copy()
    for index in range(len(palette)):
        share = cv2.GaussianBlur(((labels == index) & mask).astype(np.float32), (0, 0), sigma)
        wins = share > votes
        votes[wins] = share[wins]
        voted[wins] = index
    voted[~mask] = -1
    return voted


def _boundaries(
    labels: NDArray[np.int16], lab: NDArray[np.float32], thread: float
) -> NDArray[np.bool_]:
    """Pixels where the label changes and the colour really steps (gradients have no boundary)."""
    change = np.zeros(labels.shape, dtype=bool)
    change[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    change[1:] |= labels[1:] != labels[:-1]
    size = 2 * max(1, round(thread / 3.0)) + 1
    kernel = np.ones((size, size), np.uint8)
    step = np.zeros(labels.shape, dtype=np.float32)
    for channel in range(3):
        layer = np.ascontiguousarray(lab[..., channel])
        step += (cv2.dilate(layer, kernel) - cv2.erode(layer, kernel)) ** 2
    edge_of_mask = cv2.dilate((labels < 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return change & ((step > SAME_REGION**2) | edge_of_mask)


def make_guides(
    rgb: NDArray[np.floating], mask: NDArray[np.bool_], palette: Palette, thread: float
) -> Guides:
    """Guides of a flat image.

    Args:
        rgb: (H, W, 3) in [0, 1], flat artwork.
        mask: (H, W) where there is embroidery.
        palette: colours from `make_palette`.
        thread: thread width in pixels.
    """
    lab = rgb_to_lab(rgb)
    labels = region_labels(lab, mask, palette, thread)
    boundary = _boundaries(labels, lab, thread)
    if boundary.any():
        distance = cv2.distanceTransform((~boundary).astype(np.uint8), cv2.DIST_L2, 5)
    else:
        distance = np.full(labels.shape, 4.0 * max(labels.shape), dtype=np.float32)
    ramp = cv2.GaussianBlur(np.minimum(distance, 6.0 * thread), (0, 0), max(1.0, thread / 3.0))
    dx, dy = cv2.Scharr(ramp, cv2.CV_32F, 1, 0), cv2.Scharr(ramp, cv2.CV_32F, 0, 1)
    return Guides(
        labels=labels,
        distance=(distance / thread).astype(np.float32),
        inward=np.arctan2(dy, dx).astype(np.float32),
    )
