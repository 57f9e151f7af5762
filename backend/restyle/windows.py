"""Overlapping windows over latents of any size, blended so that no border can be seen.

Windows that overlap are averaged at a denoising step (Bar-Tal et al., "MultiDiffusion", 2023), with
weights that fade to the window's border. Windows side by side, moved at every step, look at each
cell but once a step (Frolov et al., "SpotDiffusion", 2024). Both are used, see `in_turn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Blend", "Grid", "Windows", "in_turn", "noise_field", "plan", "tiles"]

# Noise is drawn in blocks of this many latent cells, each from its own seed.
NOISE_BLOCK = 64
# Side of the autoencoder's tiles, cells, where windows are smaller: less is looked at twice. Still
# larger ones save nothing: what they are worked on with no longer fits a processor's caches.
TILE = 48
# Share of a window that these tiles have in common; with less, what lies beyond is missed.
TILE_OVERLAP = 0.1


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

    def covered(self) -> NDArray[np.bool_]:
        """(height, width) cells that a window covers."""
        found = np.zeros((self.height, self.width), dtype=bool)
        for top, left in self.spots:
            found[top : top + self.window, left : left + self.window] = True
        return found


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
    rows, columns = (_starts(length, window, overlap) for length in (height, width))
    return _grid(height, width, window, rows, columns, needed)


def in_turn(
    height: int,
    width: int,
    window: int,
    overlap: float,
    needed: NDArray[np.bool_] | None = None,
) -> tuple[Grid, ...]:
    """Grids for steps to take in turn, whose windows cover the plane with as few as may be.

    Two grids of windows side by side: where windows of one meet, those of the other have their
    middle, so what a border leaves is mended at the next step. One grid of overlapping windows, as
    of `plan`, where these are no more.
    """
    rows, columns = (_starts(length, window, 0.0) for length in (height, width))
    pairs = ((rows, _between(columns)), (_between(rows), columns))
    beside = tuple(_grid(height, width, window, *pair, needed) for pair in pairs)
    overlapping = plan(height, width, window, overlap, needed)
    if 2 * len(overlapping.spots) <= sum(len(each.spots) for each in beside):
        return (overlapping,)
    return beside


def tiles(
    height: int, width: int, window: int, overlap: int, needed: NDArray[np.bool_] | None = None
) -> Grid:
    """As `plan`, with windows only as large as it takes, for what works at any size.

    Args:
        window: largest side, cells.
        overlap: cells that neighbours share.
    """
    counts = [1 + max(0, -(-(each - window) // (window - overlap))) for each in (height, width)]
    side = max(
        -(-(length + (count - 1) * overlap) // count)
        for length, count in zip((height, width), counts)
    )
    rows, columns = (
        [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]
        for length, count in zip((height, width), counts)
    )
    return _grid(height, width, side, rows, columns, needed)


def _between(starts: list[int]) -> list[int]:
    """Starts half-way between these, and both ends."""
    if len(starts) == 1:
        return starts
    return [starts[0], *((a + b) // 2 for a, b in pairwise(starts)), starts[-1]]


def _grid(
    height: int,
    width: int,
    window: int,
    rows: list[int],
    columns: list[int],
    needed: NDArray[np.bool_] | None,
) -> Grid:
    spots = tuple(
        (top, left)
        for top in rows
        for left in columns
        if needed is None or needed[top : top + window, left : left + window].any()
    )
    return Grid(height, width, window, spots, _weight(window))


@dataclass(frozen=True, slots=True)
class Windows:
    """All grids of one picture.

    Attributes:
        turns: what denoising steps take in turn.
        last: the last step's; they overlap, since no further step mends what borders leave.
        encoded, decoded: the autoencoder's tiles; all that a window covers, and what is needed.
    """

    turns: tuple[Grid, ...]
    last: Grid
    encoded: Grid
    decoded: Grid

    @classmethod
    def over(cls, needed: NDArray[np.bool_], window: int, overlap: float) -> Windows:
        """Over a plane of cells, where `needed`; overlap as for `plan`."""
        height, width = needed.shape
        turns = in_turn(height, width, window, overlap, needed)
        last = plan(height, width, window, overlap, needed)
        seen = np.logical_or.reduce([each.covered() for each in (*turns, last)])
        return cls(turns, last, _coded(window, seen), _coded(window, needed))

    def of(self, steps: int, *, ends: bool = True) -> list[Grid]:
        """A grid for each step of a schedule; `ends`: whether no further step follows."""
        grids = [self.turns[i % len(self.turns)] for i in range(steps)]
        return [*grids[:-1], self.last] if ends and grids else grids

    def calls(self, steps: int, batch: int, *, ends: bool = True) -> int:
        """Batches of windows in all these steps."""
        return sum(-(-len(each.spots) // batch) for each in self.of(steps, ends=ends))


def _coded(window: int, needed: NDArray[np.bool_]) -> Grid:
    """Tiles for the autoencoder, of a size with which they are together smallest."""
    shared = max(1, int(window * TILE_OVERLAP))
    height, width = needed.shape
    sides = (max(window, TILE), window)
    grids = [tiles(height, width, side, shared, needed) for side in sides]
    return min(grids, key=lambda each: len(each.spots) * each.window**2)


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
