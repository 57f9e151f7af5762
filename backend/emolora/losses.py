"""The three losses of the paper's section 3.3, as plain functions of predictions."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

__all__ = ["contrastive", "reconstruction"]


def reconstruction(
    prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """‖ε - ε_θ‖² of every row: L_des on designs, L_emb on embroideries (mean over the map).

    Args:
        prediction, target: (B, C, h, w).
        weight: (B, 1, h, w), how much each place counts; all alike if absent.

    Returns:
        (B,) float32.
    """
    squared = (prediction.float() - target.float()).square()
    if weight is None:
        return squared.mean(dim=(1, 2, 3))
    weight = weight.to(squared)
    return (squared * weight).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))


def contrastive(
    design_reference: torch.Tensor,
    design_generated: torch.Tensor,
    embroidery_reference: torch.Tensor,
    embroidery_generated: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """L_con: the style shift of both pairs alike, and unlike what designs alone add.

    Each argument is (C, h, w): adapted minus base prediction on the *design* latents, with the
    design prompt (ε_des) or the embroidery prompt (ε_emb). With ε_emb* = ε_emb - ε_des,
    L_con = -log exp s(ε_emb*^ref, ε_emb*^gen) / (exp s(ε_emb*^ref, ε_des^gen)
    + exp s(ε_des^ref, ε_emb*^gen)), s the cosine of the flattened maps over the temperature.
    No gradient flows through ε_des.

    Returns:
        a float32 scalar. (The released code averages the two negatives instead of adding them,
        which moves the loss by log 2 and leaves its gradient as it is.)
    """
    des_ref, des_gen = design_reference.detach().float(), design_generated.detach().float()
    shift_ref = embroidery_reference.float() - des_ref
    shift_gen = embroidery_generated.float() - des_gen

    def similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return cosine_similarity(first.flatten(), second.flatten(), dim=0) / temperature

    negatives = torch.stack([similarity(shift_ref, des_gen), similarity(des_ref, shift_gen)])
    return torch.logsumexp(negatives, dim=0) - similarity(shift_ref, shift_gen)
