"""Muon: an optimiser that learns rare things as quickly as frequent ones (Jordan et al., 2024).

The composer sees one motif in two hundred samples. AdamW, which follows what most samples want,
needs ten times as many of them. PyTorch's own Muon takes matrices only, no convolutions, and
multiplies in bfloat16, which many processors only imitate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

__all__ = ["Muon", "muon_and_adamw", "orthogonalised"]

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan's quintic: quick rather than exact
_NO_MATRIX = ("conv_in", "conv_out", "time_embedding", "token_embedding", "position_embedding")


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The matrix (m, n) with all singular values brought near 1, by Newton-Schulz iterations.

    They are done on the Gram matrix of the short side, so that a long one costs two products.
    """
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if len(matrix) > matrix.shape[1] else x
    one = torch.eye(len(x), dtype=x.dtype, device=x.device)
    gram, product = x @ x.T, one
    for _ in range(iterations):
        step = _A * one + _B * gram + _C * gram @ gram
        product = step @ product
        gram = step @ gram @ step
    x = product @ x
    return x.T if len(matrix) > matrix.shape[1] else x


class Muon(Optimizer):
    """Momentum whose every direction has one length.

    Args:
        params: weights of two or more axes; those of a convolution count as (outputs, rest).
        lr: length of a step.
        momentum: part of the earlier direction that stays.
        weight_decay: as of AdamW.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        if closure is not None:
            raise TypeError("Muon takes no closure.")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, self.state[weight], group)

    def _move(self, weight: nn.Parameter, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        keep = group["momentum"]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        gradient = weight.grad
        assert gradient is not None
        mean = state["momentum"].lerp_(gradient, 1 - keep)
        ahead = gradient.lerp(mean, keep).flatten(1)  # Nesterov's
        even = orthogonalised(ahead) * max(1.0, len(ahead) / ahead.shape[1]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(even.view(weight.shape), alpha=group["lr"])


def muon_and_adamw(modules: Mapping[str, nn.Module], rate: float = 1e-3) -> list[Optimizer]:
    """Muon for the inner matrices of some modules, AdamW for the rest, as Jordan advises.

    Args:
        rate: AdamW's learning rate; Muon's is 20 times as high.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules.values():
        for name, weight in module.named_parameters():
            inner = weight.ndim > 1 and not any(part in name for part in _NO_MATRIX)
            (matrices if inner else rest).append(weight)
    adamw = AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=1e-2)
    return [Muon(matrices, lr=20 * rate), adamw]
