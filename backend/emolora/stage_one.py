"""Stage one: learn the reference pair (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backend.emolora.adapter import Adapter, routed
from backend.emolora.encoded import EncodedPair
from backend.emolora.losses import reconstruction
from backend.models.loading import Models
from backend.models.prediction import add_noise, hints, noise_target, predict

__all__ = ["Draw", "accumulate", "add_gradient", "draw"]


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance decides in one step.

    Attributes:
        windows: (B,), of the reference pair.
        corners: (B, 2), of the crops in them, latent cells.
        timestep: (B,).
        noise: (B, C, side, side).
    """

    windows: torch.Tensor
    corners: torch.Tensor
    timestep: torch.Tensor
    noise: torch.Tensor

    def of(self, pair: EncodedPair, *, only: bool = False) -> EncodedPair:
        """The drawn crops of a pair; `only`: of its one window."""
        windows = torch.zeros_like(self.windows) if only else self.windows
        return pair.cut(windows, self.corners, self.noise.shape[-1])


def draw(models: Models, pair: EncodedPair, key: Sequence[int]) -> Draw:
    """A step's chance, from `key` (seed, stage, step) alone, so that training can be resumed."""
    settings = models.profile.training
    state = int(np.random.SeedSequence(list(key)).generate_state(1)[0])
    generator = torch.Generator().manual_seed(state)
    batch, whole = settings.batch, pair.design.shape[-1]
    # The UNet halves its input twice.
    side = max(4, round(whole * settings.crop / 4) * 4)
    windows = torch.randint(len(pair), (batch,), generator=generator)
    corners = torch.randint(whole - side + 1, (batch, 2), generator=generator)
    timestep = torch.randint(models.alphas().shape[0], (batch,), generator=generator)
    noise = torch.randn((batch, pair.design.shape[1], side, side), generator=generator)
    return Draw(windows, corners, timestep.to(models.device), noise.to(models.device))


def add_gradient(
    loss: torch.Tensor, parameters: Sequence[torch.nn.Parameter], scale: float = 1.0
) -> None:
    """Add the loss's gradient to exactly these parameters' `grad`.

    Args:
        scale: by which the loss is enlarged on its way back, see `Models.loss_scale`.
    """
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss * scale, parameters)):
        gradient = gradient if scale == 1.0 else gradient / scale
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def accumulate(
    models: Models, adapter: Adapter, blocks: Sequence[str], pair: EncodedPair, chance: Draw
) -> dict[str, float]:
    """Gradients of one step: L_des into all of θ_a, L_emb (prompts routed) into θ_e only.

    Both images get the same noise and timestep. The step's updates are made together. Where the
    profile does not learn the design, L_emb goes into all of θ_a, and all blocks read its prompt.

    Returns:
        the losses, "design" (if it is learnt) and "embroidery".
    """
    noise, timestep = chance.noise, chance.timestep
    seen = chance.of(pair)
    both = models.profile.training.design
    text = (pair.design_text if both else pair.embroidery_text).expand(len(seen))
    size = (models.profile.window, models.profile.window)
    controls = hints(models, seen.controls)
    losses = {}

    if both:
        noisy = add_noise(models, seen.design, noise, timestep)
        output = predict(models, noisy, timestep, text, controls, size=size)
        target = noise_target(models, seen.design, noise, timestep)
        design = reconstruction(output, target, seen.weight).mean()
        add_gradient(design, adapter.parameters, models.loss_scale)
        losses["design"] = float(design.detach())

    noisy = add_noise(models, seen.embroidery, noise, timestep)
    with routed(models, blocks, pair.embroidery_text.expand(len(seen)).hidden):
        output = predict(models, noisy, timestep, text, controls, size=size)
        target = noise_target(models, seen.embroidery, noise, timestep)
        embroidery = reconstruction(output, target, seen.weight).mean()
        learnt = adapter.style_parameters if both else adapter.parameters
        add_gradient(embroidery, learnt, models.loss_scale)
    return {**losses, "embroidery": float(embroidery.detach())}
