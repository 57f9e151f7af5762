"""What the ControlNets see of a design of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from backend.imaging import edges
from backend.models.loading import Models
from backend.models.prediction import Controls, hints
from backend.models.settings import KindSettings
from backend.restyle.denoise import Spots

__all__ = ["Conditions"]

# Latent cells around a block within which a ControlNet's first look (23 pixels wide to either
# side) sees what lies in the block.
_HALO = 3
# Side of the blocks, cells, where windows are smaller: less is looked at twice.
_BLOCK = 64


class Conditions:
    """ControlNet conditions of the whole design, cut into windows on demand."""

    def __init__(self, models: Models, rgb: NDArray[np.float32], kind: KindSettings) -> None:
        inference = models.profile.inference
        self._models, self._kind, self._side = models, kind, models.profile.window
        self._off = kind.canny_scale == 0.0 and kind.tile_scale == 0.0
        # Eight bits are plenty, and large images stay small.
        drawn = inference.reads != "picture"
        outline = edges.outline(rgb, inference.canny_low, inference.canny_high, drawn=drawn)
        outline *= 255.0
        self._canny = np.round(outline, out=outline).astype(np.uint8)
        del outline
        self._tile = np.empty(rgb.shape, dtype=np.uint8)
        halo, rows = models.profile.window // 8, 256
        for top in range(0, len(rgb), rows):
            low, high = max(0, top - halo), min(len(rgb), top + rows + halo)
            strip = edges.tile_condition(rgb[low:high], models.profile.window)[top - low :][:rows]
            self._tile[top : top + rows] = np.round(strip * 255.0)
        self._seen: dict[str, torch.Tensor] = {}
        self._done: set[tuple[int, int]] = set()

    def __call__(self, spots: Spots) -> Controls | None:
        if self._off:
            return None
        if self._models.device.type != "cpu":
            # There a look at the pictures costs next to nothing, and memory is dear.
            return self._pictures(spots)
        cells = self._side // self._models.factor
        for top, left in spots:
            self._look(top, left, cells)
        # A ControlNet that is left out keeps its picture, which nobody looks at.
        pictures = self._pictures(spots[:1])
        looked = {
            name: torch.stack([plane[:, t : t + cells, x : x + cells] for t, x in spots])
            for name, plane in self._seen.items()
        }
        return replace(
            pictures,
            canny=looked.get("canny", pictures.canny),
            tile=looked.get("tile", pictures.tile),
        )

    def _look(self, top: int, left: int, cells: int) -> None:
        """Let the ControlNets look at the blocks that a window of `cells` touches, each once."""
        rows, columns = (length // self._models.factor for length in self._canny.shape)
        block = max(cells, _BLOCK)
        for t in range(top // block * block, min(top + cells, rows), block):
            for x in range(left // block * block, min(left + cells, columns), block):
                if (t, x) in self._done:
                    continue
                self._done.add((t, x))
                box = (max(0, t - _HALO), max(0, x - _HALO), t + block + _HALO, x + block + _HALO)
                looked = hints(self._models, self._cut([box]))
                for name in ("canny", "tile"):
                    if getattr(looked, f"{name}_scale") == 0.0:
                        continue
                    features = getattr(looked, name)[0]
                    if name not in self._seen:
                        self._seen[name] = features.new_zeros(len(features), rows, columns)
                    inner = features[:, t - box[0] :, x - box[1] :][:, :block, :block]
                    self._seen[name][:, t : t + block, x : x + block] = inner

    def _pictures(self, spots: Spots) -> Controls:
        cells = self._side // self._models.factor
        return self._cut([(t, x, t + cells, x + cells) for t, x in spots])

    def _cut(self, boxes: list[tuple[int, int, int, int]]) -> Controls:
        """The pictures within boxes (top, left, bottom, right) of latent cells."""
        f = self._models.factor
        cuts = [np.s_[t * f : b * f, x * f : r * f] for t, x, b, r in boxes]
        canny = np.stack([self._canny[cut] for cut in cuts]).astype(np.float32) / 255.0
        tile = np.stack([self._tile[cut] for cut in cuts]).astype(np.float32) / 255.0
        device, dtype = self._models.device, self._models.dtype
        return Controls(
            canny=torch.from_numpy(canny)[:, None].expand(-1, 3, -1, -1).to(device, dtype),
            tile=torch.from_numpy(tile).permute(0, 3, 1, 2).to(device, dtype),
            canny_scale=self._kind.canny_scale,
            tile_scale=self._kind.tile_scale,
        )
