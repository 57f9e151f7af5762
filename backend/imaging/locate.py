"""Finds the embroidered motif in a photo as people take them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import rgb_to_lab
from backend.imaging.hoop import inside_hoop
from backend.imaging.masks import bounding_box, remove_specks

__all__ = ["locate_motif"]

WORK_SIDE = 360
# Share of the motif's size that the crop keeps around it.
MARGIN = 0.08
# Least spread of one kind of cloth in L, a, b and logarithm of detail: noise and JPEG.
FLOOR = (4.0, 3.0, 3.0, 0.3)
# A kind of cloth that takes less of the frame than this is the motif running out of the picture.
KIND = 0.06
# Departure from the cloth, in its spreads, that can mean thread; Otsu's choice is kept between.
LEAST, MOST = 3.2, 5.5
# The same for the mean of a whole enclosed area, in which noise has averaged out.
ENCLOSED = 2.6
# Detail varies so much less within two classes than over the picture, if they are two at all.
BIMODAL = 0.68
# Logarithm of how much more detail the sharp class must have.
SHARPER = 0.7

Map = NDArray[np.float32]


def _features(rgb: NDArray[np.floating]) -> Map:
    """(h, w, 4) at work size: Lab smoothed over the stitches, and the logarithm of detail."""
    height, width = rgb.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    lab = rgb_to_lab(rgb)
    fine = lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 1.5 / scale)
    energy = cv2.resize(fine * fine, size, interpolation=cv2.INTER_AREA)
    detail = np.log1p(np.sqrt(cv2.GaussianBlur(energy, (0, 0), 1.5)))
    # Averaging carried a motif's detail beyond its edge; taking the least brings it back.
    detail = cv2.erode(detail, np.ones((5, 5), np.uint8))
    smooth = cv2.bilateralFilter(cv2.resize(lab, size, interpolation=cv2.INTER_AREA), 5, 14.0, 2.0)
    return np.dstack([smooth, detail]).astype(np.float32)


def _frame(height: int, width: int) -> NDArray[np.bool_]:
    """The picture's rim."""
    rim = max(3, round(0.04 * min(height, width)))
    frame = np.ones((height, width), dtype=bool)
    frame[rim:-rim, rim:-rim] = False
    return frame


