"""The denoising loop over windows, shared by image and text input."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from backend.emolora.adapter import routed
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import Controls, clean_of, ddim_step, noise_of, predict
from backend.restyle.windows import Blend, Grid

__all__ = ["Scheduler", "Spots", "Words", "batch_size", "denoise", "invert", "make_scheduler"]

Spots = tuple[tuple[int, int], ...]
Scheduler: TypeAlias = DDIMScheduler | DPMSolverMultistepScheduler


@dataclass(frozen=True, slots=True)
class Words:
    """Encoded prompts of a run.

    Attributes:
        style: the embroidery prompt, holds the trigger.
        plain: what the blocks outside `blocks` read; None: the embroidery prompt too.
        negative: for classifier-free guidance; None where guidance is off.
        blocks: the style blocks.
    """

    style: TextEmbedding
    plain: TextEmbedding | None
    negative: TextEmbedding | None
    blocks: tuple[str, ...]


def make_scheduler(models: Models, steps: int, sampler: str = "auto") -> Scheduler:
    """A deterministic sampler on the base's own noise schedule, from its noisiest timestep on.

    Args:
        sampler: "ddim", "dpm++", or "auto", the profile's own. "dpm++" is the second-order
            multistep solver of Lu et al., "DPM-Solver++" (2022), which comes as near to the limit
            of many steps in two thirds of them.
    """
    config = models.scheduler.config
    if sampler == "auto":
        sampler = models.profile.inference.sampler
    scheduler: Scheduler
    if sampler == "dpm++":
        scheduler = DPMSolverMultistepScheduler.from_config(
            config,
            timestep_spacing="trailing",
            algorithm_type="dpmsolver++",
            solver_order=2,
            final_sigmas_type="zero",
        )
    else:
        scheduler = DDIMScheduler.from_config(
            config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
        )
    scheduler.set_timesteps(steps)
    return scheduler


def batch_size(models: Models) -> int:
    """Windows a UNet call takes at a time."""
    if models.profile.inference.batch:
        return models.profile.inference.batch
    if models.device.type == "cpu":
        return 4
    return 8 if models.profile.window <= 512 else 2


def _join(first: TextEmbedding, second: TextEmbedding) -> TextEmbedding:
    return TextEmbedding(
        torch.cat([first.hidden, second.hidden]), torch.cat([first.pooled, second.pooled])
    )


def _twice(controls: Controls | None) -> Controls | None:
    if controls is None:
        return None
    return Controls(
        torch.cat([controls.canny] * 2),
        torch.cat([controls.tile] * 2),
        controls.canny_scale,
        controls.tile_scale,
    )


@torch.no_grad()
def _predict_windows(
    models: Models,
    windows: torch.Tensor,
    timestep: int,
    words: Words,
    guidance: float,
    controls: Controls | None,
) -> torch.Tensor:
    """The UNet's guided output for (B, C, h, w) windows."""
    count = len(windows)
    text = (words.plain or words.style).expand(count)
    inner = words.style.expand(count)
    if words.negative is not None:
        negative = words.negative.expand(count)
        text, inner = _join(negative, text), _join(negative, inner)
        windows, controls = torch.cat([windows] * 2), _twice(controls)
    route = routed(models, words.blocks, inner.hidden) if words.plain is not None else nullcontext()
    with route:
        output = predict(models, windows, timestep, text, controls)
    if words.negative is None:
        return output
    negative_output, positive = output.chunk(2)
    return negative_output + guidance * (positive - negative_output)


def denoise(
    models: Models,
    latents: torch.Tensor,
    grids: Sequence[Grid],
    scheduler: Scheduler,
    timesteps: Sequence[int],
    words: Words,
    guidance: float,
    controls: Callable[[Spots], Controls | None],
    seen: Callable[[torch.Tensor], None] | None = None,
) -> Generator[None, None, torch.Tensor]:
    """Denoise a plane of latents; yields once for every batch of windows.

    Args:
        latents: (C, H, W) float32 on the CPU, noisy at `timesteps[0]`.
        grids: the windows of each timestep.
        controls: gives the ControlNets' conditions of some windows, or None.
        seen: is given the clean latents (C, H, W) that each timestep expects.

    Returns:
        (C, H, W) clean latents; cells that no window covers mean nothing.
    """
    for grid, timestep in zip(grids, timesteps, strict=True):
        output = yield from _predict_plane(
            models, latents, grid, timestep, words, guidance, controls
        )
        if seen is not None:
            seen(clean_of(models, latents, output, timestep))
        latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
    return latents


def invert(
    models: Models,
    latents: torch.Tensor,
    grids: Sequence[Grid],
    timesteps: Sequence[int],
    words: Words,
    controls: Callable[[Spots], Controls | None],
) -> Generator[None, None, torch.Tensor]:
    """DDIM inversion of a plane: `denoise` without guidance would lead back to it.

    Args:
        latents: (C, H, W) float32 on the CPU, clean.
        grids, timesteps: as for `denoise`, noisy first.

    Returns:
        (C, H, W) noisy at `timesteps[0]`.
    """
    words = replace(words, negative=None)
    here = -1
    for grid, there in reversed(list(zip(grids, timesteps, strict=True))):
        output = yield from _predict_plane(models, latents, grid, there, words, 1.0, controls)
        noise = noise_of(models, latents, output, there)
        latents, here = ddim_step(models, latents, noise, here, there), there
    return latents


def _predict_plane(
    models: Models,
    latents: torch.Tensor,
    grid: Grid,
    timestep: int,
    words: Words,
    guidance: float,
    controls: Callable[[Spots], Controls | None],
) -> Generator[None, None, torch.Tensor]:
    """The UNet's output for all windows of a plane, blended."""
    blend = Blend(grid, len(latents))
    for spots in grid.batches(batch_size(models)):
        windows = torch.stack(
            [latents[:, t : t + grid.window, x : x + grid.window] for t, x in spots]
        ).to(models.device, models.dtype)
        output = _predict_windows(models, windows, int(timestep), words, guidance, controls(spots))
        for spot, values in zip(spots, output):
            blend.add(spot, values)
        yield
    return blend.mean()
