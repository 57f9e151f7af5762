"""Stage one: learn the reference pair (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backend.emolora.adapter import Adapter, routed
from backend.emolora.encoded import EncodedPair
from backend.emolora.losses import reconstruction
from backend.emolora.sampling import concatenate
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import (
    Residuals,
    add_noise,
    control,
    hints,
    noise_target,
    predict,
)

__all__ = ["Draw", "Learnt", "accumulate", "add_gradient", "both", "draw", "learn"]


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
        gradient = gradient if scale == 1.0 else gradient.div_(scale)
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def accumulate(
    models: Models, adapter: Adapter, blocks: Sequence[str], pair: EncodedPair, chance: Draw
) -> dict[str, float]:
    """Gradients of one step: L_des into all of θ_a, L_emb (prompts routed) into θ_e only.

    Both images get the same noise and timestep. The step's updates are made together. Where the
    profile does not learn the design, L_emb goes into all of θ_a, and all blocks read its prompt.

    Returns:
        the losses, "design" (if it is learnt) and "embroidery".
    """
    seen = chance.of(pair)
    if models.profile.training.design:
        return learn(models, adapter, blocks, seen, chance).losses
    text, controls = pair.embroidery_text.expand(len(seen)), hints(models, seen.controls)
    noisy = add_noise(models, seen.embroidery, chance.noise, chance.timestep)
    size = (models.profile.window, models.profile.window)
    output = predict(models, noisy, chance.timestep, text, controls, size=size)
    target = noise_target(models, seen.embroidery, chance.noise, chance.timestep)
    loss = reconstruction(output, target, seen.weight).mean()
    add_gradient(loss, adapter.parameters, models.loss_scale)
    return {"embroidery": float(loss.detach())}


@dataclass(frozen=True, slots=True)
class Learnt:
    """What learning from a pair's crops leaves behind.

    Attributes:
        losses: "design" and "embroidery".
        noisy: design latents z_t, (B, C, side, side).
        said: what the ControlNets say of them.
        output: what the adapted UNet says of them.
    """

    losses: dict[str, float]
    noisy: torch.Tensor
    said: Residuals | None
    output: torch.Tensor


def learn(
    models: Models,
    adapter: Adapter,
    blocks: Sequence[str],
    seen: EncodedPair,
    chance: Draw,
    weight: float = 1.0,
) -> Learnt:
    """`weight` · (L_des + L_emb), L_des into all of θ_a, L_emb (prompts routed) into θ_e only.

    Both share one pass: designs are the first half of its rows, and the only ones that the rest of
    θ_a learns from.

    Args:
        seen: the crops, B of them.
    """
    rows = len(seen)
    timestep, noise = chance.timestep.repeat(2), chance.noise.repeat(2, 1, 1, 1)
    text = seen.design_text.expand(2 * rows)
    routed_text = both(seen.design_text.expand(rows), seen.embroidery_text.expand(rows))
    latents = torch.cat([seen.design, seen.embroidery])
    noisy = add_noise(models, latents, noise, timestep)
    size = (models.profile.window, models.profile.window)
    said = None
    if (controls := hints(models, seen.controls)) is not None:
        controls = concatenate([controls, controls])
        said = control(models, noisy, timestep, text, controls, size=size)
    with routed(models, blocks, routed_text.hidden), adapter.content_learns_from(rows):
        output = predict(models, noisy, timestep, text, said, size=size)
        target = noise_target(models, latents, noise, timestep)
        each = reconstruction(output, target, seen.weight.repeat(2, 1, 1, 1))
        design, embroidery = (part.mean() for part in each.chunk(2))
        add_gradient(weight * (design + embroidery), adapter.parameters, models.loss_scale)
    losses = {"design": float(design.detach()), "embroidery": float(embroidery.detach())}
    of_designs = None if said is None else said[:rows]
    return Learnt(losses, noisy[:rows], of_designs, output.detach()[:rows])


def both(first: TextEmbedding, second: TextEmbedding) -> TextEmbedding:
    """The rows of one, then those of the other."""
    return TextEmbedding(
        torch.cat([first.hidden, second.hidden]), torch.cat([first.pooled, second.pooled])
    )
