"""Stage two: reference and generated pair together, with the contrastive loss (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backend.emolora.adapter import Adapter, routed
from backend.emolora.losses import contrastive, reconstruction
from backend.emolora.pair import EncodedPair
from backend.emolora.sampling import concatenate
from backend.emolora.stage_one import Draw, add_gradient
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import add_noise, noise_target, predict

__all__ = ["accumulate"]


def accumulate(
    models: Models,
    adapter: Adapter,
    blocks: Sequence[str],
    reference: EncodedPair,
    generated: EncodedPair,
    chance: Draw,
) -> dict[str, float]:
    """Gradients of one step over a batch of two rows, one of each pair.

    1. L_des on both pairs into θ_a. 2. L_emb on both, prompts routed, into θ_e. 3. L_con, all on
    the design latents, into θ_e. All rows share the noise and the timestep, so that the maps the
    contrastive loss compares differ by design and prompt alone.

    Args:
        chance: of one row: the reference's window, the timestep, the noise.

    Returns:
        the losses "design" and "embroidery" (of the reference) and "contrastive".
    """
    settings = models.profile.training
    row = chance.windows[:1]
    timestep = chance.timestep[:1].expand(2)
    noise = chance.noise[:1].expand(2, -1, -1, -1)
    share = torch.tensor(
        [settings.reference_weight, settings.generated_weight], device=models.device
    )
    weight = torch.cat([reference.weight[row], generated.weight])
    design_text = _both(reference.design_text, generated.design_text)
    routed_text = _both(reference.embroidery_text, generated.embroidery_text)
    controls = None
    if reference.controls is not None and generated.controls is not None:
        controls = concatenate([reference.controls[row], generated.controls])

    designs = torch.cat([reference.design[row], generated.design])
    noisy = add_noise(models, designs, noise, timestep)
    output = predict(models, noisy, timestep, design_text, controls)
    target = noise_target(models, designs, noise, timestep)
    design = reconstruction(output, target, weight)
    add_gradient((share * design).sum(), adapter.parameters)

    with torch.no_grad(), adapter.base():
        base_design = predict(models, noisy, timestep, design_text, controls)
        with routed(models, blocks, routed_text.hidden):
            base_embroidery = predict(models, noisy, timestep, design_text, controls)
    design_shift = output.detach() - base_design

    with routed(models, blocks, routed_text.hidden):
        embroideries = torch.cat([reference.embroidery[row], generated.embroidery])
        target = noise_target(models, embroideries, noise, timestep)
        noisy_embroidery = add_noise(models, embroideries, noise, timestep)
        output = predict(models, noisy_embroidery, timestep, design_text, controls)
        embroidery = reconstruction(output, target, weight)
        add_gradient((share * embroidery).sum(), adapter.style_parameters)

        output = predict(models, noisy, timestep, design_text, controls)
        embroidery_shift = output - base_embroidery
        loss = contrastive(
            design_shift[0],
            design_shift[1],
            embroidery_shift[0],
            embroidery_shift[1],
            settings.temperature,
        )
        add_gradient(settings.contrastive_weight * loss, adapter.style_parameters)
    return {
        "design": float(design[0].detach()),
        "embroidery": float(embroidery[0].detach()),
        "contrastive": float(loss.detach()),
    }


def _both(first: TextEmbedding, second: TextEmbedding) -> TextEmbedding:
    return TextEmbedding(
        torch.cat([first.hidden, second.hidden]), torch.cat([first.pooled, second.pooled])
    )
