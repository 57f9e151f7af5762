"""The smallest model that everything runs on."""

from __future__ import annotations

from pathlib import Path

import torch

from backend.starter.architecture import TINY, build, save

__all__ = ["make_tiny_model"]


def make_tiny_model(folder: Path) -> Path:
    """A folder with a complete model: a pipeline and its two ControlNets.

    Untrained, but shaken so that no prediction is zero, as those of a fresh UNet are.
    """
    parts = build(TINY, seed=0)
    generator = torch.Generator().manual_seed(0)
    for name in ("unet", "controlnet_canny", "controlnet_tile"):
        for parameter in parts[name].parameters():
            if not parameter.any():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data = noise * 0.5 / max(1, parameter[0].numel()) ** 0.5
    save(parts, folder)
    return folder
