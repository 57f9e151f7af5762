"""What complementary pairs begin with: words, or motifs drawn by code and first looks at them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora import motifs
from backend.emolora.adapter import routed
from backend.emolora.inversion import Trajectory, invert
from backend.emolora.sampling import concatenate, controls_of, to_tensor
from backend.imaging.lines import edge_lines
from backend.models.loading import Models
from backend.models.prediction import Controls

__all__ = ["Candidate", "Sew", "candidates_of", "conditions", "starts", "way_back"]

Sew = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""The instant preview (H, W, 3) of a design (H, W, 3) where a mask (H, W) says."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject; its design and what it is embroidered from, (H, W, 3), if these come first."""

    subject: str
    design: NDArray[np.float32] | None
    start: NDArray[np.float32] | None = None


def candidates_of(models: Models, seed: int, sew: Sew | None = None) -> list[Candidate]:
    """The candidates: words alone, or drawn motifs and what they are embroidered from.

    Args:
        sew: makes the instant preview, which the source "sewn" needs.
    """
    settings, window = models.profile.complementary, models.profile.window
    rng = np.random.default_rng(seed)
    if settings.source != "text":
        shapes = [motifs.SHAPES[i % len(motifs.SHAPES)] for i in range(settings.count)]
        designs, masks = zip(*(motifs.draw_motif(shape, window, rng) for shape in shapes))
        if models.profile.pair.design == "lines":
            low, high = models.profile.inference.canny_low, models.profile.inference.canny_high
            designs = tuple(edge_lines(each, low, high, window) for each in designs)
        begun: Sequence[NDArray[np.float32]] = designs
        if settings.source == "sewn" and sew is not None:
            # All in one picture, since what is to be known of the reference is found out once.
            begun = np.split(sew(np.concatenate(designs), np.concatenate(masks)), len(designs))
        return [Candidate(*each) for each in zip(shapes, designs, begun)]
    colours, objects = rng.permutation(settings.colours), rng.permutation(settings.objects)
    return [
        Candidate(f"{colours[i % len(colours)]} {objects[i % len(objects)]}", None)
        for i in range(settings.count)
    ]


def conditions(models: Models, part: Sequence[Candidate]) -> Controls | None:
    """Conditions of the candidates' designs, if these are there yet."""
    flat = models.profile.flat
    designs = [each.design for each in part if each.design is not None]
    if not designs:
        return None
    return concatenate(
        [controls_of(models, each, flat.canny_scale, flat.tile_scale) for each in designs]
    )


def starts(models: Models, part: Sequence[Candidate]) -> torch.Tensor:
    """Latents of what candidates are embroidered from, (B, C, h, w)."""
    pictures = [each.start for each in part if each.start is not None]
    return torch.cat([models.encode_image(to_tensor(each)) for each in pictures])


def way_back(
    models: Models, part: Sequence[Candidate], blocks: Sequence[str]
) -> Generator[None, None, Trajectory]:
    """Candidates' way back to noise from where they start, as restyling inverts the preview."""
    settings = models.profile.complementary
    plain, styled = (
        models.encode_prompts([models.profile.prompts(each.subject)[which] for each in part])
        for which in (0, 1)
    )
    with routed(models, blocks, styled.hidden):
        along = yield from invert(
            models,
            starts(models, part),
            plain if models.profile.inference.routing else styled,
            steps=settings.steps,
            strength=settings.strength,
            controls=conditions(models, part),
        )
    return along
