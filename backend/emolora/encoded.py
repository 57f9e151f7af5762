"""A pair as training sees it: latents, words and conditions of its windows, made once."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.pair import Pair
from backend.emolora.sampling import concatenate, controls_of, to_tensor
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import Controls
from backend.progress import outcome

__all__ = ["EncodedPair", "encode", "encoding_steps", "window_boxes"]

# Orders of red, green and blue; the mixed ones show that a style has no colours of its own.
_CHANNELS = ([0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2])


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as training sees it, encoded once.

    Attributes:
        design, embroidery: latents of the windows, (N, C, h, w); the first shows most motif.
        weight: what each place counts in the losses, (N, 1, h, w).
        design_text, embroidery_text: one row each.
        controls: of the design, N rows; None where training uses none.
    """

    design: torch.Tensor
    embroidery: torch.Tensor
    weight: torch.Tensor
    design_text: TextEmbedding
    embroidery_text: TextEmbedding
    controls: Controls | None

    def __len__(self) -> int:
        return self.design.shape[0]

    def cut(self, windows: torch.Tensor, corners: torch.Tensor, side: int) -> EncodedPair:
        """Crops of windows.

        Args:
            windows: (B,), which windows.
            corners: (B, 2), top and left of each crop, latent cells.
            side: of the crops, latent cells.

        Returns:
            a pair of B such crops.
        """

        def crops(values: torch.Tensor) -> torch.Tensor:
            factor = values.shape[-1] // self.design.shape[-1]
            places = zip(windows.tolist(), (corners * factor).tolist())
            size = side * factor
            return torch.stack(
                [
                    values[row, :, top : top + size, left : left + size]
                    for row, (top, left) in places
                ]
            )

        controls = self.controls
        if controls is not None:
            controls = replace(controls, canny=crops(controls.canny), tile=crops(controls.tile))
        return replace(
            self,
            design=crops(self.design),
            embroidery=crops(self.embroidery),
            weight=crops(self.weight),
            controls=controls,
        )


def window_boxes(
    mask: NDArray[np.floating], window: int, count: int
) -> list[tuple[int, int, int, int]]:
    """Up to `count` window-sized boxes (x0, y0, x1, y1) that show the most motif, best first.

    Boxes lie on a grid of a quarter window and differ by at least that.
    """
    height, width = mask.shape
    step = max(8, window // 4)

    def starts(length: int) -> list[int]:
        last = (length - window) // 8 * 8
        return sorted({*range(0, last + 1, step), last})

    total = cv2.integral(np.ascontiguousarray(mask, dtype=np.float32))
    found = []
    for y in starts(height):
        for x in starts(width):
            y1, x1 = y + window, x + window
            share = total[y1, x1] - total[y, x1] - total[y1, x] + total[y, x]
            found.append((-share, y, x))
    return [(x, y, x + window, y + window) for _, y, x in sorted(found)[:count]]


def encode(models: Models, pair: Pair, prompts: Sequence[str]) -> EncodedPair:
    """`encoding_steps`, run to its end."""
    return outcome(encoding_steps(models, pair, prompts))


def encoding_steps(
    models: Models, pair: Pair, prompts: Sequence[str]
) -> Generator[None, None, EncodedPair]:
    """Latents, weights, conditions and words of a pair's windows; yields after each window.

    Args:
        prompts: design prompt and embroidery prompt.
    """
    settings = models.profile.training
    window = models.profile.window
    boxes = window_boxes(pair.mask, window, models.profile.pair.windows)
    designs, embroideries, weights, controls = [], [], [], []
    versions = list(itertools.islice(_CHANNELS, models.profile.pair.recoloured))
    for channels, (x0, y0, x1, y1) in itertools.product(versions, boxes):
        crop = np.s_[y0:y1, x0:x1]
        design = pair.design[crop][..., channels]
        designs.append(models.encode_image(to_tensor(design)))
        embroideries.append(models.encode_image(to_tensor(pair.embroidery[crop][..., channels])))
        side = window // models.factor
        share = cv2.resize(pair.mask[crop], (side, side), interpolation=cv2.INTER_AREA)
        weights.append(settings.cloth_weight + (1.0 - settings.cloth_weight) * share)
        if settings.controls:
            controls.append(controls_of(models, design, settings.canny_scale, settings.tile_scale))
        yield
    text = models.encode_prompts(list(prompts))
    return EncodedPair(
        design=torch.cat(designs),
        embroidery=torch.cat(embroideries),
        weight=torch.from_numpy(np.stack(weights))[:, None].to(models.device, torch.float32),
        design_text=text[:1],
        embroidery_text=text[1:],
        controls=concatenate(controls) if controls else None,
    )
