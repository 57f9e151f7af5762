"""The benchmark's measures: what each means, and all of them of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.evaluation import measures
from backend.evaluation.benchmark.optional import clip_score, lpips_distance
from backend.evaluation.definitions import MEASURES as COMMON
from backend.evaluation.definitions import Measure
from backend.evaluation.truth import by_region, colour_psnr, ms_ssim, shape_loss
from backend.starter.designs import Design
from backend.starter.stitches import regions
from backend.styles import Style

__all__ = ["MEASURES", "Score", "Scorer"]

Picture = NDArray[np.float32]
_KNOWN = {each.name: each for each in COMMON}
_OWN = "this project"


@dataclass(frozen=True, slots=True)
class Score:
    """A measure and its place in the benchmark.

    Attributes:
        group: "style", "colour", "content" or "words".
        target: whether the group's target asks ours to be best or tied in it.
    """

    measure: Measure
    group: str
    target: bool = True


def _true(name: str, title: str, unit: str, meaning: str) -> Measure:
    return Measure(name=name, title=title, unit=unit, better="lower", meaning=meaning, source=_OWN)


MEASURES = (
    Score(_KNOWN["band_distance"], "style"),
    Score(_KNOWN["spectrum_distance"], "style"),
    Score(_KNOWN["orientation_distance"], "style"),
    Score(
        _true(
            "true_spectrum",
            "Spectrum distance to the true answer",
            "dB",
            "difference in how detail is spread over scales, within each colour region of the "
            "design, mean by area; where the true embroidery is known",
        ),
        "style",
    ),
    Score(
        _true(
            "true_orientation",
            "Stitch direction distance to the true answer",
            "%",
            "difference in the share of threads by direction and of what has none, within each "
            "colour region, at the rotation that fits best; where the true embroidery is known",
        ),
        "style",
    ),
    Score(_KNOWN["hfrd"], "style", target=False),
    Score(
        Measure(
            name="colour_psnr",
            title="Colour PSNR to the true answer",
            unit="dB",
            better="higher",
            meaning="peak signal to noise ratio of both pictures blurred over the threads (half "
            "the amplitude at 32 px): colours count, stitches do not",
            source=_OWN,
        ),
        "colour",
    ),
    Score(_KNOWN["colour_shift"], "colour"),
    Score(_KNOWN["histogram_design"], "colour"),
    Score(_KNOWN["histogram_reference"], "colour", target=False),
    Score(
        Measure(
            name="shape_loss",
            title="Shape loss to the design",
            unit="%",
            better="lower",
            meaning="one less the correlation of result and design, blurred over the threads (half "
            "the amplitude at 16 px): moved outlines and lost shades count, stitches do not",
            source=_OWN,
        ),
        "content",
    ),
    Score(
        Measure(
            name="ms_ssim",
            title="MS-SSIM to the true answer",
            unit="",
            better="higher",
            meaning="structural similarity over five scales, where the true embroidery is known; "
            "its threads lie by chance, so none can reach 1, and a smooth picture comes nearer "
            "than threads that lie elsewhere",
            source="Wang, Simoncelli, Bovik (2003)",
        ),
        "content",
        target=False,
    ),
    Score(
        Measure(
            name="lpips",
            title="LPIPS to the design",
            unit="× 100",
            better="lower",
            meaning="distance of AlexNet's features; it holds every stitch for a fault",
            source="paper, section 5; Zhang et al. (2018)",
        ),
        "content",
    ),
    Score(
        Measure(
            name="clip_score",
            title="CLIP-Score",
            unit="× 100",
            better="higher",
            meaning="cosine of the picture's and the prompt's CLIP features",
            source="paper, section 5; Hessel et al. (2021)",
        ),
        "words",
    ),
)


class Scorer:
    """Measures pictures; LPIPS and CLIP-Score as far as they are installed."""

    @cached_property
    def _lpips(self) -> Any:
        return lpips_distance()

    @cached_property
    def _clip(self) -> Any:
        return clip_score()

    @property
    def missing(self) -> tuple[str, ...]:
        """Measures that are left out because their weights are not installed."""
        found = {"LPIPS": self._lpips, "CLIP-Score": self._clip}
        return tuple(name for name, measure in found.items() if measure is None)

    def embroidered(
        self, output: Picture, design: Design, style: Style, truth: Picture | None
    ) -> dict[str, Any]:
        """Measures of an embroidered design, by name, and band energies."""
        art, labels = design.art, regions(design.flat, design.art)
        against = (output, style.reference, art, style.mask)
        found = {
            **self._style(output, style, art),
            "histogram_design": measures.histogram_loss(output, design.flat, art, art),
            "histogram_reference": measures.histogram_loss(*against),
            "colour_shift": measures.colour_shift(output, design.flat, art),
            "shape_loss": shape_loss(output, design.flat, art),
        }
        bands = {"result": measures.band_energies(output, art)}
        bands["reference"] = measures.band_energies(style.reference, style.mask)
        if truth is not None:
            found |= {
                "true_spectrum": by_region(measures.spectrum_distance, output, truth, labels),
                "true_orientation": by_region(measures.orientation_distance, output, truth, labels),
                "colour_psnr": colour_psnr(output, truth, art),
                "ms_ssim": ms_ssim(output, truth, art),
            }
            bands["true answer"] = measures.band_energies(truth, art)
        if self._lpips is not None:
            found["lpips"] = self._lpips(output, design.flat)
        return {"measures": found, "bands": bands}

    def drawn(self, output: Picture, prompt: str, style: Style) -> dict[str, Any]:
        """Measures of a picture drawn from words, by name."""
        found = self._style(output, style, None)
        found["histogram_reference"] = measures.histogram_loss(
            output, style.reference, None, style.mask
        )
        if self._clip is not None:
            found["clip_score"] = self._clip(output, prompt)
        return {"measures": found}

    def _style(
        self, output: Picture, style: Style, art: NDArray[np.bool_] | None
    ) -> dict[str, float]:
        against = (output, style.reference, art, style.mask)
        return {
            "hfrd": measures.hfrd(*against),
            "band_distance": measures.band_distance(*against),
            "spectrum_distance": measures.spectrum_distance(*against),
            "orientation_distance": measures.orientation_distance(*against),
        }
