"""Matrix products of float32 on a CPU by oneDNN.

torch leaves them to MKL, which on processors that are not Intel's is half as fast; convolutions it
gives to oneDNN anyway.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

__all__ = ["product"]

_HERE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x W^T + b, for use where autograd does not look.

    Args:
        x: (..., in), of any device and type.
        weight: (out, in), also a transposed view.

    Returns:
        (..., out), contiguous.
    """
    if not (_HERE and x.device.type == "cpu" and x.dtype == torch.float32):
        return linear(x, weight, bias)
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made