def _shrunk(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """An area without its rim."""
    rim = max(3, round(0.06 * float(np.sqrt(area.sum()))))
    return cv2.erode(area.astype(np.uint8), np.ones((2 * rim + 1,) * 2, np.uint8)) > 0


def _departure(features: Map, ground: NDArray[np.bool_]) -> Map:
    """How far every pixel is from the kinds of cloth in `ground`, in their spreads, (h, w)."""
    floor = np.array(FLOOR, dtype=np.float32)
    scaled = np.ascontiguousarray(features / floor)
    samples = scaled[ground]
    kinds = min(5, max(1, len(samples) // 40))
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.05)
    cv2.setRNGSeed(0)
    _, labels, centres = cv2.kmeans(samples, kinds, None, criteria, 2, cv2.KMEANS_PP_CENTERS)
    nearest = np.full(features.shape[:2], np.inf, dtype=np.float32)
    for index in range(kinds):
        members = samples[labels[:, 0] == index]
        if len(members) < KIND * len(samples):
            continue
        spread = members.std(axis=0) + 1.0
        here = np.sqrt((((scaled - centres[index]) / spread) ** 2).sum(-1))
        nearest = np.minimum(nearest, here)
    return nearest


def _light(lightness: Map, cloth: NDArray[np.bool_]) -> Map:
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


def _otsu(values: Map) -> tuple[float, float]:
    """Threshold between low and high, and the share of variance that the two classes explain."""
    low, high = (float(each) for each in np.percentile(values, (0.5, 99.5)))
    if high - low < 1e-6:
        return high, 0.0
    scaled = np.clip((values - low) / (high - low) * 255.0, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    above = scaled > level
    share = float(above.mean())
    if not 0.0 < share < 1.0:
        return high, 0.0
    apart = float(scaled[above].mean()) - float(scaled[~above].mean())
    between = share * (1.0 - share) * apart**2 / max(float(scaled.var()), 1e-6)
    return low + (level + 0.5) / 255.0 * (high - low), between


def _clean(departure: Map) -> NDArray[np.bool_]:
    """What departs enough; weak parts count where they hang on strong ones."""
    # What is far off is equally far: else a bright motif hides a pale one from Otsu.
    level, _ = _otsu(np.minimum(departure, 3.0 * MOST))
    level = float(np.clip(level, LEAST, MOST))
    likely = (departure > 0.8 * level).astype(np.uint8)
    _, parts = cv2.connectedComponents(likely, connectivity=8)
    strong = np.zeros(int(parts.max()) + 1, dtype=bool)
    strong[np.unique(parts[departure > 1.4 * level])] = True
    strong[0] = False
    # Gaps between the threads of an open fill are closed, gaps between motifs are not.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return cv2.morphologyEx(strong[parts].astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0


def _enclosed(
    features: Map, art: NDArray[np.bool_], ground: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Areas that the motif encloses and that are not the cloth seen around it, at `ground`.

    White thread on white cloth shows no edge, but over an area its mean and detail tell.
    """
    _, parts = cv2.connectedComponents((inside & ~art).astype(np.uint8), connectivity=4)
    outer = np.unique(parts[ground & ~art])
    outside = np.isin(parts, outer[outer > 0])
    found = np.zeros_like(art)
    near = cv2.dilate(art.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if (outside & ~near).mean() < 0.02:
        return found
    # Neighbours' thread must not count as the area's own detail: means are of the clear middle.
    window = (15, 15)
    clear = (outside & ~near).astype(np.float32)
    share = cv2.blur(clear, window)
    pooled = cv2.blur(features * clear[..., None], window) / np.maximum(share, 1e-3)[..., None]
    means = pooled[(share > 0.5) & outside]
    if len(means) < 40:
        means = features[outside & ~near]
    samples = means[:: max(1, len(means) // 2000)]
    spread = np.maximum(samples.std(axis=0) * 0.5, np.array(FLOOR) * 0.6)
    for part in np.unique(parts[inside & ~art & ~outside]):
        here = parts == part
        middle = here & ~near
        if middle.sum() < 12:
            continue
        mean = features[middle].mean(axis=0)
        off = np.sqrt((((samples - mean) / spread) ** 2).sum(-1)).min()
        if off > ENCLOSED:
            found |= here
    return found


def _by_detail(detail: Map) -> NDArray[np.bool_]:
    """Where thread is in focus, if the picture clearly has such parts and others."""
    smooth = cv2.GaussianBlur(detail, (0, 0), 3.0)
    level, explained = _otsu(smooth)
    rich = smooth > level
    if explained < BIMODAL or smooth[rich].mean() - smooth[~rich].mean() < SHARPER:
        return np.ones(detail.shape, dtype=bool)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    rich = cv2.morphologyEx(rich.astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0
    return remove_specks(rich, 0.02 * rich.size)


def locate_motif(
    rgb: NDArray[np.floating],
) -> tuple[tuple[int, int, int, int], NDArray[np.float32]]:
    """Find the embroidery among cloth, hoop and table.

    Cloth is what the frame of the picture shows; the motif is what differs from it in colour or
    in detail. Where the embroidery runs out of the picture all around, its sharp part is taken;
    a photo that is embroidery all over comes back whole.

    Args:
        rgb: (H, W, 3) in [0, 1].

    Returns:
        crop box (x0, y0, x1, y1) around the motif with a margin, ends exclusive; and the mask
        (H, W) of the whole photo, 1 on art and 0 on cloth.
    """
    height, width = rgb.shape[:2]
    features = _features(rgb)
    inside = np.ones(features.shape[:2], dtype=bool)
    ground = _frame(*features.shape[:2])
    art = _clean(_departure(features, ground))
    within = inside_hoop(rgb, art)
    if within is not None:
        inside, ground = within, within & ~_shrunk(within)
        art = _clean(_departure(features, ground)) & inside
    level = features.copy()
    # Light falls off across real photos: level it on the cloth found so far, then look again.
    for _ in range(2):
        cloth = cv2.dilate(art.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
        cloth &= inside
        level[..., 0] = features[..., 0] - _light(features[..., 0], cloth)
        art = _clean(_departure(level, ground & cloth if (ground & cloth).any() else ground))
        art &= inside
    art |= _enclosed(level, art, ground, inside)
    # A gap within the motif belongs to it: open fills, and thread of the cloth's colour.
    art = remove_specks(art, art.size * 4e-4, art.sum() * 0.012)
    if art.mean() < 0.005:
        art = _by_detail(features[..., 3])
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
