"""Complementary pairs: the style on other motifs, so that stage two can tell it from the motif.

Paper, section 3.3: generate N embroideries with the stage-one LoRA, keep the ⌈N/2⌉ whose late
self-attention features are most similar to the reference, make their designs, and of those keep
the ⌈N/4⌉ least similar to the reference's design. Two things are left open there: of the LoRA θ_e
alone draws here, as at inference, and designs are alike as the cosine of their latents.

The lighter variant, where a base knows few words: the designs come first, drawn by code, and are
embroidered image-to-image; where restyling starts from the instant preview, so does this.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from backend.emolora.adapter import Adapter
from backend.emolora.blocks import recording
from backend.emolora.candidates import Candidate, Sew, candidates_of, conditions, starts, way_back
from backend.emolora.designs import design_passes, designs_of
from backend.emolora.encoded import EncodedPair
from backend.emolora.inversion import Trajectory, invert, redone
from backend.emolora.sampling import (
    Companion,
    controls_of,
    denoise,
    seeded_noise,
    to_tensor,
)
from backend.errors import ResourceError
from backend.imaging.files import read_rgba, write_png
from backend.models.loading import Models
from backend.models.prediction import Controls

__all__ = [
    "Complement",
    "encode",
    "load",
    "make",
    "passes",
    "passes_made",
    "save",
    "select",
]

_TENSORS = "complementary.safetensors"
_MADE = "complementary_made.safetensors"  # so far


@dataclass(frozen=True, slots=True)
class Complement:
    """One complementary pair: subject, design (H, W, 3), latents of its embroidery (1, C, h, w)."""

    subject: str
    design: NDArray[np.float32]
    embroidery: torch.Tensor


def passes(models: Models) -> int:
    """How many values `make` yields before its result."""
    settings = models.profile.complementary
    steps, batches = _steps(models), math.ceil(settings.count / settings.batch)
    of_text = settings.source == "text"
    designs = math.ceil(settings.count / 2) * design_passes(models) if of_text else 0
    return steps + batches * _passes_each(models) + designs


def passes_made(models: Models, folder: Path) -> int:
    """How many of them an interrupted run has left the fruits of."""
    settings = models.profile.complementary
    return math.ceil(len(_made(folder)[0]) / settings.batch) * _passes_each(models)


def _steps(models: Models) -> int:
    """Steps of the schedule that candidates pass."""
    return redone(models.profile.complementary.steps, _strength(models))


def _strength(models: Models) -> float:
    settings = models.profile.complementary
    return 1.0 if settings.source == "text" else settings.strength


def _passes_each(models: Models) -> int:
    """Passes that a batch of candidates takes: there and, if they are inverted first, back."""
    return _steps(models) * (2 if models.profile.complementary.source == "sewn" else 1)


def make(
    models: Models,
    adapter: Adapter,
    blocks: Sequence[str],
    reference: EncodedPair,
    reference_design: NDArray[np.float32],
    seed: int,
    folder: Path | None = None,
    sew: Sew | None = None,
) -> Generator[list[Complement] | None, None, None]:
    """Make and select the complementary pairs with the stage-one LoRA.

    Args:
        folder: where each batch is kept, so that an interrupted run goes on after the last one.
        sew: makes the instant preview, which the source "sewn" needs.

    Yields:
        None, `passes(models)` times less `passes_made`, then the pairs.

    Raises:
        ResourceError: the folder's disk is full or read-only.
    """
    settings = models.profile.complementary
    candidates = candidates_of(models, seed, sew)
    text = reference.embroidery_text
    controls = None if reference.controls is None else reference.controls[:1]
    with adapter.style_only():
        trajectory = yield from invert(
            models,
            reference.embroidery[:1],
            text,
            steps=settings.steps,
            strength=_strength(models),
            controls=controls,
        )
        latents, likeness = _made(folder)
        latents = [each.to(models.device) for each in latents]
        for first in range(len(latents), len(candidates), settings.batch):
            part = candidates[first : first + settings.batch]
            made, alike = torch.empty(0), [0.0]
            along = None
            if settings.source == "sewn":
                with adapter.base():
                    along = yield from way_back(models, part, blocks)
            for made, alike in _embroider(  # noqa: B007 - the last ones count
                models, part, blocks, reference, trajectory, controls, seed + first, along
            ):
                yield None
            latents += list(made.split(1))
            likeness += alike
            if folder is not None:
                _write(
                    {
                        "latents": torch.cat(latents).cpu().contiguous(),
                        "likeness": torch.tensor(likeness, dtype=torch.float64),
                    },
                    folder / _MADE,
                )
    kept = select(likeness, settings.count, 2)
    subjects = [candidates[index].subject for index in kept]
    designs = [each for index in kept if (each := candidates[index].design) is not None]
    if not designs:
        pictures = [models.decode(latents[i])[0].permute(1, 2, 0).cpu().numpy() for i in kept]
        with adapter.base():
            designs = yield from designs_of(models, pictures, subjects, seed)
    finished = [
        Complement(subject, design, latents[index])
        for subject, design, index in zip(subjects, designs, kept)
    ]
    own = models.encode_image(to_tensor(reference_design)).flatten().float()
    likeness_of_designs = [
        float(
            torch.cosine_similarity(
                models.encode_image(to_tensor(each.design)).flatten().float(), own, dim=0
            )
        )
        for each in finished
    ]
    least = select([-value for value in likeness_of_designs], settings.count, 4)
    yield [finished[index] for index in least]


def select(scores: Sequence[float], count: int, share: int) -> list[int]:
    """Indices of the ⌈count / share⌉ highest scores, highest first."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return order[: math.ceil(count / share)]


