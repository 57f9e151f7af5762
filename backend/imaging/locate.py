"""Finds the embroidered motif in a photo as people take them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import rgb_to_lab
from backend.imaging.masks import bounding_box, remove_specks

__all__ = ["locate_motif"]

WORK_SIDE = 320
# Share of the motif's size that the crop keeps around it.
MARGIN = 0.08


def _features(rgb: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lab smoothed over the stitches with local contrast as a fourth channel; and size scale."""
    height, width = rgb.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    lab = rgb_to_lab(rgb)
    sigma = 0.5 / scale
    detail = lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 2.0 + sigma)
    contrast = cv2.resize(np.abs(detail), size, interpolation=cv2.INTER_AREA)
    contrast = cv2.GaussianBlur(contrast, (0, 0), 2.0)
    small = cv2.resize(lab, size, interpolation=cv2.INTER_AREA)
    smooth = cv2.bilateralFilter(small, 7, 18.0, 2.5)
    return np.dstack([smooth * (0.6, 1.0, 1.0), contrast * 1.5]).astype(np.float32), small


def _border_distance(
    features: NDArray[np.float32], region: NDArray[np.bool_], frame: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Distance of every pixel to the colours that make up the frame of the region."""
    samples = np.ascontiguousarray(features[frame & region])
    clusters = min(5, max(1, len(samples) // 20))
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    cv2.setRNGSeed(0)
    _, labels, centres = cv2.kmeans(samples, clusters, None, criteria, 2, cv2.KMEANS_PP_CENTERS)
    distance = np.full(features.shape[:2], np.inf, dtype=np.float32)
    for index in range(clusters):
        members = samples[labels[:, 0] == index]
        # A colour that takes a sliver of the frame is the motif running out of the picture.
        if len(members) < 0.06 * len(samples):
            continue
        spread = members.std(axis=0) + 3.0
        here = np.sqrt((((features - centres[index]) / spread) ** 2).mean(-1))
        distance = np.minimum(distance, here)
    return distance


def _segment(
    features: NDArray[np.float32], small: NDArray[np.float32], region: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """What differs from the cloth at the region's frame, cleaned up by GrabCut."""
    inner = (
        cv2.erode(
            region.astype(np.uint8),
            np.ones((15, 15), np.uint8),
            borderType=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        > 0
    )
    frame = region & ~inner
    distance = _border_distance(features, region, frame)
    threshold = _otsu(distance[region])
    sure = distance > threshold * 1.5
    likely = distance > threshold
    seeds = np.full(region.shape, cv2.GC_PR_BGD, dtype=np.uint8)
    seeds[likely] = cv2.GC_PR_FGD
    seeds[sure & inner] = cv2.GC_FGD
    seeds[(distance < threshold * 0.4) | ~region] = cv2.GC_BGD
    if not (seeds == cv2.GC_FGD).any() or not (seeds == cv2.GC_BGD).any():
        return likely & region
    image = np.clip(
        np.dstack([small[..., 0] * 2.2, small[..., 1] + 128.0, small[..., 2] + 128.0]), 0, 255
    ).astype(np.uint8)
    cv2.setRNGSeed(0)
    cv2.grabCut(image, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    return ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)) & region


def _light(lightness: NDArray[np.float32], cloth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Departure of the cloth's lightness from its mean, as a quadratic surface."""
    height, width = lightness.shape
    if cloth.mean() < 0.1:
        return np.zeros_like(lightness)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
    rows, values = terms[cloth], lightness[cloth]
    weight = np.ones(len(values))
    for _ in range(5):
        scaled = rows * weight[:, None]
        surface = np.linalg.lstsq(scaled, values * weight, rcond=None)[0]
        off = np.abs(values - rows @ surface)
        weight = 1.0 / np.maximum(off / max(float(np.median(off)), 1.0), 1.0)
    return (terms @ surface - float(np.median(values))).astype(np.float32)


def _otsu(values: NDArray[np.float32]) -> float:
    """Threshold between near and far, kept within what a colour difference can mean."""
    top = float(np.percentile(values, 99.5))
    scaled = np.clip(values / max(top, 1e-6) * 255.0, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    return float(np.clip(level / 255.0 * top, 1.6, 4.0))


def locate_motif(
    rgb: NDArray[np.floating],
) -> tuple[tuple[int, int, int, int], NDArray[np.float32]]:
    """Find the embroidery among cloth, hoop and table.

    Cloth is what the frame of the picture shows; the motif is what differs from it in colour or
    in texture. A photo that is embroidery all over comes back whole.

    Args:
        rgb: (H, W, 3) in [0, 1].

    Returns:
        crop box (x0, y0, x1, y1) around the motif with a margin, ends exclusive; and the mask
        (H, W) of the whole photo, 1 on art and 0 on cloth.
    """
    height, width = rgb.shape[:2]
    features, small = _features(rgb)
    everywhere = np.ones(features.shape[:2], dtype=bool)
    art = _segment(features, small, everywhere)
    # Light falls off across real photos: level it on the cloth found so far, then look again.
    for _ in range(2):
        light = _light(
            small[..., 0], ~cv2.dilate(art.astype(np.uint8), np.ones((7, 7))).astype(bool)
        )
        level, even = features.copy(), small.copy()
        level[..., 0] -= 0.6 * light
        even[..., 0] = np.clip(even[..., 0] - light, 0.0, 100.0)
        art = _segment(level, even, everywhere)
    # A gap within the motif belongs to it: open fills, and thread of the cloth's colour.
    art = remove_specks(art, art.size * 4e-4, art.sum() * 0.012)
    if not 0.005 < art.mean() < 0.95:
        return (0, 0, width, height), np.ones((height, width), dtype=np.float32)
    soft = cv2.GaussianBlur(art.astype(np.float32), (0, 0), 0.8)
    mask = (cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5).astype(
        np.float32
    )
    x0, y0, x1, y1 = bounding_box(mask)
    margin = round(MARGIN * max(x1 - x0, y1 - y0))
    box = (
        max(0, x0 - margin),
        max(0, y0 - margin),
        min(width, x1 + margin),
        min(height, y1 + margin),
    )
    return box, mask
