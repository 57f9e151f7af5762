"""Fixtures of the backend's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from single_file import tiny_sdxl as save_sdxl
from tiny import make_tiny_model
from tiny_sd3 import save_sd3

from backend.models import profiles
from backend.models.loading import Models, load
from backend.models.profiles import Profile
from backend.starter.architecture import TINY


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL whose two text encoders differ, as SDXL's own do."""
    folder = tmp_path_factory.mktemp("tiny_sdxl")
    save_sdxl(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 3 with both ControlNets."""
    return save_sd3(tmp_path_factory.mktemp("tiny_sd3"))


@pytest.fixture(scope="session")
def tiny_profile() -> Profile:
    """The starter's profile at the tiny model's window and with few steps."""
    profile = profiles.get("starter")
    return replace(
        profile,
        window=TINY.window,
        cpu_dtype="float32",
        pair=replace(profile.pair, windows=3, recoloured=2, largest=2.0, steps=3),
        blocks=replace(profile.blocks, steps=5, segments=5, late=3),
        training=replace(profile.training, batch=2, rank=2, checkpoint_every=2),
        # Sewn motifs have tests of their own; what a preview takes is too much for every training.
        complementary=replace(
            profile.complementary, source="drawn", count=4, steps=3, strength=0.9, batch=2
        ),
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
