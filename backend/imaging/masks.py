"""Masks: cleaning, feathering, and colours under what they leave out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bounding_box",
    "colour_outlines",
    "densest",
    "extend_colours",
    "feather",
    "remove_specks",
    "surroundings",
]

# A detour, from the colour further in to the cloth's, that a mixture of the two may be off.
_SAME_COLOUR = 0.1


def bounding_box(mask: NDArray[np.floating] | NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) around what is selected, ends exclusive; all zero if nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def surroundings(inside: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns of what is selected and a margin about it; everything if nothing is.

    They begin at whole margins, so that cells laid from there lie as in the whole picture.
    """
    left, top, right, bottom = bounding_box(inside)
    height, width = inside.shape
    if right == 0:
        return slice(0, height), slice(0, width)
    low = [max(0, (at - margin) // margin * margin) for at in (top, left)]
    high = [min(end, at + margin) for at, end in ((bottom, height), (right, width))]
    return slice(low[0], high[0]), slice(low[1], high[1])


def densest(mask: NDArray[np.float32], side: int) -> tuple[slice, slice]:
    """The window of at most `side` pixels that holds most mask."""
    height, width = min(side, mask.shape[0]), min(side, mask.shape[1])
    total = cv2.integral(mask)
    sums = (
        total[height:, width:]
        - total[:-height, width:]
        - total[height:, :-width]
        + total[:-height, :-width]
    )
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def remove_specks(
    mask: NDArray[np.bool_], smallest: float, smallest_hole: float | None = None
) -> NDArray[np.bool_]:
    """Drop islands and fill holes of fewer than `smallest` pixels; holes may have their own."""
    clean = mask.astype(np.uint8)
    hole = smallest if smallest_hole is None else smallest_hole
    for value, least in ((1, smallest), (0, hole)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(
            (clean == value).astype(np.uint8), connectivity=8 if value else 4
        )
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least)
        drop = np.zeros(count, dtype=bool)
        drop[small[small > 0]] = True
        clean[drop[labels]] = 1 - value
    return clean.astype(bool)


def feather(mask: NDArray[np.floating], pixels: float) -> NDArray[np.float32]:
    """Soften a mask inwards only: 0 stays 0, and 1 is reached about `pixels` inside."""
    inside = np.pad((mask > 0.0).astype(np.uint8), 1, mode="edge")
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    ramp = np.clip(distance / max(pixels, 1e-6), 0.0, 1.0)
    return (np.asarray(mask, dtype=np.float32) * ramp).astype(np.float32)


def extend_colours(rgb: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give every pixel that is not `known` the colour of its nearest known pixel.

    So that blurs and convolutions near a transparent edge see no foreign colour.

    Args:
        rgb: (H, W, C).
        known: (H, W).
    """
    image = np.array(rgb, dtype=np.float32)
    if known.any() and not known.all():
        image[~known] = _nearest(image, known, ~known)
    return image


def colour_outlines(
    rgb: NDArray[np.floating],
    inside: NDArray[np.bool_],
    cloth: NDArray[np.bool_],
    depth: float,
) -> NDArray[np.float32]:
    """Give print that fades into the cloth around it the colour that it has further in.

    Thread does not fade: left as it is, the fading would be sewn in the cloth's own colour. An
    outline of another colour is no fading and stays.

    Args:
        rgb: (H, W, C).
        inside: (H, W), what is embroidered.
        cloth: (H, W), what is not and can be seen.
        depth: how far from the cloth print may fade, in pixels. Where a shape is narrower than
            twice that, its middle counts as sound.
    """
    image = np.array(rgb, dtype=np.float32)
    if not cloth.any():
        return image
    distance = cv2.distanceTransform((~cloth).astype(np.uint8), cv2.DIST_L2, 5)
    middle = distance >= cv2.dilate(distance, np.ones((5, 5), np.uint8))
    sound = inside & ((distance >= depth) | middle)
    if not sound.any():
        return image
    doubtful = inside & ~sound
    own, inner, outer = (
        image[doubtful],
        _nearest(image, sound, doubtful),
        _nearest(image, cloth, doubtful),
    )
    detour = _apart(own, inner) + _apart(own, outer) - _apart(inner, outer)
    image[doubtful] = np.where(detour[:, None] < _SAME_COLOUR, inner, own)
    return image


def _nearest(
    image: NDArray[np.float32], known: NDArray[np.bool_], where: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(N, C) colours of the known pixels that lie nearest to the N pixels `where`."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, image.shape[2]), dtype=np.float32)
    colours[labels[known]] = image[known]
    return np.asarray(colours[labels[where]], np.float32)


def _apart(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.linalg.norm(first - second, axis=-1), np.float32)
