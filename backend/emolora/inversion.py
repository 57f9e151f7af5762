"""Inversion: the noise from which denoising leads back to a given image.

DDIM inversion takes the prediction at the cleaner end of a step for the one at its noisy end.
ReNoise (Garibi et al., "ReNoise: Real Image Inversion Through Iterative Noising", 2024) repeats the
step with predictions made at the noisy end and averages them: a fixed-point iteration.
"""

from __future__ import annotations

from collections.abc import Generator

import torch

from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import (
    Controls,
    ddim_step,
    hints,
    noise_of,
    predict,
    timesteps,
)

__all__ = ["Trajectory", "invert", "reconstruct", "redone"]

Trajectory = dict[int, torch.Tensor]
"""Latents z_t (B, C, h, w) by timestep t, noisy first."""


def redone(steps: int, strength: float) -> int:
    """How many of `steps` sampling takes from a start: the share `strength`, at least one."""
    return steps - min(steps - 1, round(steps * (1.0 - strength)))


@torch.no_grad()
def invert(
    models: Models,
    latents: torch.Tensor,
    text: TextEmbedding,
    *,
    steps: int,
    iterations: int = 0,
    strength: float = 1.0,
    controls: Controls | None = None,
) -> Generator[None, None, Trajectory]:
    """Follow clean latents back to noise; yields after each step.

    Args:
        latents: (B, C, h, w), clean.
        text: of the same batch; no guidance is used.
        iterations: ReNoise's fixed-point iterations a step; 0 is DDIM inversion.
        strength: share of the schedule that is gone back, of which `redone` makes steps.

    Returns:
        the latents at each of these timesteps.
    """
    along: Trajectory = {}
    controls = hints(models, controls)
    current, here = latents, -1
    for there in reversed(timesteps(models, steps)[-redone(steps, strength) :]):
        noise = noise_of(models, current, predict(models, current, there, text, controls), there)
        guess = ddim_step(models, current, noise, here, there)
        estimates = []
        for _ in range(iterations):
            noise = noise_of(models, guess, predict(models, guess, there, text, controls), there)
            estimates.append(noise)
            guess = ddim_step(models, current, noise, here, there)
        if len(estimates) > 1:
            # The first estimate still leans on the cleaner end's guess.
            average = torch.stack(estimates[1:]).mean(dim=0)
            guess = ddim_step(models, current, average, here, there)
        along[there] = current = guess
        here = there
        yield
    return dict(reversed(along.items()))


@torch.no_grad()
def reconstruct(
    models: Models,
    noise: torch.Tensor,
    text: TextEmbedding,
    *,
    steps: int,
    controls: Controls | None = None,
) -> torch.Tensor:
    """Clean latents that plain DDIM makes of the noisiest latents of a `Trajectory`."""
    current = noise
    schedule = timesteps(models, steps)
    for here, there in zip(schedule, [*schedule[1:], -1]):
        output = predict(models, current, here, text, controls)
        current = ddim_step(models, current, noise_of(models, current, output, here), here, there)
    return current
