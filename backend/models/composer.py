"""What draws from words, where a base has networks of its own for it (the starter does).

A base as large as SDXL draws and embroiders with the same UNet. The starter has a second one of the
same architecture, and text encoders that know motifs by name: they share autoencoder, tokenizers
and noise schedule with the first, and draw flat motifs, half a window wide.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from backend.errors import ProfileError
from backend.models.loading import Models
from backend.models.residence import Residence

__all__ = ["with_composer"]

_PARTS = {
    "unet": UNet2DConditionModel,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


def with_composer(models: Models, folder: Path) -> Models:
    """The same base with the UNet and text encoders of a composer's folder.

    Raises:
        ProfileError: the composer is damaged.
    """
    parts = {name: _read(folder / name, models.dtype) for name in _PARTS}
    if models.device.type != "mps":
        torch.nn.utils.convert_conv2d_weight_memory_format(parts["unet"], torch.channels_last)
    networks = {**parts, "vae": models.vae}
    residence = Residence(networks, models.device, models.profile.offload)
    return replace(models, **parts, residence=residence, known_fingerprint="")


def _read(folder: Path, dtype: torch.dtype) -> Any:
    try:
        part = _PARTS[folder.name].from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ProfileError(
            f"{folder}: this part of the composer cannot be read ({error}).",
            "Install Stitchwork again.",
        ) from error
    return part.requires_grad_(False).eval()
