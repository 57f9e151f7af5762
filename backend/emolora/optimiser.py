"""The optimiser of both stages: AdamW, with 8-bit moments where memory is short."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

import torch

from backend.models.loading import Models
from backend.models.settings import TrainingSettings

__all__ = ["make_optimiser", "take_step"]


def make_optimiser(
    parameters: Sequence[torch.nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """AdamW over the LoRA; bitsandbytes' 8-bit one if it is wanted, installed and on its device."""
    rate, decay = settings.learning_rate, settings.weight_decay
    on_gpu = parameters[0].device.type == "cuda"
    if settings.eight_bit and on_gpu and importlib.util.find_spec("bitsandbytes") is not None:
        made: torch.optim.Optimizer = importlib.import_module("bitsandbytes").optim.AdamW8bit(
            list(parameters), lr=rate, weight_decay=decay
        )
        return made
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def take_step(
    models: Models, parameters: Sequence[torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    """Update the LoRA by its gradients.

    In float16, where a gradient can overflow however it is scaled, such a step is left out.
    """
    # The optimiser's moments are on the device, and so the LoRA must be.
    models.residence.need("unet")
    if models.dtype == torch.float16 and not all(
        torch.isfinite(each.grad).all() for each in parameters if each.grad is not None
    ):
        return
    optimiser.step()
