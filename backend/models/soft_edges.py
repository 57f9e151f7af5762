"""Soft edges by holistically-nested edge detection (Xie, Tu, 2015), as ControlNets know them.

The paper's section 3.1 draws the design under them. The network here takes the weights that
ControlNet's annotators share (ControlNetHED, Apache-2.0): five stages of a VGG, each with an edge
map of its own at half the size of the one before, averaged.
"""

from __future__ import annotations

import zipfile
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from backend.errors import ProfileError

__all__ = ["HED", "read_hed", "soft_edges"]

# Channels and convolutions of the stages.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class _Stage(nn.Module):
    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [channels, *[width] * layers]
        self.convs = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)))
        self.projection = nn.Conv2d(width, 1, 1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for convolution in self.convs:
            features = F.relu(convolution(features))
        return features, self.projection(features)


class HED(nn.Module):
    """The network; names of its parts are those of the shared weights."""

    def __init__(self, stages: tuple[tuple[int, int], ...] = _STAGES) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        channels = 3
        for number, (width, layers) in enumerate(stages, start=1):
            self.add_module(f"block{number}", _Stage(channels, width, layers))
            channels = width

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        """Likelihood of an edge (B, 1, H, W) in rgb (B, 3, H, W) in [0, 1]."""
        features = rgb * 255.0 - self.norm
        maps = []
        for number, stage in enumerate(self.children()):
            if number > 0:
                features = F.max_pool2d(features, 2)
            features, edges = stage(features)
            maps.append(F.interpolate(edges, rgb.shape[-2:], mode="bilinear"))
        return torch.sigmoid(torch.stack(maps).mean(dim=0))


def read_hed(path: Path) -> HED:
    """The network with the weights of a file; of a .pth tensors alone are read.

    Raises:
        ProfileError: the file is damaged, or of another network.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        network = HED()
        network.load_state_dict(tensors)
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        UnpicklingError,
        zipfile.BadZipFile,
        safetensors.SafetensorError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ProfileError(
            f"{path}: soft edges cannot be found with it ({reason}).",
            "Download ControlNetHED.pth again, or take it away: Canny edges stand in then.",
        ) from error
    return network.requires_grad_(False).eval()


@torch.no_grad()
def soft_edges(
    network: HED, rgb: NDArray[np.floating], device: torch.device
) -> NDArray[np.float32]:
    """Soft edges (H, W) in [0, 1] of a picture (H, W, 3) in [0, 1]."""
    network.to(device)
    picture = torch.from_numpy(np.ascontiguousarray(rgb, dtype=np.float32))
    edges = network(picture.permute(2, 0, 1)[None].to(device))
    found: NDArray[np.float32] = edges[0, 0].float().cpu().numpy()
    return found
