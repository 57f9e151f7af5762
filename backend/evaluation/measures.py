"""Measures that need no network: of stitch texture, of colour, and of distance to a true answer.

The paper ("One-shot Embroidery Customization via Contrastive LoRA Modulation", section 5) uses
HFRD and the colour histogram loss. HFRD alone deceives once colours are corrected: a picture
without a stitch can score better than the truth, because losing the design's light and shade
raises the ratio. So absolute band energies, spectrum and orientation stand beside it.

All images are (H, W, 3) float in [0, 1], all masks (H, W), counted where above 0.5. Compare
textures at one scale only: the reference must be the one at training scale (a style's own
reference.png).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.imaging.colour import delta_e, rgb_to_lab
from backend.imaging.edges import orientation

__all__ = [
    "BANDS",
    "band_distance",
    "band_energies",
    "changed_outside",
    "colour_shift",
    "hfrd",
    "high_frequency_ratio",
    "histogram_loss",
    "orientation_distance",
    "psnr",
    "selected",
    "similarity",
    "smooth",
    "spectrum_distance",
    "ssim",
]

Image = NDArray[np.floating]
Mask = NDArray[np.floating] | NDArray[np.bool_] | None

# Periods in pixels; thread is 4 to 12 px wide at the scales the profiles work at.
BANDS = ((2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
# A Gaussian of this many periods halves the amplitude at that period: √(2 ln 2) / 2π. So a wave's
# energy lies mostly in the band between the two cut-offs around its period.
_HALF_AMPLITUDE = 0.18739
_PATCH = 64
_ANGLES = 18


def selected(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask as booleans; all if absent.

    Raises:
        InputError: its size differs from the image's, or it selects nothing.
    """
    if mask is None:
        return np.ones(shape[:2], dtype=bool)
    if mask.shape != shape[:2]:
        raise InputError(
            f"A mask of {mask.shape[1]} × {mask.shape[0]} pixels does not fit its image.",
            "Give a mask of the image's size.",
        )
    inside: NDArray[np.bool_] = mask > 0.5
    if not inside.any():
        raise InputError("The mask selects no pixel.", "Give a mask with some white.")
    return inside


def _same_size(first: Image, second: Image) -> None:
    if first.shape[:2] != second.shape[:2]:
        raise InputError(
            f"Images of {first.shape[1]} × {first.shape[0]} and "
            f"{second.shape[1]} × {second.shape[0]} pixels cannot be compared.",
            "Give images of one size.",
        )


def _lightness(rgb: Image) -> NDArray[np.float32]:
    return np.ascontiguousarray(rgb_to_lab(rgb)[..., 0])


