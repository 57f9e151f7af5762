"""Stage two: reference and generated pair together, with the contrastive loss (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backend.emolora.adapter import Adapter, routed
from backend.emolora.encoded import EncodedPair
from backend.emolora.losses import contrastive, reconstruction
from backend.emolora.sampling import concatenate
from backend.emolora.stage_one import Draw, add_gradient
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import (
    Residuals,
    add_noise,
    control,
    hints,
    noise_target,
    predict,
)

__all__ = ["accumulate"]


def accumulate(
    models: Models,
    adapter: Adapter,
    blocks: Sequence[str],
    reference: EncodedPair,
    generated: EncodedPair,
    chance: Draw,
) -> dict[str, float]:
    """Gradients of one step over crops of both pairs, B of each.

    1. L_des on both pairs into θ_a. 2. L_emb on both, prompts routed, into θ_e. 3. L_con, all on
    the design latents, into θ_e. A crop of one pair and its partner of the other share place,
    noise and timestep, so that the maps the contrastive loss compares differ by design and prompt.

    Returns:
        the losses "design" and "embroidery" (of the reference) and "contrastive".
    """
    settings = models.profile.training
    first, second = chance.of(reference), chance.of(generated, only=True)
    batch = len(first)
    timestep, noise = chance.timestep.repeat(2), chance.noise.repeat(2, 1, 1, 1)
    share = torch.tensor([settings.reference_weight, settings.generated_weight])
    share = share.repeat_interleave(batch).to(models.device) / batch
    weight = torch.cat([first.weight, second.weight])
    design_text = _both(first.design_text.expand(batch), second.design_text.expand(batch))
    routed_text = _both(first.embroidery_text.expand(batch), second.embroidery_text.expand(batch))
    controls = None
    if first.controls is not None and second.controls is not None:
        controls = hints(models, concatenate([first.controls, second.controls]))
    size = (models.profile.window, models.profile.window)

    def said_of(noisy: torch.Tensor) -> Residuals | None:
        if controls is None:
            return None
        return control(models, noisy, timestep, design_text, controls, size=size)

    def output_for(noisy: torch.Tensor, said: Residuals | None) -> torch.Tensor:
        return predict(models, noisy, timestep, design_text, said, size=size)

    designs = torch.cat([first.design, second.design])
    noisy = add_noise(models, designs, noise, timestep)
    # The ControlNets are not adapted: what they say of the design latents serves four passes.
    said = said_of(noisy)
    output = output_for(noisy, said)
    design = reconstruction(output, noise_target(models, designs, noise, timestep), weight)
    add_gradient((share * design).sum(), adapter.parameters, models.loss_scale)

    both = _both(design_text, routed_text)
    with torch.no_grad(), adapter.base(), routed(models, blocks, both.hidden):
        base_design, base_embroidery = predict(
            models,
            noisy.repeat(2, 1, 1, 1),
            timestep.repeat(2),
            _both(design_text, design_text),
            None if said is None else said.repeat(2),
            size=size,
        ).chunk(2)
    design_shift = output.detach() - base_design

    with routed(models, blocks, routed_text.hidden):
        embroideries = torch.cat([first.embroidery, second.embroidery])
        noisy_embroideries = add_noise(models, embroideries, noise, timestep)
        output = output_for(noisy_embroideries, said_of(noisy_embroideries))
        target = noise_target(models, embroideries, noise, timestep)
        embroidery = reconstruction(output, target, weight)
        add_gradient((share * embroidery).sum(), adapter.style_parameters, models.loss_scale)

        shift = output_for(noisy, said) - base_embroidery
        losses = [
            contrastive(
                design_shift[row],
                design_shift[row + batch],
                shift[row],
                shift[row + batch],
                settings.temperature,
            )
            for row in range(batch)
        ]
        loss = torch.stack(losses).mean()
        weighted = settings.contrastive_weight * loss
        add_gradient(weighted, adapter.style_parameters, models.loss_scale)
    return {
        "design": float(design[:batch].detach().mean()),
        "embroidery": float(embroidery[:batch].detach().mean()),
        "contrastive": float(loss.detach()),
    }


def _both(first: TextEmbedding, second: TextEmbedding) -> TextEmbedding:
    return TextEmbedding(
        torch.cat([first.hidden, second.hidden]), torch.cat([first.pooled, second.pooled])
    )
