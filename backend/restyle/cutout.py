"""A motif from words without its ground, for laying on a garment where that has room for it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.imaging.files import read_mask
from backend.imaging.locate import locate_motif
from backend.imaging.masks import extend_colours
from backend.jobs import GenerateJob

__all__ = ["Square", "clear", "cut_out", "largest_square", "nothing_found", "square_for"]

# Pixels a side; the least that a job may ask for.
_LEAST = 64
# Pixels over which a found motif's outline is softened.
_SOFT = 1.0


@dataclass(frozen=True, slots=True)
class Square:
    """Where in a picture a motif lies.

    Attributes:
        size: (height, width) of the picture.
    """

    top: int
    left: int
    side: int
    size: tuple[int, int]

    def laid(self, motif: NDArray[np.float32]) -> NDArray[np.float32]:
        """The motif (side, side, 4) in an otherwise clear picture."""
        sheet = np.zeros((*self.size, 4), np.float32)
        sheet[self.top : self.top + self.side, self.left : self.left + self.side] = motif
        return sheet


def square_for(job: GenerateJob) -> Square | None:
    """Where the job's mask has most room; None without a mask.

    Raises:
        InputError: the mask cannot be read, does not fit the picture or leaves too little room.
    """
    if job.mask is None:
        return None
    if job.ground != "none":
        raise InputError(
            f"{job.mask}: a mask says where a motif may lie, but its cloth would fill the picture.",
            "Choose the ground none, or leave the mask out.",
        )
    mask = read_mask(job.mask)
    size = (job.height or mask.shape[0], job.width or mask.shape[1])
    if size != mask.shape:
        mask = read_mask(job.mask, size)
    square = largest_square(mask > 0.5)
    if square.side < _LEAST:
        raise InputError(
            f"{job.mask}: the largest square that is all white is {square.side} pixels wide, too "
            f"small for a motif: {_LEAST} are the least.",
            "Give it a larger region, or a finer thread.",
        )
    return square


def largest_square(mask: NDArray[np.bool_]) -> Square:
    """The largest square that is all mask; among equals the one nearest to the mask's middle."""
    white = mask.astype(np.uint8)
    total = cv2.integral(white)
    low, high = 0, min(mask.shape)
    while low < high:
        side = (low + high + 1) // 2
        low, high = (side, high) if _full(total, side).any() else (low, side - 1)
    tops, lefts = np.nonzero(_full(total, low))
    about = cv2.moments(white, binaryImage=True)
    area = max(about["m00"], 1.0)
    half = (low - 1) / 2
    away = np.hypot(tops + half - about["m01"] / area, lefts + half - about["m10"] / area)
    nearest = int(away.argmin())
    return Square(int(tops[nearest]), int(lefts[nearest]), low, mask.shape)


def _full(total: NDArray[np.int32], side: int) -> NDArray[np.bool_]:
    """Which squares, by their upper left corner, are all mask; `total` is the mask's integral."""
    tall, wide = (each - side for each in total.shape)
    held = total[side:, side:] - total[:tall, side:] - total[side:, :wide] + total[:tall, :wide]
    return np.asarray(held == side * side)


def cut_out(image: NDArray[np.float32], prompt: str) -> NDArray[np.float32]:
    """The motif of a picture whose base embroiders words on cloth, found as in a photo, RGBA.

    Raises:
        InputError: none can be told from the cloth.
    """
    _, mask = locate_motif(image)
    if mask.all():
        raise nothing_found(prompt)
    return clear(image, cv2.GaussianBlur(mask, (0, 0), _SOFT))


def clear(image: NDArray[np.float32], cover: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGBA that shows the picture as far as `cover` says; no colour of its ground is left."""
    return np.dstack([extend_colours(image, cover > 0.5), cover]).astype(np.float32)


def nothing_found(prompt: str) -> InputError:
    """What to say where everything that was drawn looks like ground."""
    return InputError(
        f'What was drawn for "{prompt}" cannot be told from its ground.',
        "Try another seed or other words.",
    )
