"""A frozen UNet that keeps less for the backward pass than diffusers' own forward passes make it.

What is quick to compute is computed again where the gradient needs it: normalisation with its
activation, gated activations. And a convolution whose weights stay needs nothing of its input.
Values and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from torch.nn.functional import gelu, silu

from backend.models.products import HalvedConv2d, HalvedLinear, convolution, product

__all__ = ["fatten", "slim", "to_input"]


def slim(unet: torch.nn.Module) -> None:
    """Let frozen layers, ResNet blocks and gated activations keep less, until `fatten`."""
    for module in unet.modules():
        forward = _forward_of(module)
        if forward is not None:
            module.__dict__["forward"] = forward


def fatten(unet: torch.nn.Module) -> None:
    """Undo `slim`."""
    for module in unet.modules():
        if _forward_of(module) is not None:
            module.__dict__.pop("forward", None)


def _forward_of(module: torch.nn.Module) -> Callable[..., torch.Tensor] | None:
    if any(each.requires_grad for each in module.parameters(recurse=False)):
        return None
    if isinstance(module, ResnetBlock2D) and _is_sdxls(module):
        return partial(_resnet, module)
    if isinstance(module, GEGLU):
        return partial(_geglu, module)
    if type(module) in (torch.nn.Linear, HalvedLinear):
        return partial(_Linear.apply, module)
    if type(module) in (torch.nn.Conv2d, HalvedConv2d) and module.padding_mode == "zeros":
        return partial(_Convolution.apply, module)
    return None


def _is_sdxls(block: ResnetBlock2D) -> bool:
    """Whether a block does no more than those of SDXL's UNet do."""
    return (
        block.upsample is None
        and block.downsample is None
        and block.time_emb_proj is not None
        and block.time_embedding_norm == "default"
        and not block.skip_time_act
        and block.output_scale_factor == 1.0
        and isinstance(block.nonlinearity, torch.nn.SiLU)
    )


def _resnet(block: ResnetBlock2D, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    inner = block.conv1(_again(partial(_activated, block.norm1), x))
    inner = inner + block.time_emb_proj(silu(time))[:, :, None, None]
    inner = block.conv2(_again(partial(_activated, block.norm2), inner))
    return inner + (x if block.conv_shortcut is None else block.conv_shortcut(x))


def _geglu(layer: GEGLU, x: torch.Tensor) -> torch.Tensor:
    return _again(_gated, layer.proj(x))


def _activated(norm: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return silu(norm(x))


def _gated(x: torch.Tensor) -> torch.Tensor:
    value, gate = x.chunk(2, dim=-1)
    return value * gelu(gate)


def _again(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _Again.apply(function, x)
    return made


class _Again(torch.autograd.Function):
    """A function without parameters to learn, computed once more on the way back."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
    ) -> torch.Tensor:
        ctx.function = function
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = ctx.function(x)
        return None, torch.autograd.grad(y, x, gradients[0])[0]


class _Linear(torch.autograd.Function):
    """A linear layer whose weights stay."""

    @staticmethod
    def forward(ctx: Any, layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        ctx.layer = layer
        return product(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, product(gradients[0].contiguous(), ctx.layer.weight.t())


class _Convolution(torch.autograd.Function):
    """A convolution whose weights stay."""

    @staticmethod
    def forward(ctx: Any, layer: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        ctx.layer, ctx.size = layer, x.shape
        return convolution(x, layer)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, to_input(gradients[0], ctx.layer.weight, ctx.layer, ctx.size)


def to_input(
    g: torch.Tensor, weight: torch.Tensor, layer: torch.nn.Conv2d, size: torch.Size
) -> torch.Tensor:
    """A convolution's gradient to its input of `size`, which takes none of the input's values."""
    dtype, g = g.dtype, g.to(weight.dtype)
    flat = weight.is_contiguous(memory_format=torch.channels_last) or g.is_contiguous(
        memory_format=torch.channels_last
    )
    layout = torch.channels_last if flat else torch.contiguous_format
    shape = torch.empty(size, dtype=g.dtype, device=g.device, memory_format=layout)
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        g,
        shape,
        weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        [True, False, False],
    )[0]
    return found.to(dtype)
