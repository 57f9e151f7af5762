"""LoRA layers of a training: W x + B A x, and whose gradient reaches A and B.

They stand in for the forward passes of peft's layers, which take as long again as the layer that
they adapt: one step of the graph a layer, nothing kept that no gradient needs, and of a batch only
the rows that are to teach a layer do. So passes can share a batch though they teach different
blocks (paper, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_weight

from backend.emolora.lean import to_input
from backend.models.products import convolution, product

__all__ = ["Lora", "Teaching"]


@dataclass(slots=True)
class Teaching:
    """How many of a batch's first rows teach some layers; None: all."""

    rows: int | None = None


class Lora:
    """The forward pass of one adapted layer, linear or convolution.

    Args:
        base: the layer whose weights W stay.
        down, up: A and B, in float32 whatever W is in.
        teaching: shared by all layers that the same rows teach.
    """

    def __init__(
        self,
        base: torch.nn.Module,
        down: torch.nn.Parameter,
        up: torch.nn.Parameter,
        teaching: Teaching,
    ) -> None:
        self._base, self._down, self._up = base, down, up
        self._teaching = teaching
        self._apply = _Convolution if isinstance(base, torch.nn.Conv2d) else _Linear
        self.scale = 1.0
        self.on = True

    def __call__(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if not self.on:
            found: torch.Tensor = self._base(x)
            return found
        rows = x.shape[0] if self._teaching.rows is None else self._teaching.rows
        factors: tuple[torch.Tensor, torch.Tensor] = (self._down, self._up)
        if rows == 0:
            factors = (self._down.detach(), self._up.detach())
        made: torch.Tensor = self._apply.apply(x, *factors, self._base, self.scale, rows)
        return made


class _Linear(torch.autograd.Function):
    """y = W x + b + s B A x over (rows, ..., in)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        down: torch.Tensor,
        up: torch.Tensor,
        base: torch.nn.Linear,
        scale: float,
        rows: int,
    ) -> torch.Tensor:
        down, up = down.to(x.dtype), up.to(x.dtype)
        inner = product(x, down)
        y = product(x, base.weight, base.bias).add_(product(inner, up), alpha=scale)
        ctx.base, ctx.scale, ctx.rows = base, scale, rows
        ctx.save_for_backward(x[:rows], inner[:rows], down, up)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inner, down, up = ctx.saved_tensors
        g = gradients[0].contiguous()
        within = product(g, up.t()).mul_(ctx.scale)
        to_x = to_down = to_up = None
        if ctx.needs_input_grad[0]:
            to_x = product(g, ctx.base.weight.t()).add_(product(within, down.t()))
        if ctx.needs_input_grad[1]:
            to_down = _outer(within[: ctx.rows], x)
            to_up = ctx.scale * _outer(g[: ctx.rows], inner)
        return to_x, to_down, to_up, None, None, None


class _Convolution(torch.autograd.Function):
    """The same over maps (rows, in, h, w): A is a convolution like W, B one of 1 x 1."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        down: torch.Tensor,
        up: torch.Tensor,
        base: torch.nn.Conv2d,
        scale: float,
        rows: int,
    ) -> torch.Tensor:
        down, up = down.to(x.dtype), up.to(x.dtype)
        inner = conv2d(x, down, None, base.stride, base.padding)
        y = convolution(x, base)
        y.add_(conv2d(inner, up), alpha=scale)
        ctx.base, ctx.scale, ctx.rows = base, scale, rows
        ctx.size = x.shape
        ctx.save_for_backward(x[:rows], inner[:rows], down, up)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inner, down, up = ctx.saved_tensors
        g, base, rows = gradients[0], ctx.base, ctx.rows
        within = ctx.scale * conv2d(g, up.transpose(0, 1))
        to_x = to_down = to_up = None
        if ctx.needs_input_grad[0]:
            to_x = to_input(g, base.weight, base, ctx.size)
            to_x += to_input(within, down, base, ctx.size)
        if ctx.needs_input_grad[1]:
            to_down = conv2d_weight(x, down.shape, within[:rows], base.stride, base.padding)
            to_up = ctx.scale * _outer(g[:rows].movedim(1, -1), inner.movedim(1, -1))
            to_up = to_up[..., None, None]
        return to_x, to_down, to_up, None, None, None


def _outer(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum over all rows and places of left right^T, (out, in)."""
    return left.reshape(-1, left.shape[-1]).t() @ right.reshape(-1, right.shape[-1])