def smooth(
    values: NDArray[np.float32], inside: NDArray[np.bool_], period: float
) -> NDArray[np.float32]:
    """Gaussian low-pass with half amplitude at `period` pixels that sees only what is inside."""
    sigma = _HALF_AMPLITUDE * period
    weight = inside.astype(np.float32)
    share = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    total = cv2.GaussianBlur(values * weight, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return (total / np.maximum(share, 1e-6)).astype(np.float32)


def high_frequency_ratio(rgb: Image, mask: Mask = None, *, period: float = 8.0) -> float:
    """Percentage of the lightness variance that lies in detail finer than `period` pixels.

    The paper's section 5 gives no cut-off; ours is a period of 8 px, so that single threads at
    training scale count and the motif's shapes do not.
    """
    inside = selected(mask, rgb.shape)
    lightness = _lightness(rgb)
    detail = (lightness - smooth(lightness, inside, period))[inside]
    total = float(lightness[inside].var())
    return 100.0 * float(np.mean(detail**2)) / total if total > 1e-6 else 0.0


def hfrd(output: Image, reference: Image, mask: Mask = None, reference_mask: Mask = None) -> float:
    """High-frequency ratio difference to the reference, percentage points; 0 is alike.

    Source: paper, section 5 (HFRD).
    """
    return abs(high_frequency_ratio(output, mask) - high_frequency_ratio(reference, reference_mask))


def band_energies(rgb: Image, mask: Mask = None) -> dict[str, float]:
    """RMS lightness contrast (CIELAB L units) by band of `BANDS`, named such as "4–8 px".

    Absolute, so a smoother design does not count as more stitches.
    """
    inside = selected(mask, rgb.shape)
    lightness = _lightness(rgb)
    smoothed = {period: smooth(lightness, inside, period) for band in BANDS for period in band}
    # Below two pixels there is nothing left to take away.
    smoothed[2.0] = lightness
    energies: dict[str, float] = {}
    for fine, coarse in BANDS:
        band = (smoothed[fine] - smoothed[coarse])[inside]
        energies[f"{fine:.0f}–{coarse:.0f} px"] = float(np.sqrt(np.mean(band**2)))
    return energies


def band_distance(
    output: Image, reference: Image, mask: Mask = None, reference_mask: Mask = None
) -> float:
    """Mean difference of the band energies in octaves: 0 alike, 1 twice or half as strong."""
    ours = np.array(list(band_energies(output, mask).values()))
    theirs = np.array(list(band_energies(reference, reference_mask).values()))
    # A tenth of a lightness unit cannot be seen; below it differences do not matter.
    return float(np.mean(np.abs(np.log2((ours + 0.1) / (theirs + 0.1)))))


def _spectrum(rgb: Image, mask: Mask) -> NDArray[np.float64]:
    """Radial power spectrum of lightness in 12 bands from 1/32 to 1/2 cycles a pixel, summing to 1.

    Welch's method: mean over half-overlapping Hann-windowed patches that lie inside the mask.
    """
    inside = selected(mask, rgb.shape)
    lightness = _lightness(rgb)
    side = min(_PATCH, *lightness.shape)
    share = cv2.blur(
        inside.astype(np.float32), (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    corners = share[: lightness.shape[0] - side + 1, : lightness.shape[1] - side + 1]
    grid = np.argwhere(corners[:: side // 2, :: side // 2] > 0.9) * (side // 2)
    if len(grid) == 0:
        # Small motifs: the one patch that holds most of it.
        grid = np.array([np.unravel_index(int(corners.argmax()), corners.shape)])
    window = np.outer(np.hanning(side), np.hanning(side))
    power = np.zeros((side, side))
    for top, left in grid:
        here = np.s_[top : top + side, left : left + side]
        patch, chosen = lightness[here], inside[here]
        patch = np.where(chosen, patch - patch[chosen].mean(), 0.0)
        power += np.abs(np.fft.fft2(patch * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    edges = np.geomspace(1 / 32, 1 / 2, 13)
    totals, _ = np.histogram(frequency, bins=edges, weights=power)
    counts, _ = np.histogram(frequency, bins=edges)
    bands = totals[counts > 0]
    result: NDArray[np.float64] = bands / max(bands.sum(), 1e-12)
    return result


def spectrum_distance(
    output: Image, reference: Image, mask: Mask = None, reference_mask: Mask = None
) -> float:
    """How differently the detail is spread over scales: RMS over frequency bands, decibels.

    Blind to overall contrast, which `band_distance` measures.
    """
    ours, theirs = _spectrum(output, mask), _spectrum(reference, reference_mask)
    if len(ours) != len(theirs):
        raise InputError(
            "Images under 64 pixels have no comparable spectrum.", "Give larger images."
        )
    decibels = 10.0 * np.log10((ours + 1e-4) / (theirs + 1e-4))
    return float(np.sqrt(np.mean(decibels**2)))


def _orientations(rgb: Image, mask: Mask) -> tuple[NDArray[np.float64], float]:
    """Shares of 18 thread directions, and the share without a direction; together 1."""
    inside = selected(mask, rgb.shape)
    lightness = _lightness(rgb)
    # The motif's own outlines are content: directions are taken from the fine detail.
    detail = np.where(inside, lightness - smooth(lightness, inside, 16.0), 0.0)
    angle, coherence = orientation(detail.astype(np.float32), 6.0)
    bins = np.minimum((angle[inside] / np.pi * _ANGLES).astype(int), _ANGLES - 1)
    shares = np.bincount(bins, weights=coherence[inside], minlength=_ANGLES) / inside.sum()
    return shares, 1.0 - float(shares.sum())


def orientation_distance(
    output: Image, reference: Image, mask: Mask = None, reference_mask: Mask = None
) -> float:
    """How differently stitches lie: 0 alike, 100 nothing in common.

    Half the L1 distance between histograms of thread direction (one more bin holds what has no
    direction), at the rotation that fits best, since stitches turn with the motif.
    """
    ours, our_rest = _orientations(output, mask)
    theirs, their_rest = _orientations(reference, reference_mask)
    directed = min(float(np.abs(np.roll(ours, turn) - theirs).sum()) for turn in range(_ANGLES))
    return 50.0 * (directed + abs(our_rest - their_rest))


def _colour_histogram(rgb: Image, mask: Mask) -> NDArray[np.float64]:
    """RGB-uv histogram, (3, 64, 64) summing to 1 (Afifi et al., HistoGAN, 2021, eq. 1 to 3)."""
    inside = selected(mask, rgb.shape)
    pixels = np.clip(np.asarray(rgb, dtype=np.float64)[inside], 0.0, 1.0)
    # HistoGAN takes 150 × 150 pixels; an even sample has the same histogram.
    pixels = pixels[:: max(1, len(pixels) // 22_500)]
    logs = np.log(pixels + 1e-6)
    weight = np.sqrt((pixels**2).sum(axis=1))
    centres = np.linspace(-3.0, 3.0, 64)
    planes = []
    for channel, (one, other) in enumerate(((1, 2), (0, 2), (0, 1))):
        kernels = [
            1.0 / (1.0 + ((logs[:, channel] - logs[:, by])[:, None] - centres) ** 2 / 0.02**2)
            for by in (one, other)
        ]
        planes.append((kernels[0] * weight[:, None]).T @ kernels[1])
    histogram = np.stack(planes)
    return histogram / max(float(histogram.sum()), 1e-12)


def histogram_loss(
    first: Image, second: Image, mask: Mask = None, second_mask: Mask = None
) -> float:
    """Hellinger distance of colour histograms × 100: 0 the same colours, 100 none in common.

    Source: paper, section 5 (histogram loss), after HistoGAN (Afifi et al., CVPR 2021, eq. 5).
    """
    ours, theirs = _colour_histogram(first, mask), _colour_histogram(second, second_mask)
    return 100.0 * float(np.sqrt(((np.sqrt(ours) - np.sqrt(theirs)) ** 2).sum() / 2.0))


def colour_shift(output: Image, design: Image, mask: Mask = None) -> float:
    """Mean CIEDE2000 between both, blurred over the stitches; about 2 is seen side by side."""
    _same_size(output, design)
    inside = selected(mask, output.shape)
    blurred = []
    for lab in (rgb_to_lab(output), rgb_to_lab(design)):
        channels = [smooth(np.ascontiguousarray(lab[..., c]), inside, 48.0) for c in range(3)]
        blurred.append(np.dstack(channels)[inside])
    return float(delta_e(blurred[0], blurred[1]).mean())


def psnr(output: Image, truth: Image, mask: Mask = None) -> float:
    """Peak signal to noise ratio, decibels; 100 at most, where both are the same."""
    _same_size(output, truth)
    inside = selected(mask, output.shape)
    error = float(np.mean((np.asarray(output, np.float64) - truth)[inside] ** 2))
    return min(100.0, -10.0 * float(np.log10(max(error, 1e-10))))


def ssim(output: Image, truth: Image, mask: Mask = None) -> float:
    """Structural similarity of lightness, 1 where both are the same.

    Source: Wang, Bovik, Sheikh, Simoncelli, 2004 (Gaussian window of 1.5 px, K 0.01 and 0.03).
    """
    _same_size(output, truth)
    inside = selected(mask, output.shape)
    luminance, structure = similarity(_lightness(output), _lightness(truth))
    return float((luminance * structure)[inside].mean())


def similarity(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """SSIM's two factors, of luminance and of contrast and structure, (H, W) each.

    Args:
        first, second: (H, W) lightness, 0 to 100.
    """
    one, other = first.astype(np.float64), second.astype(np.float64)

    def blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mean1, mean2 = blur(one), blur(other)
    var1, var2 = blur(one**2) - mean1**2, blur(other**2) - mean2**2
    covariance = blur(one * other) - mean1 * mean2
    c1, c2 = (0.01 * 100.0) ** 2, (0.03 * 100.0) ** 2
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    return luminance, (2 * covariance + c2) / (var1 + var2 + c2)


def changed_outside(output: Image, source: Image, mask: Mask) -> float:
    """Percentage of pixels outside the mask whose eight-bit colour is not the source's."""
    _same_size(output, source)
    if mask is None:
        return 0.0
    outside = ~(np.asarray(mask, dtype=np.float32) > 0.0)
    if not outside.any():
        return 0.0
    ours, theirs = (np.round(np.clip(each, 0, 1) * 255.0) for each in (output, source))
    return 100.0 * float((ours != theirs).any(axis=-1)[outside].mean())
