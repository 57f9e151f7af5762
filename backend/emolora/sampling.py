"""Deterministic denoising of a batch, used to make designs and complementary embroideries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.adapter import routed
from backend.emolora.blocks import Recorder, segment_of
from backend.emolora.inversion import Trajectory, redone
from backend.imaging import edges
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import (
    Controls,
    add_noise,
    ddim_step,
    hints,
    noise_of,
    predict,
    timesteps,
)

__all__ = ["Companion", "concatenate", "controls_of", "denoise", "seeded_noise", "to_tensor"]


@dataclass(frozen=True, slots=True)
class Companion:
    """An image whose features are compared with those of the batch as it is denoised.

    Attributes:
        trajectory: its latents (1, C, h, w) at every timestep of the same schedule.
        text: its design prompt, one row.
        styled: its embroidery prompt, one row.
        recorder: takes in the similarities; made for one row more than the batch.
    """

    trajectory: Trajectory
    text: TextEmbedding
    styled: TextEmbedding
    controls: Controls | None
    recorder: Recorder


def to_tensor(image: NDArray[np.floating]) -> torch.Tensor:
    """(1, 3, H, W) float32 of an image (H, W, 3) or of a map (H, W)."""
    array = np.ascontiguousarray(image, dtype=np.float32)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()


def controls_of(
    models: Models, rgb: NDArray[np.floating], canny_scale: float, tile_scale: float
) -> Controls:
    """Conditions of one image (H, W, 3), made as the profile's inference makes them."""
    settings = models.profile.inference
    drawn = settings.reads != "picture"
    outline = edges.outline(rgb, settings.canny_low, settings.canny_high, drawn=drawn)
    blurred = edges.tile_condition(rgb, models.profile.window)
    return Controls(
        canny=to_tensor(outline).to(models.device, models.dtype),
        tile=to_tensor(blurred).to(models.device, models.dtype),
        canny_scale=canny_scale,
        tile_scale=tile_scale,
    )


def concatenate(parts: list[Controls]) -> Controls:
    """Rows of several conditions, with the scales of the first."""
    return Controls(
        canny=torch.cat([each.canny for each in parts]),
        tile=torch.cat([each.tile for each in parts]),
        canny_scale=parts[0].canny_scale,
        tile_scale=parts[0].tile_scale,
    )


def seeded_noise(device: torch.device, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Standard normal noise of `shape`, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device)


@torch.no_grad()
def denoise(
    models: Models,
    latents: torch.Tensor | None,
    noise: torch.Tensor,
    text: TextEmbedding,
    negative: TextEmbedding,
    *,
    styled: TextEmbedding | None = None,
    blocks: Sequence[str] = (),
    steps: int,
    strength: float = 1.0,
    until: float = 0.0,
    guidance: float = 1.0,
    controls: Controls | None = None,
    companion: Companion | None = None,
    inverted: Trajectory | None = None,
) -> Iterator[torch.Tensor]:
    """SDEdit (Meng et al., 2022) from clean latents, or generation from noise alone.

    Args:
        latents: (B, C, h, w) to start from, or None.
        noise: of the same shape.
        text: B rows.
        negative: one row, used where `guidance` is above 1.
        styled: B rows that `blocks` read in place of `text` (prompt routing); None: no routing.
        strength: share of the schedule that is redone.
        until: share of all timesteps, at the clean end, that the last step takes at once.
        inverted: where the latents come from in as many steps; it takes the noise's place.

    Yields:
        the latents after each step; the last are clean.
    """
    schedule = timesteps(models, steps, until)
    first = 0 if latents is None else steps - redone(steps, strength)
    if inverted is not None:
        current = inverted[schedule[first]]
    else:
        current = noise if latents is None else add_noise(models, latents, noise, schedule[first])
    batch = noise.shape[0]
    guided = guidance > 1.0
    unwanted_text = [negative.expand(batch)] if guided else []
    parts = [text, *unwanted_text]
    inner = [styled if styled is not None else text, *unwanted_text]
    conditions = [controls] * len(parts) if controls is not None else []
    if companion is not None:
        parts, inner = [companion.text, *parts], [companion.styled, *inner]
        if companion.controls is not None:
            conditions = [companion.controls, *conditions]
    words, inner_words = _joined(parts), _joined(inner)
    pictures = hints(models, concatenate(conditions)) if conditions else None
    for step in range(first, steps):
        here, there = schedule[step], (schedule[step + 1] if step + 1 < steps else -1)
        rows = [current] * (2 if guided else 1)
        if companion is not None:
            rows = [companion.trajectory[here], *rows]
            recorder = companion.recorder
            recorder.segment = segment_of(step, steps, recorder.total.shape[-1])
        route = nullcontext() if styled is None else routed(models, blocks, inner_words.hidden)
        with route:
            output = predict(models, torch.cat(rows), here, words, pictures)
        if companion is not None:
            output = output[1:]
        if guided:
            wanted, unwanted = output.chunk(2)
            output = unwanted + guidance * (wanted - unwanted)
        estimate = noise_of(models, current, output, here)
        current = ddim_step(models, current, estimate, here, there)
        yield current


def _joined(parts: Sequence[TextEmbedding]) -> TextEmbedding:
    return TextEmbedding(
        torch.cat([each.hidden for each in parts]), torch.cat([each.pooled for each in parts])
    )
