"""The measures of a report: what each is called, means and comes from; and all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.evaluation import measures
from backend.imaging.files import read_mask, read_rgba

__all__ = ["MEASURES", "Comparison", "Measure", "measure"]

# Larger pictures are measured on a crop: thread does not change from place to place.
LARGEST = 1536


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measure as a report explains it.

    Attributes:
        better: "lower" or "higher".
        source: where the definition is from.
    """

    name: str
    title: str
    unit: str
    better: str
    meaning: str
    source: str


_PAPER = "paper, section 5"
_OWN = "this project"

MEASURES = (
    Measure(
        name="hfrd",
        title="HFRD",
        unit="points",
        better="lower",
        meaning="difference to the reference in the share of contrast that is finer than 8 px; "
        "deceives by itself, since a design that loses its light and shade gains share",
        source=_PAPER,
    ),
    Measure(
        name="band_distance",
        title="Band energy distance",
        unit="octaves",
        better="lower",
        meaning="difference to the reference in absolute contrast, mean over four bands from 2 to "
        "32 px; 1 is twice or half as strong",
        source=_OWN,
    ),
    Measure(
        name="spectrum_distance",
        title="Spectrum distance",
        unit="dB",
        better="lower",
        meaning="difference to the reference in how detail is spread over scales",
        source=_OWN,
    ),
    Measure(
        name="orientation_distance",
        title="Stitch direction distance",
        unit="%",
        better="lower",
        meaning="difference to the reference in the share of threads by direction, at the rotation "
        "that fits best",
        source=_OWN,
    ),
    Measure(
        name="histogram_design",
        title="Histogram loss to the design",
        unit="",
        better="lower",
        meaning="Hellinger distance × 100 of the colour histograms: 0 is the same colours",
        source=f"{_PAPER}; HistoGAN (2021)",
    ),
    Measure(
        name="histogram_reference",
        title="Histogram loss to the reference",
        unit="",
        better="higher",
        meaning="the same to the reference: its colours should not come along",
        source=f"{_PAPER}; HistoGAN (2021)",
    ),
    Measure(
        name="colour_shift",
        title="Colour shift",
        unit="ΔE00",
        better="lower",
        meaning="colour difference to the design, both blurred over the stitches; "
        "about 2 is seen side by side",
        source="CIEDE2000",
    ),
    Measure(
        name="changed_outside",
        title="Changed outside the mask",
        unit="% of pixels",
        better="lower",
        meaning="pixels outside the mask that are not exactly as they were",
        source=_OWN,
    ),
    Measure(
        name="psnr",
        title="PSNR to the true answer",
        unit="dB",
        better="higher",
        meaning="peak signal to noise ratio, where the true embroidery is known",
        source="common",
    ),
    Measure(
        name="ssim",
        title="SSIM to the true answer",
        unit="",
        better="higher",
        meaning="structural similarity, where the true embroidery is known",
        source="Wang et al. (2004)",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Files to measure a result by; all but `reference` and its mask have one size.

    Attributes:
        label: what the result is, such as "trained".
        image: the result.
        design: the flat artwork it was made from.
        reference: the reference embroidery at training scale (a style's reference.png).
        mask: white where the design was embroidered; the design's alpha if absent.
        reference_mask: white where the reference shows embroidery (a style's mask.png).
        truth: the true embroidery of the design, if known.
        baseline: shown for comparison only, such as the plain design, which keeps its own colours
            best; never marked as the best of a row.
    """

    label: str
    image: str
    design: str
    reference: str
    mask: str | None = None
    reference_mask: str | None = None
    truth: str | None = None
    baseline: bool = False


def measure(comparison: Comparison, folder: Path = Path()) -> Mapping[str, float]:
    """Every measure that the comparison's files allow, by name.

    Args:
        folder: what relative paths start from.

    Raises:
        InputError: a file cannot be read, or sizes do not fit.
    """
    design_rgba = read_rgba(folder / comparison.design)
    design, output = design_rgba[..., :3], read_rgba(folder / comparison.image)[..., :3]
    mask = (
        read_mask(folder / comparison.mask, design.shape[:2])
        if comparison.mask
        else np.ascontiguousarray(design_rgba[..., 3])
    )
    reference = read_rgba(folder / comparison.reference)[..., :3]
    art = (
        read_mask(folder / comparison.reference_mask, reference.shape[:2])
        if comparison.reference_mask
        else None
    )
    changed = measures.changed_outside(output, design, mask)
    truth = read_rgba(folder / comparison.truth)[..., :3] if comparison.truth else None
    here = _crop(mask)
    if output.shape == design.shape:
        output, design, mask = output[here], design[here], mask[here]
        truth = truth[here] if truth is not None else None
    against = (output, reference, mask, art)
    values = {
        "hfrd": measures.hfrd(*against),
        "band_distance": measures.band_distance(*against),
        "spectrum_distance": measures.spectrum_distance(*against),
        "orientation_distance": measures.orientation_distance(*against),
        "histogram_design": measures.histogram_loss(output, design, mask, mask),
        "histogram_reference": measures.histogram_loss(*against),
        "colour_shift": measures.colour_shift(output, design, mask),
        "changed_outside": changed,
    }
    if truth is not None:
        values |= {
            "psnr": measures.psnr(output, truth, mask),
            "ssim": measures.ssim(output, truth, mask),
        }
    return values


def _crop(mask: NDArray[np.float32]) -> tuple[slice, slice]:
    """The window of at most `LARGEST` pixels a side around the middle of the mask."""
    moments = cv2.moments((mask > 0.5).astype(np.uint8), binaryImage=True)
    area = moments["m00"] or 1.0
    slices = []
    for centre, length in (
        (moments["m01"] / area, mask.shape[0]),
        (moments["m10"] / area, mask.shape[1]),
    ):
        side = min(LARGEST, length)
        start = int(np.clip(round(centre - side / 2), 0, length - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]
