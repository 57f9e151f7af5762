"""Enlarged print with its edges made crisp again: a thread has one colour, and does not fade."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb, rgb_to_lab

__all__ = ["crisp", "edge_width"]

# Step in CIELAB that is an edge.
_STEP = 14.0
# Edges narrower than this, in pixels, are crisp as they are; and the width that they get.
_NARROW, _WANTED = 4.5, 1.5
# How far to either side of an edge its colours are looked for, in widths; the second time, further
# away, to see that they go on: what changes evenly is a shade and no edge.
_ASIDE, _FURTHER = 0.75, 1.2
# How far off the mixture of both sides' colours, and how uneven these, squared, of the step's own.
_OFF, _UNEVEN = 0.03, 0.08
# Rows of the picture at a time, and pixels in a row of those that are looked up.
_ROWS, _LOOKED_UP = 512, 1024


def crisp(rgb: NDArray[np.float32], inside: NDArray[np.bool_], width: float) -> NDArray[np.float32]:
    """Give each pixel of a blurred edge the colour of the side that it is nearer to.

    Crisp artwork, shades, and lines too thin to have a middle stay as they are.

    Args:
        rgb: (H, W, 3) in [0, 1].
        inside: (H, W), where to.
        width: of its edges, pixels, as of `edge_width`.
    """
    if width < _NARROW:
        return rgb
    result = rgb.copy()
    reach = int(6.0 * width) + 4
    for top, bottom in _strips(inside):
        low, high = max(0, top - reach), bottom + reach
        here = _sharpened(rgb[low:high], inside[low:high], width)
        result[top:bottom] = here[top - low : bottom - low]
    return result


def edge_width(rgb: NDArray[np.float32], inside: NDArray[np.bool_], most: float) -> float:
    """Pixels over which colours usually change where they do; 0 if they nowhere do.

    Args:
        rgb: (H, W, 3) in [0, 1].
        inside: (H, W), where to look.
        most: what is wider is taken for this.
    """
    widths = [_widths(rgb[a:b], inside[a:b], most) for a, b in _strips(inside)]
    found = np.concatenate(widths) if widths else np.zeros(0)
    return float(min(np.median(found), most)) if len(found) else 0.0


def _strips(inside: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Rows of the picture in pieces, so that memory does not grow with it; those with any inside.

    Their ends lie alike whatever else the picture shows.
    """
    tops = range(0, len(inside), _ROWS)
    pieces = [(top, min(top + _ROWS, len(inside))) for top in tops]
    return [(a, b) for a, b in pieces if inside[a:b].any()]


def _widths(
    rgb: NDArray[np.float32], inside: NDArray[np.bool_], most: float
) -> NDArray[np.float32]:
    """Width of each edge at its steepest pixels, (N,)."""
    lab = rgb_to_lab(rgb)
    tensor = _tensor(lab)
    slope = np.sqrt(tensor[..., 0] + tensor[..., 1])
    crests = (slope >= cv2.dilate(slope, np.ones((7, 7), np.uint8))) & inside & (slope > 1.0)
    y, x = np.nonzero(crests)
    first, second = _sides(lab, x, y, _across(tensor[y, x]), most)
    step = np.sqrt(((first - second) ** 2).sum(axis=1))
    edge = step > _STEP
    return np.asarray(step[edge] / slope[y, x][edge], np.float32)


def _sharpened(
    rgb: NDArray[np.float32], inside: NDArray[np.bool_], width: float
) -> NDArray[np.float32]:
    lab = rgb_to_lab(rgb)
    changed = np.zeros(inside.shape, bool)
    # Twice: beside what is crisp by then, the tails of an edge have colours on both sides.
    for _ in range(2):
        tensor = cv2.GaussianBlur(_tensor(lab), (0, 0), width / 4.0)
        steep = tensor[..., 0] + tensor[..., 1] > (0.3 * _STEP / width) ** 2
        y, x = np.nonzero(inside & steep)
        across = _across(tensor[y, x])
        first, second = _sides(lab, x, y, across, _ASIDE * width)
        beyond = _sides(lab, x, y, across, _FURTHER * width)
        here, step = lab[y, x], second - first
        size = (step**2).sum(axis=1)
        share = ((here - first) * step).sum(axis=1) / np.maximum(size, 1e-6)
        off = ((here - first - share[:, None] * step) ** 2).sum(axis=1)
        uneven = ((beyond[0] - first) ** 2).sum(axis=1) + ((beyond[1] - second) ** 2).sum(axis=1)
        edge = (size > _STEP**2) & (off < _OFF * size) & (uneven < _UNEVEN * size)
        edge &= np.abs(share - 0.5) < 0.6
        share = np.clip((share - 0.5) * width / _WANTED + 0.5, 0.0, 1.0)
        lab[y[edge], x[edge]] = (first + share[:, None] * step)[edge]
        changed[y[edge], x[edge]] = True
    return np.where(changed[..., None], lab_to_rgb(lab), rgb)


def _tensor(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) of the gradients of all channels: xx, yy, xy."""
    soft = cv2.GaussianBlur(lab, (0, 0), 1.0)
    dx, dy = (cv2.Scharr(soft, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1)))
    products = [np.einsum("hwc,hwc->hw", *each) for each in ((dx, dx), (dy, dy), (dx, dy))]
    return np.dstack(products)


def _across(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Direction of the steepest change, radians; (N,) from (N, 3)."""
    return 0.5 * np.arctan2(2.0 * tensor[:, 2], tensor[:, 0] - tensor[:, 1])


def _sides(
    lab: NDArray[np.float32],
    x: NDArray[np.intp],
    y: NDArray[np.intp],
    angle: NDArray[np.float32],
    far: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours, (N, 3) each, so far from pixels in a direction and against it."""
    rows = max(1, -(-len(x) // _LOOKED_UP))
    dx, dy = far * np.cos(angle), far * np.sin(angle)
    found = []
    for sign in (1.0, -1.0):
        maps = [np.zeros(rows * _LOOKED_UP, np.float32) for _ in range(2)]
        maps[0][: len(x)], maps[1][: len(x)] = x + sign * dx, y + sign * dy
        at_x, at_y = (each.reshape(rows, _LOOKED_UP) for each in maps)
        read = cv2.remap(lab, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found.append(read.reshape(-1, 3)[: len(x)])
    return found[0], found[1]
