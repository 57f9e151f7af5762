"""Edges, ControlNet conditions, and the measure and direction of thread."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import rgb_to_lab

__all__ = [
    "blur",
    "canny",
    "guided_filter",
    "orientation",
    "outline",
    "thread_width",
    "tile_condition",
]

# Thread periods that are looked for, in pixels.
MIN_PERIOD, MAX_PERIOD = 2.5, 40.0
# Local measurements of one size that are enough for a whole picture.
MOST_WINDOWS = 900


def canny(rgb: NDArray[np.floating], low: int = 50, high: int = 100) -> NDArray[np.float32]:
    """Canny edges, the ControlNet condition of the paper's section 3.4 (thresholds 50/100).

    Args:
        rgb: (H, W, 3) in [0, 1].

    Returns:
        (H, W) of 0 and 1.
    """
    image = np.empty(rgb.shape, dtype=np.uint8)
    for row, values in zip(image, rgb):  # large pictures: no copies of more than eight bits
        row[:] = np.round(np.clip(values, 0.0, 1.0) * 255.0)
    edges = cv2.Canny(image, low, high)
    return (edges > 0).astype(np.float32)


def outline(
    rgb: NDArray[np.floating], low: int, high: int, *, drawn: bool = False
) -> NDArray[np.float32]:
    """ControlNet-Canny's condition, (H, W) in [0, 1]: Canny edges, or what is `drawn` already."""
    return np.asarray(rgb, dtype=np.float32).mean(axis=2) if drawn else canny(rgb, low, high)


