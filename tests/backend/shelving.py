"""Small styles without a model, for the tests of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.styles import BaseModel, Prompts, Style

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def sewn(
    period: float = 7.0, turn: float = 0.3, depth: float = 0.5, side: int = 128
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Parallel threads, (side, side, 3): `turn` radians steep, as dark between as `depth` says."""
    y, x = np.mgrid[:side, :side]
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
    grain = np.random.default_rng(0).normal(0.0, 0.01, (side, side))
    shade = np.clip(1.0 - depth + depth * wave + grain, 0.0, 1.0)
    return (shade[..., None] * np.array((0.8, 0.2, 0.2))).astype(np.float32)


def style(name: str = "roses", **changes: Any) -> Style:
    """A style that can be saved and read; nothing has been trained."""
    reference = changes.pop("reference", sewn())
    fields: dict[str, Any] = {
        "name": name,
        "created": "2026-01-02T03:04:05+00:00",
        "profile": "starter",
        "base": BaseModel("starter", "0" * 16),
        "blocks": ("mid_block.attentions.0",),
        "prompts": Prompts("a rose", "a rose in [emb] style", "", "in [emb] style"),
        "steps": {"one": 3, "two": 2},
        "seed": 1,
        "rank": 4,
        "kind": "flat",
        "thread_width_px": 7.0,
        "licence_note": "Ask first.",
        "weights": {
            f"{LAYER}.lora_A.weight": torch.ones(4, 8),
            f"{LAYER}.lora_B.weight": torch.ones(8, 4),
        },
        "reference": reference,
        "design": np.full_like(reference, 0.5),
        "mask": np.ones(reference.shape[:2], dtype=np.float32),
        "measures": {"loss": 0.5},
        "seconds": {"stage one": 60.0},
        "versions": {"torch": "2"},
    }
    return Style(**{**fields, **changes})


def shelf_of(folder: Path, *names: str) -> Path:
    """A library with styles of these names."""
    for name in names:
        style(name).save(folder / name)
    return folder
