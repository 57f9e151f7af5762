"""Starts a ControlNet's reading of its picture so that mean colours pass through it unchanged.

From random weights a ControlNet needs thousands of pictures before it has learned to read colours.
Here six channels of every stage begin as (f, -f) pairs of the three colours, averaged by each
halving: silu(f) - silu(-f) = f carries them through the activations.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel
from torch import nn

__all__ = ["colour_start"]

_PAIR = 3  # channels c and c + 3 are f and -f


@torch.no_grad()
def colour_start(controlnet: ControlNetModel) -> None:
    """Set the first six channels of each convolution that reads the picture, in place."""
    embedding: Any = controlnet.controlnet_cond_embedding
    _carry(embedding.conv_in, first=True)
    for convolution in embedding.blocks:
        _carry(convolution)
    out = embedding.conv_out
    out.weight[:, :_PAIR] = 0
    out.weight[:, _PAIR : 2 * _PAIR] = 0
    mix = torch.empty(out.out_channels, _PAIR)
    nn.init.orthogonal_(mix, gain=2.0)
    out.weight[:, :_PAIR, 1, 1] = mix
    out.weight[:, _PAIR : 2 * _PAIR, 1, 1] = -mix


def _carry(convolution: Any, *, first: bool = False) -> None:
    convolution.weight[: 2 * _PAIR] = 0
    convolution.bias[: 2 * _PAIR] = 0
    # The mean of a 2 × 2 cell where the picture is halved, else the pixel itself.
    halves = convolution.stride[0] == 2
    taps = slice(1, 3) if halves else slice(1, 2)
    value = 0.25 if halves else 1.0
    for channel in range(_PAIR):
        for sign, row in ((1.0, channel), (-1.0, channel + _PAIR)):
            if first:  # bytes as 0..1 become -1..1
                convolution.weight[row, channel, taps, taps] = 2 * sign
                convolution.bias[row] = -sign
            else:
                convolution.weight[row, channel, taps, taps] = sign * value
                convolution.weight[row, channel + _PAIR, taps, taps] = -sign * value
