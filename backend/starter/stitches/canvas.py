"""What a stitch family draws on (`Canvas`) and what it hands back (`Relief`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from backend.starter.stitches.book import Book

__all__ = ["Canvas", "Grid", "Relief", "lay_out", "smooth_noise"]

Grid = npt.NDArray[np.float32]
"""One number a pixel, (H, W)."""
Labels = npt.NDArray[np.int32]

_TABLE = 4096  # random numbers that thread and stitch indices look up


@dataclass(frozen=True, slots=True)
class Relief:
    """Thread geometry over the whole canvas.

    Attributes:
        height: of the thread's surface over the cloth, in thread widths, about 0 to 1.
        angle: direction the fibres run in, radians.
        cover: 1 where there is thread, 0 where the ground shows through.
        tint: brightness factor of each thread or stitch, around 1.
        shift_x, shift_y: where each pixel takes its colour from, in pixels from itself; one
            stitch is one colour, which is what makes sewn outlines ragged.
        gloss: how strongly this surface shines, 0 matt to 1 glass.
    """

    height: Grid
    angle: Grid
    cover: Grid
    tint: Grid
    shift_x: Grid
    shift_y: Grid
    gloss: float = 0.35


@dataclass(slots=True)
class Canvas:
    """Pixel coordinates in thread directions, and seeded randomness for every stitch.

    Attributes:
        along, across: coordinates along and across the threads, in pixels.
        angle: thread direction of each pixel, radians.
        edge: distance to the nearest border of a colour region, in pixels.
        width: thread width, in pixels.
        rng: the picture's own generator.
        book: whether the stitches are sewn by the book, see `book`.
    """

    along: Grid
    across: Grid
    angle: Grid
    edge: Grid
    width: float
    rng: np.random.Generator
    book: bool = False
    _table: Grid = field(init=False)

    def __post_init__(self) -> None:
        self._table = self.rng.random(_TABLE).astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.along.shape[0], self.along.shape[1]

    def between(self, low: float, high: float) -> float:
        """A proportion drawn from a range; its middle by the book."""
        return (low + high) / 2 if self.book else float(self.rng.uniform(low, high))

    def one_of(self, options: Sequence[float]) -> float:
        """One of some choices; the first by the book."""
        return options[0] if self.book else float(self.rng.choice(options))

    @property
    def stagger(self) -> float:
        """How far every second row is moved along, in units; not at all by the book."""
        return 0.0 if self.book else 0.5

    def stray(self, most: float) -> float:
        """How far units may lie from their place or direction; not at all by the book."""
        return 0.0 if self.book else most

    def chance(self, i: Grid, j: Grid | float = 0.0, salt: int = 0) -> Grid:
        """A number in [0, 1) for each pair of thread index `i` and stitch index `j`."""
        index = np.asarray(i, np.int32) * 73 + np.asarray(j, np.int32) * 1511 + salt * 389
        return self._table[index & (_TABLE - 1)]

    def reach(self, i: Grid) -> Grid:
        """How far row `i` is moved along, in stitches; by the book so that it meets the grid."""
        return np.asarray(0.6 * i if self.book else 2 * self.chance(i, salt=7), np.float32)

    def to_pixels(self, along: Grid, across: Grid) -> tuple[Grid, Grid]:
        """Turn an offset in thread directions into one in x and y."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return along * cos - across * sin, along * sin + across * cos

    def fibres(self, i: Grid, t: Grid, strength: float) -> Grid:
        """Fine twist along thread `i`; `t` runs from -1 to 1 across it."""
        pitch = self.width * (0.55 + 0.25 * float(self._table[0]))
        lean = 1.2 if self._table[1] > 0.5 else -1.2
        wave = np.sin(2 * np.pi * (self.along / pitch + 0.25 * lean * t + self.chance(i, salt=5)))
        return np.asarray(1 + strength * wave, np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Grid:
    """Noise in -1..1 that varies over about `cell` pixels."""
    rows, columns = (max(2, round(side / cell) + 2) for side in shape)
    coarse = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def lay_out(
    labels: Labels,
    width: float,
    rng: np.random.Generator,
    *,
    outlines: bool = False,
    book: Book | None = None,
) -> Canvas:
    """Choose thread directions for the regions of a picture.

    One of: the same everywhere, one for each region, across the narrow side of each region, or
    along its outline; all of them a little bent.

    Args:
        labels: (H, W) region numbers from 0.
        width: thread width in pixels.
        rng: randomness of this picture.
        outlines: whether rows may follow the outline; units on a lattice cannot.
        book: if given, straight threads of its width and direction instead.
    """
    shape = labels.shape
    y, x = (grid.astype(np.float32) for grid in np.mgrid[: shape[0], : shape[1]])
    edge = _edge_distance(labels)
    if book is not None:
        turned = np.full(shape, book.angle, np.float32)
        long, wide = book.stretch()
        cos, sin = float(np.cos(book.angle)), float(np.sin(book.angle))
        along, across = long * (x * cos + y * sin), wide * (y * cos - x * sin)
        return Canvas(along, across, turned, edge, book.width, rng, book=True)
    manner = rng.choice(["same", "region", "narrow", "outline"], p=[0.4, 0.25, 0.2, 0.15])
    if manner == "outline" and not outlines:
        manner = "same"
    count = int(labels.max()) + 1
    angles = np.full(count, rng.uniform(0, np.pi), np.float32)
    if manner == "region":
        angles = rng.uniform(0, np.pi, count).astype(np.float32)
    elif manner == "narrow":
        angles = np.array([_narrow_angle(labels == n) for n in range(count)], np.float32)
    angle = angles[labels]
    bend = float(rng.uniform(0, 4))
    x = x + bend * smooth_noise(rng, (shape[0], shape[1]), 48)
    y = y + bend * smooth_noise(rng, (shape[0], shape[1]), 48)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    if manner == "outline":
        smooth = cv2.GaussianBlur(edge, (0, 0), 3)
        gy, gx = np.gradient(smooth)
        angle = np.arctan2(gx, -gy).astype(np.float32)
        across = smooth * 1.05
    jitter = rng.uniform(0, 0.12) * width
    across = across + jitter * smooth_noise(rng, (shape[0], shape[1]), 12)
    return Canvas(
        along=along.astype(np.float32),
        across=across.astype(np.float32),
        angle=angle,
        edge=edge,
        width=width,
        rng=rng,
    )


def _edge_distance(labels: Labels) -> Grid:
    border = np.zeros(labels.shape, np.uint8)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    far = float(max(labels.shape))  # without any border the transform is infinite
    return np.minimum(cv2.distanceTransform(1 - border, cv2.DIST_L2, 3), far).astype(np.float32)


def _narrow_angle(mask: npt.NDArray[np.bool_]) -> float:
    """Direction of a region's narrow side: satin is sewn across it."""
    y, x = np.nonzero(mask)
    if len(x) < 8:
        return 0.0
    covariance = np.cov(np.stack([x, y]).astype(np.float64))
    vector = np.linalg.eigh(covariance)[1][:, 0]
    return float(np.arctan2(vector[1], vector[0]))
