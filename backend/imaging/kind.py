"""Whether embroidery is flat thread, or beads and knots that stand out as round things."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import rgb_to_lab
from backend.imaging.masks import densest

__all__ = ["kind_of", "roundness"]

# Radii of round things that are looked for, pixels; a bead is at least as wide as a thread.
RADII = (3.0, 3.9, 5.1, 6.6, 8.6, 11.1)
# Side of the part of a picture that is enough to tell.
SIDE = 448
# Share of the area, in discs, whose roundest centres are averaged; and the fewest of them.
SHARE, FEWEST = 0.35, 12
# Above it things are round: seed beads measure 5 to 10, knots 4 to 6, thread 1 to 4.
RELIEF = 4.6

Map = NDArray[np.float32]


def kind_of(rgb: NDArray[np.floating], mask: NDArray[np.floating]) -> str:
    """ "relief" for beads and knots, "flat" for thread that lies on the cloth.

    Args:
        rgb: (H, W, 3) in [0, 1], a photo of embroidery.
        mask: (H, W), above 0.5 where the embroidery is.
    """
    return "relief" if roundness(rgb, mask) > RELIEF else "flat"


def roundness(rgb: NDArray[np.floating], mask: NDArray[np.floating]) -> float:
    """How strongly gradients point from all sides at common centres; an even spread gives 1.

    A vote of every edge pixel for the point one radius up and down its gradient (fast radial
    symmetry: Loy, Zelinsky, 2003), counted only as far as the votes for a centre come from all
    directions alike: the sides of threads, squares and crosses agree in pairs or fours, a
    circle's do not.
    """
    part = densest((mask > 0.5).astype(np.float32), SIDE)
    rgb, mask = np.ascontiguousarray(rgb[part]), np.ascontiguousarray(mask[part])
    inside = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if not inside.any():
        return 0.0
    lightness = rgb_to_lab(rgb)[..., 0]
    return max(_at_radius(lightness, inside, radius) for radius in RADII)


def _at_radius(lightness: Map, inside: NDArray[np.bool_], radius: float) -> float:
    """Roundness for things of one radius, the better of bright and dark ones."""
    height, width = inside.shape
    smooth = cv2.GaussianBlur(lightness, (0, 0), max(0.7, 0.18 * radius))
    dx, dy = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    slope = np.hypot(dx, dy)
    # Edges count by how they stand out around, so that shade and shine weigh alike.
    share = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 3.0 * radius)
    usual = cv2.GaussianBlur(slope * inside, (0, 0), 3.0 * radius) / np.maximum(share, 1e-3)
    weight = np.minimum(slope / np.maximum(usual, 1e-3), 2.0) * inside
    weight[weight < 0.6] = 0.0
    rows, columns = np.nonzero(weight)
    if len(rows) < 50:
        return 0.0
    votes, angle = weight[rows, columns], np.arctan2(dy, dx)[rows, columns]
    waves = [(votes * np.cos(k * angle), votes * np.sin(k * angle)) for k in range(5)]
    sigma = max(0.7, 0.22 * radius)
    reach = 2 * max(1, round(0.8 * radius)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    even = float(votes.sum()) / float(inside.sum())
    wanted = max(FEWEST, int(SHARE * inside.sum() / (np.pi * radius * radius)))
    best = 0.0
    for way in (radius, -radius):
        x = np.clip(np.round(columns + way * np.cos(angle)), 0, width - 1).astype(np.intp)
        y = np.clip(np.round(rows + way * np.sin(angle)), 0, height - 1).astype(np.intp)
        place = y * width + x

        def gathered(values: NDArray[np.floating], place: NDArray[np.intp] = place) -> Map:
            flat = np.bincount(place, values, height * width).astype(np.float32)
            return cv2.GaussianBlur(flat.reshape(height, width), (0, 0), sigma)

        count = gathered(votes)
        pure = count.copy()
        for cosine, sine in waves[1:]:
            agreed = np.hypot(gathered(cosine), gathered(sine)) / np.maximum(count, 1e-6)
            pure *= np.clip(1.0 - agreed**2, 0.0, 1.0)
        centres = (pure >= cv2.dilate(pure, disc)) & (pure > 0.0) & inside
        strongest = np.sort(pure[centres])[::-1][:wanted]
        best = max(best, float(strongest.sum()) / wanted / even)
    return best
