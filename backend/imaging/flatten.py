"""A flat design from a photo of an embroidery, without any model."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb, rgb_to_lab
from backend.imaging.edges import guided_filter, thread_width

__all__ = ["colour_regions", "flatten", "smooth"]

# Clusters nearer than this in CIELAB are one colour of thread in light and shade.
SAME_COLOUR = 11.0
# Lightness counts less than hue: sheen changes lightness, thread colour changes both.
LIGHTNESS_WEIGHT = 0.75
WORK_SIDE = 640
# What is finer than this share of a picture's side is the brush's; passes that take it away.
STROKE, PASSES = 1.0 / 48.0, 3
WORK_THREAD = 2.6
# Pixels of the shrunken photo: about two threads by two.
SMALLEST_REGION = 30.0


def _work_scale(height: int, width: int, thread: float) -> float:
    """Shrink so that a thread is about `WORK_THREAD` pixels, and no more than needed for speed."""
    scale = min(1.0, WORK_SIDE / max(height, width))
    if thread > 0.0:
        scale = min(scale, max(WORK_THREAD / thread, 256 / max(height, width)))
    return scale


def _palette(lab: NDArray[np.float32], most: int, seed: int) -> NDArray[np.float32]:
    """Few distinct colours: k-means, then merging of those nearer than `SAME_COLOUR`."""
    samples = lab.reshape(-1, 3)
    rng = np.random.default_rng(seed)
    if len(samples) > 20_000:
        samples = samples[rng.choice(len(samples), 20_000, replace=False)]
    centres = samples[rng.integers(len(samples))][None]
    # k-means++ with the farthest sample among few: deterministic and finds small colours.
    for _ in range(most + 3):
        distance = ((samples[:, None] - centres[None]) ** 2).sum(-1).min(1)
        if distance.max() < SAME_COLOUR**2 / 4:
            break
        weight = distance / distance.sum()
        centres = np.vstack([centres, samples[rng.choice(len(samples), p=weight)]])
    for _ in range(12):
        nearest = ((samples[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        used = np.unique(nearest)
        centres = np.stack([samples[nearest == k].mean(0) for k in used])
    nearest = ((samples[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    counts = np.bincount(nearest, minlength=len(centres)).astype(np.float64)
    while len(centres) > 1:
        apart = np.sqrt(((centres[:, None] - centres[None]) ** 2).sum(-1))
        np.fill_diagonal(apart, np.inf)
        first, second = np.unravel_index(int(apart.argmin()), apart.shape)
        if apart[first, second] >= SAME_COLOUR and len(centres) <= most:
            break
        total = counts[first] + counts[second]
        centres[first] = (centres[first] * counts[first] + centres[second] * counts[second]) / max(
            total, 1.0
        )
        counts[first] = total
        centres, counts = np.delete(centres, second, 0), np.delete(counts, second)
    return centres.astype(np.float32)


def _assign(lab: NDArray[np.float32], palette: NDArray[np.float32]) -> NDArray[np.int32]:
    """Label of every pixel, smoothed: each label's likelihood is averaged over a neighbourhood."""
    distance = ((lab[:, :, None] - palette[None, None]) ** 2).sum(-1)
    likelihood = np.exp(-distance / (2 * 9.0**2)).astype(np.float32)
    likelihood /= likelihood.sum(-1, keepdims=True) + 1e-6
    smooth = np.dstack([cv2.medianBlur(likelihood[..., k], 5) for k in range(len(palette))])
    smooth = np.dstack([cv2.GaussianBlur(smooth[..., k], (0, 0), 1.0) for k in range(len(palette))])
    return smooth.argmax(-1).astype(np.int32)


def _merge_small(
    labels: NDArray[np.int32], palette: NDArray[np.float32], smallest: float
) -> NDArray[np.int32]:
    """Give regions under `smallest` pixels to the neighbour they share most border with."""
    result = labels.copy()
    for _ in range(3):
        changed = False
        for value in range(len(palette)):
            count, parts, stats, _ = cv2.connectedComponentsWithStats(
                (result == value).astype(np.uint8), connectivity=8
            )
            for part in range(1, count):
                if stats[part, cv2.CC_STAT_AREA] >= smallest:
                    continue
                x, y, w, h = stats[part, :4]
                x0, y0 = max(x - 1, 0), max(y - 1, 0)
                box = np.s_[y0 : y + h + 1, x0 : x + w + 1]
                own = parts[box] == part
                ring = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
                around = result[box][ring & ~own]
                if around.size:
                    result[box][own] = np.bincount(around).argmax()
                    changed = True
        if not changed:
            break
    return result


