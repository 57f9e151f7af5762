"""Stitches by the book: each family at one width, direction and repeat, laid on the latent grid.

Between noise and thread a denoiser knows only the mean of what it may yet become, and the mean of
threads at every place and angle is no thread at all; then a textile's name says nothing that a
small model could learn. A part of the named pictures is therefore sewn alike, with repeats that
divide `TILE`, so that name and design together tell every thread, at every timestep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

__all__ = ["BOOK", "TILE", "Book"]

TILE = 32
"""Pixels after which a picture by the book repeats: one cell of the UNet's coarsest latents."""


@dataclass(frozen=True, slots=True)
class Book:
    """One family's fixed way of being sewn.

    Attributes:
        width: thread width in pixels.
        eighths: direction of the threads, in eighths of a turn.
        along, across: the pattern's repeat in thread widths.
    """

    width: float
    eighths: int
    along: float
    across: float

    @property
    def angle(self) -> float:
        """Direction of the threads in radians."""
        return self.eighths * np.pi / 4

    def stretch(self) -> tuple[float, float]:
        """Factors of the coordinates along and across, so that whole repeats fill a tile."""
        side = TILE * (0.5**0.5 if self.eighths % 2 else 1.0)
        along, across = (
            repeat * self.width * max(1, round(side / (repeat * self.width))) / side
            for repeat in (self.along, self.across)
        )
        return along, across


BOOK: Mapping[str, Book] = MappingProxyType(
    {
        "satin": Book(6.4, 0, 1.0, 1.0),
        "tatami": Book(6.7, 1, 4.0, 3.4),
        "long and short": Book(6.4, 2, 5.5, 1.0),
        "brick": Book(6.7, 0, 2.1, 2.4),
        "stem": Book(5.3, 2, 1.35, 3.0),
        "couching": Book(6.3, 3, 3.75, 3.6),
        "chain": Book(7.0, 2, 2.9, 2.3),
        "knit": Book(7.3, 2, 1.6, 2.2),
        "woven": Book(7.0, 0, 2.3, 2.3),
        "terry": Book(6.0, 0, 1.27, 2.3),
        "bead": Book(9.4, 0, 1.53, 3.38),
        "french knot": Book(4.6, 0, 1.93, 3.52),
    }
)
"""The training families by the book; those held out have none."""
