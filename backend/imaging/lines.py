"""Lines in place of pictures: white on black, as edge maps and ControlNet-Canny have them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb, rgb_to_lab
from backend.imaging.edges import canny

__all__ = ["drawing", "edge_lines", "on_paper", "soft_edges"]

# Slope of colour, ΔE a pixel, below which there is no edge, and from which on it is a full one.
FAINT, FULL = 1.0, 7.0
# Contrast to the paper, of all there can be, from which on a stroke is a full line.
INKED = 0.5
STRIP_ROWS = 1024
HALO = 32
# Side of a window at which texture is smoothed away.
WORK_WINDOW = 512

Picture = NDArray[np.float32]


def edge_lines(rgb: NDArray[np.floating], low: int, high: int, window: int) -> Picture:
    """Canny's edges of a picture without its texture, (H, W, 3) of 0 and 1.

    Texture is the style's: knit or fur must not be among the lines that are to be given.

    Args:
        rgb: (H, W, 3) in [0, 1].
        low, high: Canny's thresholds.
        window: side of the model's window in pixels.
    """
    height, width = rgb.shape[:2]
    plain = lab_to_rgb(_without_texture(rgb_to_lab(_shrunk(rgb, window))))
    plain = cv2.resize(plain, (width, height), interpolation=cv2.INTER_CUBIC)
    return _grey(canny(plain, low, high))


def on_paper(rgba: Picture) -> Picture:
    """The drawing (H, W, 4) laid on opaque white: what is transparent is the paper."""
    cover = rgba[..., 3:]
    paper = np.ones_like(rgba)
    paper[..., :3] = rgba[..., :3] * cover + (1.0 - cover)
    return paper


def drawing(rgb: NDArray[np.floating]) -> Picture:
    """The lines of a sketch, dark on light or light on dark, as white on black.

    Args:
        rgb: (H, W, 3) in [0, 1].

    Returns:
        (H, W, 3) in [0, 1]; soft strokes stay soft.
    """
    lightness = np.asarray(rgb, dtype=np.float32).mean(axis=2)
    paper = float(np.median(lightness))
    contrast = np.abs(lightness - paper) / max(paper, 1.0 - paper)
    # The least of it is the paper's grain and the camera's noise.
    return _grey(np.clip((contrast - 0.1) / (INKED - 0.1), 0.0, 1.0))


def soft_edges(rgb: NDArray[np.floating], window: int) -> Picture:
    """The outlines of a picture, as bright as they are marked, (H, W, 3) in [0, 1].

    Stands where the paper has the HED network's map, and is made at half a window of 1024 and
    enlarged as that is: texture is smoothed away, then the slope of colour kept on its crests.

    Args:
        rgb: (H, W, 3) in [0, 1].
        window: side of the model's window in pixels.
    """
    height, width = rgb.shape[:2]
    found = _in_strips(_shrunk(rgb, window), _crests)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)


def _shrunk(rgb: NDArray[np.floating], window: int) -> Picture:
    scale = min(1.0, WORK_WINDOW / window)
    size = [max(1, round(side * scale)) for side in rgb.shape[1::-1]]
    picture = np.ascontiguousarray(rgb, dtype=np.float32)
    return picture if scale == 1.0 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _without_texture(lab: Picture) -> Picture:
    lab = cv2.GaussianBlur(lab, (0, 0), 1.5)
    for _ in range(4):
        lab = cv2.bilateralFilter(lab, 11, 20.0, 4.0)
    return lab


def _crests(rgb: Picture) -> Picture:
    lab = _without_texture(rgb_to_lab(rgb))
    across, down = cv2.Scharr(lab, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(lab, cv2.CV_32F, 0, 1) / 32
    slope = np.sqrt((across**2 + down**2).sum(axis=2))
    # Direction of steepest change: the channels' gradients, doubled in angle, added up.
    double = 2.0 * (across * down).sum(axis=2), (across**2 - down**2).sum(axis=2)
    angle = 0.5 * np.arctan2(*double)
    rows, columns = np.indices(slope.shape, dtype=np.float32)
    beside = [
        cv2.remap(
            slope,
            (columns + way * np.cos(angle)).astype(np.float32),
            (rows + way * np.sin(angle)).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for way in (-1.0, 1.0)
    ]
    crest = (slope >= beside[0]) & (slope >= beside[1])
    return _grey(np.where(crest, np.clip((slope - FAINT) / (FULL - FAINT), 0.0, 1.0), 0.0))


def _in_strips(picture: Picture, work: Callable[[Picture], Picture]) -> Picture:
    """`work` on strips of rows, so that memory does not grow with the picture."""
    result = np.empty_like(picture)
    for top in range(0, len(picture), STRIP_ROWS):
        low, high = max(0, top - HALO), min(len(picture), top + STRIP_ROWS + HALO)
        strip = work(np.ascontiguousarray(picture[low:high]))
        result[top : top + STRIP_ROWS] = strip[top - low :][:STRIP_ROWS]
    return result


def _grey(values: NDArray[np.floating]) -> Picture:
    return np.repeat(values.astype(np.float32)[..., None], 3, axis=2)
