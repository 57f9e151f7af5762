"""Products with frozen weights: of float32 by oneDNN, and with weights held in bfloat16.

torch leaves matrix products on a CPU to MKL, which on processors that are not Intel's is half as
fast as oneDNN; convolutions it gives to oneDNN anyway. Where the processor multiplies bfloat16,
such products take about half the time of float32's, their weights half the memory: factors are
rounded to it, sums are kept in float32 and rounded once, and all around them stays float32.
"""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d, linear

__all__ = ["HalvedConv2d", "HalvedLinear", "convolution", "halve", "has_bfloat16", "product"]

_HERE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def product(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x W^T + b, for use where autograd does not look.

    Args:
        x: (..., in), of any device and type.
        weight: (out, in), also a transposed view; of x's type, or bfloat16 where x is float32.

    Returns:
        (..., out), contiguous, of x's type.
    """
    if _is_mixed(x, weight):
        if not (_HERE and has_bfloat16()):
            return linear(x.bfloat16(), weight, bias).float()
        rounded: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x.bfloat16(), weight, bias, "none", [], ""
        )
        return rounded.float()
    if not (_HERE and x.device.type == "cpu" and x.dtype == torch.float32):
        return linear(x, weight, bias)
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


def convolution(x: torch.Tensor, layer: torch.nn.Conv2d) -> torch.Tensor:
    """What a layer of plain convolutions says of x, (B, C, h, w), in x's type."""
    weight, bias = layer.weight, layer.bias
    if _is_mixed(x, weight):
        return conv2d(x.bfloat16(), weight, bias, layer.stride, layer.padding).float()
    return conv2d(x, weight, bias, layer.stride, layer.padding)


class HalvedLinear(torch.nn.Linear):
    """A linear layer of float32 whose weights, in bfloat16, stay."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., out) of (..., in); autograd does not look."""
        return product(input, self.weight, self.bias)


class HalvedConv2d(torch.nn.Conv2d):
    """A convolution of float32 whose weights, in bfloat16, stay."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, out, h, w) of (B, in, h, w); autograd does not look."""
        return convolution(input, self)


def halve(network: torch.nn.Module) -> None:
    """Hold the weights of a float32 network's linear layers and convolutions in bfloat16."""
    for module in network.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = HalvedLinear
        elif type(module) is torch.nn.Conv2d and module.padding_mode == "zeros":
            module.__class__ = HalvedConv2d
        else:
            continue
        module.to(torch.bfloat16)


def _is_mixed(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return x.dtype == torch.float32 and weight.dtype == torch.bfloat16
