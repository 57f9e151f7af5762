"""From trained weights to a finished style: preview, kind, thread width, measures."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import backend
from backend.emolora import blocks as block_choice
from backend.emolora.adapter import attention_blocks
from backend.emolora.pair import Pair
from backend.imaging.edges import thread_width
from backend.imaging.kind import kind_of
from backend.jobs import Progress, RestyleJob, TrainJob
from backend.models.loading import Models
from backend.progress import Show, unseen
from backend.restyle.image import restyle
from backend.styles import BaseModel, Prompts, Style

__all__ = ["finish"]

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
    show: Show = unseen,
) -> Generator[Progress, None, Style]:
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
        task=job.task,
        designed=pair.designed,
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
        kind=kind_of(pair.embroidery, pair.mask) if job.task == "embroidery" else "flat",
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
    preview = yield from _preview(job, models, style, show)
    return replace(style, preview=preview)


def _plot(
    models: Models, table: NDArray[np.float64], blocks: tuple[str, ...]
) -> NDArray[np.float32]:
    late = models.profile.blocks.late
    return block_choice.plot(table, attention_blocks(models), blocks, late=late)


def _preview(
    job: TrainJob, models: Models, style: Style, show: Show
) -> Generator[Progress, None, NDArray[np.float32]]:
    """The reference's design in the new style: what was learnt, without the instant preview."""
    opaque = np.ones_like(style.mask)
    # Where outlines are found in what is given, the reference has those of its design.
    edges = models.profile.inference.reads == "edges"
    shown = style.reference if edges else style.design
    rgba = np.dstack([shown, opaque]).astype(np.float32)
    start = "design" if models.profile.inference.start == "preview" else "auto"
    request = RestyleJob(
        style=job.out, input=job.reference, out=job.out, seed=job.seed, start=start
    )
    made = yield from restyle(models, style, rgba, None, request, show)
    return np.ascontiguousarray(made[..., :3], dtype=np.float32)
