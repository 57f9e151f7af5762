"""Overlapping windows over latents of any size, blended so that no border can be seen.

Predictions of all windows are averaged at every denoising step (Bar-Tal et al., "MultiDiffusion",
2023), with weights that fade to the window's border, so neighbouring windows agree as they go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Blend", "Grid", "noise_field", "plan"]

# Noise is drawn in blocks of this many latent cells, each from its own seed.
NOISE_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows over a plane of latent cells.

    Attributes:
        height, width: of the plane, cells.
        window: side of each window, cells.
        spots: (top, left) of the windows to compute.
        weight: (window, window) float32, how much a window is believed at each of its cells.
    """

    height: int
    width: int
    window: int
    spots: tuple[tuple[int, int], ...]
    weight: torch.Tensor

    def batches(self, size: int) -> Iterator[tuple[tuple[int, int], ...]]:
        """The spots, at most `size` at a time."""
        for start in range(0, len(self.spots), size):
            yield self.spots[start : start + size]


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Evenly spread starts of windows that cover `length` with at least `overlap` of a window."""
    if length <= window:
        return [0]
    stride = max(1, int(window * (1.0 - overlap)))
    count = -(-(length - window) // stride) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _weight(window: int) -> torch.Tensor:
    """Raised cosine, never quite zero, so that a plane's own border is covered too."""
    position = (torch.arange(window, dtype=torch.float32) + 0.5) / window
    ramp = torch.sin(torch.pi * position) ** 2 + 1e-3
    return ramp[:, None] * ramp[None]


def plan(
    height: int,
    width: int,
    window: int,
    overlap: float,
    needed: NDArray[np.bool_] | None = None,
) -> Grid:
    """Lay windows over a plane of at least one window a side.

    Args:
        height, width, window: in latent cells.
        overlap: least share of a window that neighbours share.
        needed: (height, width) cells whose result matters; windows without any are left out.
    """
    spots = tuple(
        (top, left)
        for top in _starts(height, window, overlap)
        for left in _starts(width, window, overlap)
        if needed is None or needed[top : top + window, left : left + window].any()
    )
    return Grid(height, width, window, spots, _weight(window))


class Blend:
    """Weighted mean of what windows say about a plane.

    Args:
        grid: the windows.
        channels: of the plane.
        factor: cells of the plane per latent cell: 1 for latents, 8 for pixels.
    """

    def __init__(self, grid: Grid, channels: int, factor: int = 1) -> None:
        self._factor, self._side = factor, grid.window * factor
        shape = (grid.height * factor, grid.width * factor)
        self._sum = torch.zeros((channels, *shape))
        self._total = torch.zeros(shape)
        self._weight = grid.weight if factor == 1 else _weight(self._side)
        self._alone = len(grid.spots) == 1

    def add(self, spot: tuple[int, int], values: torch.Tensor) -> None:
        """Take in one window's (C, side, side) values."""
        top, left = spot[0] * self._factor, spot[1] * self._factor
        here = np.s_[top : top + self._side, left : left + self._side]
        values = values.to("cpu", torch.float32)
        if self._alone:
            self._sum[:, here[0], here[1]] = values
            self._total[here] = 1.0
            return
        self._sum[:, here[0], here[1]] += values * self._weight
        self._total[here] += self._weight

    def mean(self) -> torch.Tensor:
        """(C, H, W) float32 on the CPU; 0 where no window was. Ends the blend."""
        return self._sum.div_(self._total.clamp_min_(1e-12))


def noise_field(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Gaussian noise that depends on seed and position only, not on the plane's size.

    Returns:
        (channels, height, width) float32 on the CPU.
    """
    field = torch.empty(channels, height, width)
    for top in range(0, height, NOISE_BLOCK):
        for left in range(0, width, NOISE_BLOCK):
            words = np.random.SeedSequence((seed, top, left)).generate_state(2)
            generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
            block = torch.randn((channels, NOISE_BLOCK, NOISE_BLOCK), generator=generator)
            bottom, right = min(top + NOISE_BLOCK, height), min(left + NOISE_BLOCK, width)
            field[:, top:bottom, left:right] = block[:, : bottom - top, : right - left]
    return field
