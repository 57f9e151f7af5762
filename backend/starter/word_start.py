"""Starts a text encoder so that every word of a caption is heard from the first step.

From random weights two layers of attention collapse within a few thousand captions: they keep
"flat or textile" and lose which textile. Here each token begins as its own embedding plus the
average of the words before it (a bag of words), and training refines that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["word_start"]

_WORD_SPREAD = 0.5
_MIX = 2.0  # weight of the bag of words beside the token's own embedding
_PAD_MARK = 3.0
_DEAF = 0.3  # how strongly padding is left out of the bag


@torch.no_grad()
def word_start(encoder: nn.Module, padding: int) -> None:
    """Set embeddings and attention in place.

    Args:
        encoder: a CLIP text model, with or without projection.
        padding: id of the token that ends a caption and fills the rest.
    """
    for name, module in encoder.named_modules():
        if name.endswith("token_embedding"):
            nn.init.normal_(module.weight, std=_WORD_SPREAD)
            module.weight[:, -1] = 0
            module.weight[padding, -1] = -_PAD_MARK
        elif name.endswith("self_attn"):
            _average(module)
        elif name.endswith("mlp"):
            nn.init.zeros_(module.fc2.weight)
        elif name.endswith("text_projection"):
            nn.init.orthogonal_(module.weight)


def _average(attention: Any) -> None:
    """Attend evenly to all words before, not to padding, and pass their values through."""
    nn.init.eye_(attention.v_proj.weight)
    nn.init.eye_(attention.out_proj.weight)
    attention.out_proj.weight.mul_(_MIX)
    attention.k_proj.weight[:, -1] = _DEAF
    nn.init.ones_(attention.q_proj.bias)