def guided_filter(
    guide: NDArray[np.floating],
    image: NDArray[np.floating],
    *,
    radius: int,
    epsilon: float,
    scale: int = 1,
) -> NDArray[np.float32]:
    """Smooth `image` where the grey `guide` is smooth (He, Sun: fast guided filter, 2015).

    Args:
        guide: (H, W).
        image: (H, W) or (H, W, C).
        radius: box radius in pixels of the full size.
        epsilon: variance of the guide below which it counts as smooth.
        scale: the coefficients are computed on an image this many times smaller.
    """
    full_guide = np.asarray(guide, dtype=np.float32)
    full_image = np.asarray(image, dtype=np.float32)
    if full_image.ndim == 3:
        layers = [
            guided_filter(guide, full_image[..., c], radius=radius, epsilon=epsilon, scale=scale)
            for c in range(full_image.shape[2])
        ]
        return np.dstack(layers)
    height, width = full_guide.shape
    size = (max(1, width // scale), max(1, height // scale))
    small_guide = cv2.resize(full_guide, size, interpolation=cv2.INTER_AREA)
    small_image = cv2.resize(full_image, size, interpolation=cv2.INTER_AREA)
    box = (2 * max(1, round(radius / scale)) + 1,) * 2

    def mean(values: NDArray[np.floating]) -> NDArray[np.float32]:
        return cv2.blur(values, box, borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_image = mean(small_guide), mean(small_image)
    covariance = mean(small_guide * small_image) - mean_guide * mean_image
    variance = mean(small_guide * small_guide) - mean_guide * mean_guide
    slope = covariance / (variance + epsilon)
    offset = mean_image - slope * mean_guide
    full = (width, height)
    slope = cv2.resize(mean(slope), full, interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(mean(offset), full, interpolation=cv2.INTER_LINEAR)
    return (slope * full_guide + offset).astype(np.float32)


def blur(rgb: NDArray[np.floating], window: int) -> NDArray[np.float32]:
    """Gaussian blur 15 at the paper's 1024 px, as much less as `window` is smaller.

    Args:
        rgb: (H, W, 3).
        window: side of the model's window in pixels.
    """
    size = max(3, round(15 * window / 1024.0) | 1)
    image = np.ascontiguousarray(rgb, dtype=np.float32)
    found = cv2.GaussianBlur(image, (size, size), 0, borderType=cv2.BORDER_REFLECT)
    return np.asarray(found, dtype=np.float32)


def tile_condition(rgb: NDArray[np.floating], window: int) -> NDArray[np.float32]:
    """Blurred image that keeps colours: the ControlNet-Tile condition.

    Gaussian blur 15 and a fast guided filter (radius 5, epsilon 0.4, scale 4) as in the paper's
    released code, sizes scaled from its 1024 px to `window`.

    Args:
        rgb: (H, W, 3) in [0, 1].
        window: side of the model's window in pixels.
    """
    scale = window / 1024.0
    blurred = blur(rgb, window)
    guide = blurred.mean(axis=2)
    radius = max(1, round(5 * scale))
    filtered = guided_filter(
        guide, blurred, radius=radius, epsilon=0.4, scale=max(1, round(4 * scale))
    )
    return np.clip(filtered, 0.0, 1.0).astype(np.float32)


def orientation(
    lightness: NDArray[np.floating], sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Direction of the texture from the smoothed structure tensor.

    Args:
        lightness: (H, W), any unit.
        sigma: radius of averaging in pixels.

    Returns:
        angle (H, W) of the thread (along it) in [0, π), x to the right and y down; and
        coherence (H, W) in [0, 1]: 0 without a direction, 1 for parallel lines.
    """
    image = np.asarray(lightness, dtype=np.float32)
    dx = cv2.Scharr(image, cv2.CV_32F, 1, 0)
    dy = cv2.Scharr(image, cv2.CV_32F, 0, 1)

    def mean(values: NDArray[np.floating]) -> NDArray[np.float32]:
        return cv2.GaussianBlur(values, (0, 0), sigma)

    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    across = 0.5 * np.arctan2(2.0 * xy, xx - yy)
    along = (across + np.pi / 2) % np.pi
    total = xx + yy
    coherence = np.hypot(xx - yy, 2.0 * xy) / np.maximum(total, 1e-9)
    return along.astype(np.float32), np.where(total > 1e-9, coherence, 0.0).astype(np.float32)


def _correlation_peak(profile: NDArray[np.float64]) -> tuple[float, float]:
    """First maximum after the first minimum of an autocorrelation: (lag, prominence)."""
    rising = np.flatnonzero(np.diff(profile) > 0)
    if rising.size == 0:
        return 0.0, 0.0
    valley = int(rising[0])
    falling = np.flatnonzero(np.diff(profile[valley:]) < 0)
    if falling.size == 0:
        return 0.0, 0.0
    peak = valley + int(falling[0])
    left, centre, right = profile[peak - 1 : peak + 2]
    bend = left - 2.0 * centre + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return peak + float(shift), float(profile[peak] - profile[valley])


def _local_periods(
    lightness: NDArray[np.float32], inside: NDArray[np.bool_], window: int
) -> list[tuple[float, float]]:
    """(period, weight) of every window that is mostly `inside`, across its dominant direction."""
    height, width = lightness.shape
    step = max(window // 2, 8)
    taper = np.outer(np.hanning(window + 2)[1:-1], np.hanning(window + 2)[1:-1])
    overlap = np.fft.irfft2(np.abs(np.fft.rfft2(taper, (2 * window, 2 * window))) ** 2)
    lags = np.arange(0.0, window / 2.0, 0.5)
    found: list[tuple[float, float]] = []
    share = cv2.integral(inside.astype(np.uint8)) / float(window * window)
    tops = np.arange(0, height - window + 1, step)[:, None]
    lefts = np.arange(0, width - window + 1, step)[None]
    bottoms, rights = tops + window, lefts + window
    cover = share[bottoms, rights] - share[tops, rights] - share[bottoms, lefts]
    spots = np.argwhere(cover + share[tops, lefts] >= 0.7) * step
    if len(spots) > MOST_WINDOWS:  # spread evenly over all
        spots = spots[np.linspace(0, len(spots) - 1, MOST_WINDOWS).astype(np.intp)]
    for top, left in spots.tolist():
        here = np.s_[top : top + window, left : left + window]
        tile = lightness[here].astype(np.float64)
        tile = (tile - np.average(tile, weights=taper)) * taper
        energy = float((tile**2).sum() / (taper**2).sum())
        if energy < 0.5:
            continue
        spectrum = np.abs(np.fft.rfft2(tile, (2 * window, 2 * window))) ** 2
        correlation = np.fft.irfft2(spectrum) / np.maximum(overlap, overlap[0, 0] * 0.05)
        correlation /= correlation[0, 0]
        dy, dx = np.gradient(tile)
        angle = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx * dx).sum() - (dy * dy).sum())
        xs, ys = lags * np.cos(angle), lags * np.sin(angle)
        table = np.fft.fftshift(correlation).astype(np.float32)
        profile = cv2.remap(
            table,
            (xs + window).astype(np.float32)[None],
            (ys + window).astype(np.float32)[None],
            cv2.INTER_CUBIC,
        )[0].astype(np.float64)
        lag, prominence = _correlation_peak(profile)
        if lag > 0.0 and prominence > 0.08:
            found.append((lag / 2.0, prominence * np.sqrt(energy)))
    return found


def thread_width(rgb: NDArray[np.floating], mask: NDArray[np.floating] | None = None) -> float:
    """Period of the dominant stitch texture: what one thread takes, in pixels.

    In local windows the autocorrelation of lightness is read across the dominant direction; its
    first peak is the period there. The strongest agreement among windows of several sizes wins.

    Args:
        rgb: (H, W, 3) in [0, 1].
        mask: (H, W), above 0.5 where the embroidery is; everywhere if absent.

    Returns:
        pixels; 0.0 where no periodic texture is found.
    """
    lightness = rgb_to_lab(rgb)[..., 0]
    inside = np.ones(lightness.shape, dtype=bool) if mask is None else mask > 0.5
    if not inside.any():
        return 0.0
    grid = np.geomspace(MIN_PERIOD, MAX_PERIOD, 96)
    votes = np.zeros_like(grid)
    for window in (24, 48, 96):
        if window > min(lightness.shape):
            break
        sigma = window / 4.0
        detail = lightness - cv2.GaussianBlur(lightness, (0, 0), sigma)
        periods = _local_periods(detail, inside, window)
        if not periods:
            continue
        size = 0.0
        here = np.zeros_like(grid)
        for period, weight in periods:
            here += weight * np.exp(-0.5 * (np.log(grid / max(period, 1.0)) / 0.12) ** 2)
            size += weight
        votes += here / np.sqrt(size)
    if votes.max() <= 0.0:
        return 0.0
    return float(grid[int(votes.argmax())])