def colour_regions(
    rgb: NDArray[np.floating],
    mask: NDArray[np.floating] | None = None,
    *,
    colours: int = 10,
    thread: float | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Regions of one thread colour each.

    Args:
        rgb: (H, W, 3) photo.
        mask: (H, W) art in the photo; art and cloth get colours of their own.
        colours: most colours the art may have.
        thread: thread width in pixels; measured if absent.

    Returns:
        labels (H, W) of palette rows, and palette (K, 3) in CIELAB.
    """
    height, width = rgb.shape[:2]
    art = np.ones((height, width), dtype=bool) if mask is None else mask > 0.5
    if thread is None:
        thread = thread_width(rgb, mask)
    scale = _work_scale(height, width, thread)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(
        np.ascontiguousarray(rgb, dtype=np.float32), size, interpolation=cv2.INTER_AREA
    )
    inside = cv2.resize(art.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    lab = rgb_to_lab(small)
    lab = np.dstack([cv2.medianBlur(np.ascontiguousarray(lab[..., c]), 5) for c in range(3)])
    for _ in range(4):
        lab = cv2.bilateralFilter(lab, 9, 16.0, 2.5)
    weights = np.array([LIGHTNESS_WEIGHT, 1.0, 1.0], dtype=np.float32)
    weighted = lab * weights
    labels = np.zeros(inside.shape, dtype=np.int32)
    palettes: list[NDArray[np.float32]] = []
    for part, most in ((inside, colours), (~inside, 2)):
        if part.any():
            palette = _palette(weighted[part], most, seed)
            offset = sum(len(each) for each in palettes)
            labels = np.where(part, _assign(weighted, palette) + offset, labels)
            palettes.append(palette)
    palette = np.concatenate(palettes) / weights
    labels = _merge_small(labels, palette, smallest=SMALLEST_REGION)
    return _enlarge(labels, len(palette), height, width), palette


def _enlarge(labels: NDArray[np.int32], count: int, height: int, width: int) -> NDArray[np.int32]:
    """Upsample labels with smooth boundaries: blurred indicator of each, the largest wins."""
    best = np.full((height, width), -1.0, dtype=np.float32)
    result = np.zeros((height, width), dtype=np.int32)
    for value in range(count):
        indicator = cv2.GaussianBlur((labels == value).astype(np.float32), (0, 0), 0.9)
        full = cv2.resize(indicator, (width, height), interpolation=cv2.INTER_CUBIC)
        wins = full > best
        best[wins] = full[wins]
        result[wins] = value
    return result


def flatten(
    rgb: NDArray[np.floating],
    mask: NDArray[np.floating] | None = None,
    *,
    colours: int = 10,
    thread: float | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """The photo as flat artwork: few even colours, clean boundaries, no stitches.

    The fallback of the paper's section 3.1 (embroidery to design) that needs no model.

    Args:
        rgb: (H, W, 3) in [0, 1].
        mask: (H, W) art in the photo, if known.
        colours: most colours the art may have.
        thread: thread width in pixels; measured if absent.

    Returns:
        (H, W, 3) in [0, 1].
    """
    labels, palette = colour_regions(rgb, mask, colours=colours, thread=thread, seed=seed)
    lab = rgb_to_lab(rgb)
    fill = palette.copy()
    for value in range(len(palette)):
        here = labels == value
        if here.any():
            fill[value] = lab[here].mean(axis=0)
    flat = fill[labels]
    # Half a pixel of blur stands for the anti-aliasing of drawn artwork.
    return cv2.GaussianBlur(lab_to_rgb(flat), (0, 0), 0.6)


def smooth(rgb: NDArray[np.floating]) -> NDArray[np.float32]:
    """A painting as if it were a photo: light and shade stay, the brush's traces go.

    Args:
        rgb: (H, W, 3) in [0, 1].

    Returns:
        (H, W, 3) in [0, 1].
    """
    radius = max(2, round(STROKE * max(rgb.shape[:2])))
    plain = np.asarray(rgb, dtype=np.float32)
    for _ in range(PASSES):
        # The guide loses its own finest traces first, or they would guide themselves.
        guide = cv2.GaussianBlur(plain.mean(axis=2), (0, 0), radius / 4.0)
        plain = guided_filter(guide, plain, radius=radius, epsilon=0.004)
    return np.clip(plain, 0.0, 1.0)
