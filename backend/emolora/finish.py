"""From trained weights to a finished style: preview, kind, thread width, measures."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import backend
from backend.emolora import blocks as block_choice
from backend.emolora.adapter import attention_blocks
from backend.emolora.pair import Pair
from backend.imaging.colour import rgb_to_lab
from backend.imaging.edges import thread_width
from backend.jobs import RestyleJob, TrainJob
from backend.models.loading import Models
from backend.restyle.image import restyle
from backend.styles import BaseModel, Prompts, Style

__all__ = ["finish", "kind_of"]

_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "numpy")


def finish(
    job: TrainJob,
    models: Models,
    pair: Pair,
    weights: Mapping[str, torch.Tensor],
    blocks: tuple[str, ...],
    table: NDArray[np.float64] | None,
    losses: Mapping[str, list[float]],
    seconds: Mapping[str, float],
) -> Style:
    """Put the style together and make its preview: the reference's own design, embroidered."""
    profile = models.profile
    settings = profile.training
    design_prompt, embroidery_prompt = profile.prompts(job.subject)
    thread = thread_width(pair.embroidery, pair.mask)
    recent = {f"loss_{name}": float(np.mean(values[-50:])) for name, values in losses.items()}
    first = {f"loss_{name}_start": float(np.mean(values[:50])) for name, values in losses.items()}
    style = Style(
        name=Path(job.out).name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=profile.name,
        base=BaseModel(models.base, models.fingerprint()),
        blocks=blocks,
        prompts=Prompts(
            design_prompt, embroidery_prompt, profile.inference.negative, profile.trigger
        ),
        steps={
            "one": settings.steps_one if job.steps_one is None else job.steps_one,
            "two": settings.steps_two if job.steps_two is None else job.steps_two,
        },
        seed=job.seed,
        rank=settings.rank,
        kind=kind_of(pair.embroidery, pair.mask, thread),
        thread_width_px=round(thread, 3),
        licence_note=profile.licence_note,
        weights=weights,
        reference=pair.embroidery,
        design=pair.design,
        mask=pair.mask,
        plot=None if table is None else _plot(models, table, blocks),
        measures={**first, **recent},
        seconds={name: round(value, 2) for name, value in seconds.items()},
        versions={
            "stitchwork": backend.__version__,
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
    )
    return replace(style, preview=_preview(job, models, style))


def _plot(
    models: Models, table: NDArray[np.float64], blocks: tuple[str, ...]
) -> NDArray[np.float32]:
    late = models.profile.blocks.late
    return block_choice.plot(table, attention_blocks(models), blocks, late=late)


def _preview(job: TrainJob, models: Models, style: Style) -> NDArray[np.float32]:
    """The reference's design in the new style: what was learnt, without the instant preview."""
    opaque = np.ones_like(style.mask)
    rgba = np.dstack([style.design, opaque]).astype(np.float32)
    request = RestyleJob(
        style=job.out, input=job.reference, out=job.out, seed=job.seed, start="design"
    )
    steps = restyle(models, style, rgba, None, request)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return np.ascontiguousarray(end.value[..., :3], dtype=np.float32)


def kind_of(embroidery: NDArray[np.floating], mask: NDArray[np.floating], thread: float) -> str:
    """ "relief" where the motif's texture has no direction and strong highlights, else "flat".

    Thread lies in one direction at any place; beads and sequins shine in spots.
    """
    lightness = rgb_to_lab(embroidery)[..., 0]
    inside = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if not inside.any():
        return "flat"
    sigma = max(thread, 4.0)
    detail = lightness - cv2.GaussianBlur(lightness, (0, 0), 2.0 * sigma)
    dy, dx = np.gradient(detail)
    jxx, jyy, jxy = (
        cv2.GaussianBlur(value, (0, 0), sigma) for value in (dx * dx, dy * dy, dx * dy)
    )
    coherence = np.sqrt((jxx - jyy) ** 2 + 4 * jxy**2) / np.maximum(jxx + jyy, 1e-6)
    energy = np.sqrt(np.maximum(jxx + jyy, 0.0))[inside]
    directed = float(np.average(coherence[inside], weights=energy + 1e-6))
    peaks = float(np.percentile(detail[inside], 99) / max(detail[inside].std(), 1e-6))
    return "relief" if directed < 0.3 and peaks > 2.6 else "flat"