def _embroider(
    models: Models,
    part: Sequence[Candidate],
    blocks: Sequence[str],
    reference: EncodedPair,
    trajectory: Trajectory,
    reference_controls: Controls | None,
    seed: int,
    along: Trajectory | None = None,
) -> Iterator[tuple[torch.Tensor, list[float]]]:
    """Denoise some candidates beside the reference; latents and likeness after each step.

    Args:
        along: theirs from where they start, if they were inverted.
    """
    profile = models.profile
    settings, flat = profile.complementary, profile.flat
    start: torch.Tensor | None = None
    controls = conditions(models, part)
    if controls is not None:
        start = starts(models, part)
        if profile.inference.start == "colour":
            start = reference.embroidery[:1].mean((2, 3), keepdim=True).expand_as(start)
        if reference_controls is None:
            # The companion passes the ControlNets with the rest of the batch.
            reference_controls = controls_of(
                models, _blank(profile.window), flat.canny_scale, flat.tile_scale
            )
    else:
        reference_controls = None
    plain = models.encode_prompts([profile.prompts(each.subject)[0] for each in part])
    styled = models.encode_prompts([profile.prompts(each.subject)[1] for each in part])
    route = profile.inference.routing
    shape = (len(part), *reference.embroidery.shape[1:])
    with recording(models, rows=len(part) + 1, segments=profile.blocks.segments) as recorder:
        companion = Companion(
            trajectory,
            reference.design_text if route else reference.embroidery_text,
            reference.embroidery_text,
            reference_controls,
            recorder,
        )
        for latents in denoise(
            models,
            start,
            seeded_noise(models.device, shape, seed),
            plain if route else styled,
            models.encode_prompts([profile.inference.negative]),
            styled=styled if route else None,
            blocks=blocks,
            steps=settings.steps,
            strength=settings.strength,
            guidance=settings.guidance,
            controls=controls,
            companion=companion,
            inverted=along,
        ):
            late = recorder.similarities()[:, :, profile.blocks.late :]
            yield latents, torch.nanmean(late, dim=(1, 2)).tolist()


def encode(models: Models, complement: Complement) -> EncodedPair:
    """A complementary pair as training sees it."""
    settings = models.profile.training
    design = models.encode_image(to_tensor(complement.design))
    text = models.encode_prompts(list(models.profile.prompts(complement.subject)))
    controls = None
    if settings.controls:
        controls = controls_of(models, complement.design, settings.canny_scale, settings.tile_scale)
    return EncodedPair(
        design=design,
        embroidery=complement.embroidery.to(design),
        weight=torch.ones_like(design[:, :1], dtype=torch.float32),
        design_text=text[:1],
        embroidery_text=text[1:],
        controls=controls,
    )


def save(complements: Sequence[Complement], folder: Path) -> None:
    """Write the pairs, so that a resumed training need not make them again.

    Raises:
        ResourceError: the disk is full or read-only.
    """
    for index, each in enumerate(complements):
        write_png(folder / f"complementary_{index}.png", each.design)
    tensors = {str(i): each.embroidery.cpu().contiguous() for i, each in enumerate(complements)}
    subjects = {str(i): each.subject for i, each in enumerate(complements)}
    _write(tensors, folder / _TENSORS, subjects)


def _write(
    tensors: dict[str, torch.Tensor], path: Path, words: dict[str, str] | None = None
) -> None:
    aside = path.with_name(f"{path.name}.new")
    try:
        safetensors.torch.save_file(tensors, aside, metadata=words)
        os.replace(aside, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ResourceError(
            f"{path.parent}: cannot be written ({error}).", "Free space on its disk."
        ) from error


def _made(folder: Path | None) -> tuple[list[torch.Tensor], list[float]]:
    """Latents and likeness of the candidates that an interrupted run has made."""
    if folder is None or not (folder / _MADE).is_file():
        return [], []
    stored = safetensors.torch.load_file(folder / _MADE)
    return list(stored["latents"].split(1)), stored["likeness"].tolist()


def load(folder: Path) -> list[Complement] | None:
    """Read what `save` wrote, or None if it did not."""
    if not (folder / _TENSORS).is_file():
        return None
    with safetensors.safe_open(folder / _TENSORS, framework="pt") as stored:
        subjects = stored.metadata() or {}
        return [
            Complement(
                subjects[str(i)],
                np.ascontiguousarray(read_rgba(folder / f"complementary_{i}.png")[..., :3]),
                stored.get_tensor(str(i)),
            )
            for i in range(len(subjects))
        ]


def _blank(side: int) -> NDArray[np.float32]:
    return np.ones((side, side, 3), dtype=np.float32)
