"""Fixtures of the backend's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.models import profiles
from backend.models.loading import Models, load
from backend.models.profiles import Profile
from backend.starter.architecture import TINY, build, save


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete model: a pipeline and its two ControlNets.

    Untrained, but shaken so that no prediction is zero, as those of a fresh UNet are.
    """
    folder = tmp_path_factory.mktemp("tiny_model")
    parts = build(TINY, seed=0)
    generator = torch.Generator().manual_seed(0)
    for name in ("unet", "controlnet_canny", "controlnet_tile"):
        for parameter in parts[name].parameters():
            if not parameter.any():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data = noise * 0.5 / max(1, parameter[0].numel()) ** 0.5
    save(parts, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_profile() -> Profile:
    """The starter's profile at the tiny model's window and with few steps."""
    profile = profiles.get("starter")
    return replace(
        profile,
        window=TINY.window,
        pair=replace(profile.pair, windows=3, recoloured=2, largest=2.0, steps=3),
        blocks=replace(profile.blocks, steps=5, segments=5, late=3),
        training=replace(profile.training, batch=2, rank=2, checkpoint_every=2),
        complementary=replace(profile.complementary, count=4, steps=3, batch=2),
        inference=replace(profile.inference, steps=3),
    )


@pytest.fixture
def tiny_models(tiny_model: Path, tiny_profile: Profile) -> Models:
    """The tiny model, loaded afresh on the CPU."""
    return load(tiny_profile, base=str(tiny_model), device="cpu")


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn stand-in for a photo of an embroidery: a striped disc on plain cloth."""
    y, x = np.mgrid[0:160, 0:200]
    disc = (x - 100) ** 2 + (y - 80) ** 2 < 55**2
    stripes = 0.75 + 0.25 * np.sin(2 * np.pi * (x + 0.5 * y) / 7.0)
    grain = np.random.default_rng(0).normal(0.0, 0.01, (160, 200, 1))
    cloth = np.full((160, 200, 3), (0.85, 0.83, 0.78)) + grain
    thread = stripes[..., None] * np.array((0.8, 0.15, 0.2))
    picture = np.where(disc[..., None], thread, cloth)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(path)
    return path
