"""Stage one: learn the reference pair (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backend.emolora.adapter import Adapter, routed
from backend.emolora.losses import reconstruction
from backend.emolora.pair import EncodedPair
from backend.models.loading import Models
from backend.models.prediction import add_noise, noise_target, predict

__all__ = ["Draw", "accumulate", "add_gradient", "draw"]


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance decides in one step: windows (B,), timesteps (B,), noise (B, C, h, w)."""

    windows: torch.Tensor
    timestep: torch.Tensor
    noise: torch.Tensor


def draw(models: Models, pair: EncodedPair, batch: int, key: Sequence[int]) -> Draw:
    """A step's chance, from `key` (seed, stage, step) alone, so that training can be resumed."""
    state = int(np.random.SeedSequence(list(key)).generate_state(1)[0])
    generator = torch.Generator().manual_seed(state)
    windows = torch.randint(len(pair), (batch,), generator=generator)
    timestep = torch.randint(models.alphas().shape[0], (batch,), generator=generator)
    noise = torch.randn((batch, *pair.design.shape[1:]), generator=generator)
    return Draw(windows, timestep.to(models.device), noise.to(models.device))


def add_gradient(loss: torch.Tensor, parameters: Sequence[torch.nn.Parameter]) -> None:
    """Add the loss's gradient to exactly these parameters' `grad`."""
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def accumulate(
    models: Models, adapter: Adapter, blocks: Sequence[str], pair: EncodedPair, chance: Draw
) -> dict[str, float]:
    """Gradients of one step: L_des into all of θ_a, L_emb (prompts routed) into θ_e only.

    Both images get the same noise and timestep. The step's updates are made together.

    Returns:
        the losses, "design" and "embroidery".
    """
    rows, noise, timestep = chance.windows, chance.noise, chance.timestep
    weight = pair.weight[rows]
    text = pair.design_text.expand(len(rows))
    controls = None if pair.controls is None else pair.controls[rows]

    clean = pair.design[rows]
    noisy = add_noise(models, clean, noise, timestep)
    output = predict(models, noisy, timestep, text, controls)
    target = noise_target(models, clean, noise, timestep)
    design = reconstruction(output, target, weight).mean()
    add_gradient(design, adapter.parameters)

    clean = pair.embroidery[rows]
    noisy = add_noise(models, clean, noise, timestep)
    with routed(models, blocks, pair.embroidery_text.expand(len(rows)).hidden):
        output = predict(models, noisy, timestep, text, controls)
        target = noise_target(models, clean, noise, timestep)
        embroidery = reconstruction(output, target, weight).mean()
        add_gradient(embroidery, adapter.style_parameters)
    return {"design": float(design.detach()), "embroidery": float(embroidery.detach())}
