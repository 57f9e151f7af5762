"""Stage two: reference and generated pair together, with the contrastive loss (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backend.emolora.adapter import Adapter, routed
from backend.emolora.encoded import EncodedPair
from backend.emolora.losses import contrastive
from backend.emolora.stage_one import Draw, add_gradient, both, learn
from backend.models.loading import Models
from backend.models.prediction import predict

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
    pairs = chance.of(reference), chance.of(generated, only=True)
    batch = len(pairs[0])
    # One after the other, since what a pass keeps for its gradient is what takes the memory.
    first, second = (
        learn(models, adapter, blocks, seen, chance, weight)
        for seen, weight in zip(pairs, (settings.reference_weight, settings.generated_weight))
    )
    timestep = chance.timestep.repeat(2)
    noisy = torch.cat([first.noisy, second.noisy])
    output = torch.cat([first.output, second.output])
    # The ControlNets are not adapted: what they say of the design latents serves all passes.
    said = None
    if first.said is not None and second.said is not None:
        said = first.said.with_rows(second.said)
    design_text = both(*(seen.design_text.expand(batch) for seen in pairs))
    routed_text = both(*(seen.embroidery_text.expand(batch) for seen in pairs))
    size = (models.profile.window, models.profile.window)

    words = both(design_text, routed_text)
    with torch.no_grad(), adapter.base(), routed(models, blocks, words.hidden):
        base_design, base_embroidery = predict(
            models,
            noisy.repeat(2, 1, 1, 1),
            timestep.repeat(2),
            both(design_text, design_text),
            None if said is None else said.with_rows(said),
            size=size,
        ).chunk(2)
    design_shift = output - base_design

    with routed(models, blocks, routed_text.hidden), adapter.content_learns_from(0):
        shift = predict(models, noisy, timestep, design_text, said, size=size) - base_embroidery
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
    return {**first.losses, "contrastive": float(loss.detach())}
