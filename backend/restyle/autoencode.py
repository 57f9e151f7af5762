"""Encoding and decoding images of any size in overlapping, blended tiles."""

from __future__ import annotations

from collections.abc import Callable, Generator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from backend.models.loading import Models
from backend.restyle.windows import Blend, Grid

__all__ = ["decode", "encode", "pad", "to_tensor"]


def pad(image: NDArray[np.float32], window: int, factor: int) -> NDArray[np.float32]:
    """Mirror an image to the right and below, to whole latent cells and at least one window."""
    height, width = image.shape[:2]
    more = [max(window, -(-side // factor) * factor) - side for side in (height, width)]
    if more == [0, 0]:
        return image
    margins = [(0, more[0]), (0, more[1])] + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, margins, mode="symmetric")


def to_tensor(rgb: NDArray[np.float32]) -> torch.Tensor:
    """(H, W, 3) array to (1, 3, H, W) tensor."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]


def encode(
    models: Models, rgb: NDArray[np.float32], grid: Grid
) -> Generator[None, None, torch.Tensor]:
    """Scaled latents (C, H/8, W/8) of a padded image (H, W, 3); yields once a window.

    Cells that no window covers are 0.
    """
    blend: Blend | None = None
    factor, side = models.factor, grid.window * models.factor
    for top, left in grid.spots:
        y, x = top * factor, left * factor
        latents = models.encode_image(to_tensor(rgb[y : y + side, x : x + side]))[0]
        blend = blend or Blend(grid, len(latents))
        blend.add((top, left), latents)
        yield
    if blend is None:
        raise ValueError("no window to encode")
    return blend.mean()


def roughly(
    rgb: NDArray[np.float32], latents: torch.Tensor
) -> Callable[[torch.Tensor], NDArray[np.float32]]:
    """What latents look like, a pixel a cell, without the decoder.

    Args:
        rgb: (H, W, 3), and `latents` (C, H/8, W/8) of it: the colours of cells are fitted to these
            by one linear map.
    """

    def columns(cells: torch.Tensor) -> NDArray[np.float32]:
        flat = cells.float().cpu().reshape(len(cells), -1).numpy().T
        return np.column_stack([flat, np.ones(len(flat), np.float32)])

    height, width = latents.shape[1:]
    colours = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    known = columns(latents)
    covered = (known[:, :-1] != 0.0).any(axis=1)
    known, colours = known[covered], colours[covered]
    # A little ridge: flat artwork says nothing about most channels.
    gram = known.T @ known + 1e-3 * len(known) * np.eye(known.shape[1], dtype=np.float32)
    fitted = np.linalg.solve(gram, known.T @ colours)

    def look(cells: torch.Tensor) -> NDArray[np.float32]:
        return np.clip(columns(cells) @ fitted, 0.0, 1.0).reshape(*cells.shape[1:], 3)

    return look


def decode(
    models: Models,
    latents: torch.Tensor,
    grid: Grid,
    less: torch.Tensor | None = None,
) -> Generator[None, None, NDArray[np.float32]]:
    """rgb (8H, 8W, 3) in [0, 1] of scaled latents (C, H, W); yields once a window.

    Pixels that no window covers are 0.

    Args:
        less: other latents, whose rgb is taken off; yields twice a window.
    """
    blend = Blend(grid, 3, models.factor)
    for top, left in grid.spots:
        here = np.s_[None, :, top : top + grid.window, left : left + grid.window]
        rgb = models.decode(latents[here])[0]
        yield
        if less is not None:
            rgb -= models.decode(less[here])[0]
            yield
        blend.add((top, left), rgb)
    return blend.mean().permute(1, 2, 0).numpy()
