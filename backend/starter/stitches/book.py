"""Stitches by the book: each family at one width, direction and repeat, laid on the latent grid.

Between noise and thread a denoiser knows only the mean of what it may yet become, and the mean of
threads at every place and angle is no thread at all; then a textile's name says nothing that a
small model could learn. Named pictures are therefore sewn alike, and all over; those that are not
named come in every width and direction. Book patterns repeat from one latent cell to the next,
since a convolution cannot tell in which of two cells it is: so name and design together tell every
thread, at every timestep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

__all__ = ["BOOK", "CELL", "Book"]

CELL = 8
"""Pixels after which a picture by the book repeats, both ways: one latent cell."""

_SLANT = CELL / 2**0.5  # distance of the diagonals through neighbouring cells


@dataclass(frozen=True, slots=True)
class Book:
    """One family's fixed way of being sewn.

    Attributes:
        width: thread width that the family is drawn at, in pixels, before it is stretched.
        angle: direction of the threads, radians.
        along, across: a length of the pattern in thread widths, and the pixels it comes to.
    """

    width: float
    angle: float
    along: tuple[float, float]
    across: tuple[float, float]

    def stretch(self) -> tuple[float, float]:
        """Factors of the coordinates along and across the threads."""
        along, across = (
            self.width * widths / pixels for widths, pixels in (self.along, self.across)
        )
        return along, across


_RIGHT, _DOWN, _RISING, _FALLING = 0.0, np.pi / 2, -np.pi / 4, np.pi / 4
_SHALLOW = -float(np.arctan2(1, 2))  # rows through every second neighbour

BOOK: Mapping[str, Book] = MappingProxyType(
    {
        "satin": Book(5.7, _FALLING, (1.0, _SLANT), (1.0, _SLANT)),
        "tatami": Book(6.7, _RISING, (4.0, 2 * _SLANT), (0.85, _SLANT)),
        "long and short": Book(3.6, _SHALLOW, (5.5, 5**0.5 * CELL), (1.0, CELL / 5**0.5)),
        "brick": Book(4.7, _FALLING, (2.1, 2 * _SLANT), (1.2, _SLANT)),
        "stem": Book(5.3, _DOWN, (1.35, CELL), (1.5, CELL)),
        "couching": Book(4.4, _RIGHT, (3.75, 2 * CELL), (1.8, CELL)),
        "chain": Book(3.5, _DOWN, (2.9, CELL), (2.3, CELL)),
        "knit": Book(4.0, _DOWN, (1.6, CELL), (2.2, CELL)),
        "woven": Book(3.5, _RIGHT, (1.15, CELL / 2), (1.15, CELL / 2)),
        "terry": Book(6.0, _RIGHT, (1.27, CELL), (1.15, CELL)),
        "bead": Book(4.8, _RIGHT, (1.53, CELL), (1.69, CELL)),
        "french knot": Book(3.1, _RISING, (1.93, _SLANT), (1.76, _SLANT)),
    }
)
"""The training families by the book; those held out have none."""
