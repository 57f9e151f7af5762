"""Small pictures and a small style for the tests of preview and restyling."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.adapter import Adapter
from backend.jobs import Progress
from backend.models import profiles
from backend.models.loading import Models, load
from backend.styles import BaseModel, Prompts, Style

T = TypeVar("T")

__all__ = ["artwork", "collect", "finish", "sewn_pair", "tiny_models", "tiny_style"]

WINDOW = 64
BLOCKS = ("down_blocks.1.attentions.1", "up_blocks.0.attentions.1")


def sewn_pair(
    side: int = 224, period: float = 7.0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Photo, design and mask of two discs filled with parallel thread, on grey cloth."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    design = np.full((side, side, 3), (0.75, 0.74, 0.72), dtype=np.float32)
    mask = np.zeros((side, side), dtype=np.float32)
    for centre, radius, colour in (
        ((0.38, 0.42), 0.33, (0.75, 0.15, 0.15)),
        ((0.68, 0.7), 0.27, (0.15, 0.3, 0.7)),
    ):
        disc = np.hypot(y - centre[0] * side, x - centre[1] * side) < radius * side
        design[disc] = colour
        mask[disc] = 1.0
    thread = 0.5 + 0.5 * np.cos(2 * np.pi * (x + 0.35 * y) / period)
    ends = 0.85 + 0.15 * np.cos(2 * np.pi * (y + 5 * np.floor((x + 0.35 * y) / period)) / 31.0)
    shade = np.where(mask > 0.5, 0.55 + 0.6 * thread * ends, 1.0)
    photo = np.clip(design * shade[..., None], 0.0, 1.0).astype(np.float32)
    return photo, design, mask


def artwork(height: int, width: int) -> NDArray[np.float32]:
    """Flat artwork (H, W, 4): a yellow disc and a green bar, transparent around them."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rgba = np.zeros((height, width, 4), dtype=np.float32)
    small = min(height, width)
    disc = np.hypot(y - 0.4 * height, x - 0.5 * width) < 0.3 * small
    bar = (np.abs(y - 0.85 * height) < 0.08 * height) & (np.abs(x - 0.5 * width) < 0.4 * width)
    rgba[disc] = (0.9, 0.8, 0.1, 1.0)
    rgba[bar] = (0.1, 0.5, 0.2, 1.0)
    return (np.round(rgba * 255.0) / 255.0).astype(np.float32)


def tiny_models(folder: Path, **inference: Any) -> Models:
    """The tiny model under the starter's profile, with small windows and other settings."""
    starter = profiles.get("starter")
    profile = dataclasses.replace(
        starter,
        window=WINDOW,
        cpu_dtype="float32",
        inference=dataclasses.replace(starter.inference, **inference),
    )
    return load(profile, base=str(folder), device="cpu")


def tiny_style(models: Models, *, seed: int = 3) -> Style:
    """An untrained style whose LoRA nevertheless changes what the model says."""
    adapter = Adapter(models, BLOCKS, rank=4, seed=seed)
    weights = adapter.style_weights()
    adapter.remove()
    generator = torch.Generator().manual_seed(seed)
    for name, value in weights.items():
        weights[name] = torch.randn(value.shape, generator=generator) * 0.2
    photo, design, mask = sewn_pair(side=144)
    return Style(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        profile=models.profile.name,
        base=BaseModel("tiny", models.fingerprint()),
        blocks=BLOCKS,
        prompts=Prompts(
            *models.profile.prompts(), models.profile.inference.negative, models.profile.trigger
        ),
        steps={"one": 0, "two": 0},
        seed=seed,
        rank=4,
        kind="flat",
        thread_width_px=7.0,
        licence_note="",
        weights=weights,
        reference=photo,
        design=design,
        mask=mask,
    )


def collect(steps: Generator[Progress, None, T]) -> tuple[list[Progress], T]:
    """All progress of a job, and what it returns."""
    seen: list[Progress] = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            value: T = end.value
            return seen, value


def finish(steps: Generator[Progress, None, Any]) -> Any:
    """What a job returns."""
    return collect(steps)[1]
