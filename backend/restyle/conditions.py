"""What the ControlNets see of a design of any size."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from backend.imaging import edges
from backend.models.loading import Models
from backend.models.prediction import Controls, hints
from backend.models.settings import KindSettings
from backend.restyle.denoise import Spots
from backend.restyle.windows import Grid

__all__ = ["Conditions"]


class Conditions:
    """ControlNet conditions of the whole design, cut into windows on demand."""

    def __init__(
        self, models: Models, rgb: NDArray[np.float32], grid: Grid, kind: KindSettings
    ) -> None:
        inference = models.profile.inference
        self._models, self._kind, self._side = models, kind, grid.window * models.factor
        self._off = kind.canny_scale == 0.0 and kind.tile_scale == 0.0
        self._seen: dict[Spots, Controls | None] = {}
        # Eight bits are plenty, and large images stay small.
        drawn = inference.reads != "picture"
        outline = edges.outline(rgb, inference.canny_low, inference.canny_high, drawn=drawn)
        self._canny = np.round(outline * 255.0).astype(np.uint8)
        self._tile = np.empty(rgb.shape, dtype=np.uint8)
        halo, rows = models.profile.window // 8, 1024
        for top in range(0, len(rgb), rows):
            low, high = max(0, top - halo), min(len(rgb), top + rows + halo)
            strip = edges.tile_condition(rgb[low:high], models.profile.window)[top - low :][:rows]
            self._tile[top : top + rows] = np.round(strip * 255.0)

    def __call__(self, spots: Spots) -> Controls | None:
        if self._off:
            return None
        if self._models.device.type != "cpu":
            # There a look at the pictures costs next to nothing, and memory is dear.
            return self._pictures(spots)
        if spots not in self._seen:
            self._seen[spots] = hints(self._models, self._pictures(spots))
        return self._seen[spots]

    def _pictures(self, spots: Spots) -> Controls:
        factor, side = self._models.factor, self._side
        cuts = [
            np.s_[t * factor : t * factor + side, x * factor : x * factor + side] for t, x in spots
        ]
        canny = np.stack([self._canny[cut] for cut in cuts]).astype(np.float32) / 255.0
        tile = np.stack([self._tile[cut] for cut in cuts]).astype(np.float32) / 255.0
        device, dtype = self._models.device, self._models.dtype
        return Controls(
            canny=torch.from_numpy(canny)[:, None].expand(-1, 3, -1, -1).to(device, dtype),
            tile=torch.from_numpy(tile).permute(0, 3, 1, 2).to(device, dtype),
            canny_scale=self._kind.canny_scale,
            tile_scale=self._kind.tile_scale,
        )
