"""Profiles: complete, described, frozen, and true to the paper where they say so."""

from __future__ import annotations

import dataclasses

import pytest

from backend.errors import ProfileError
from backend.models import profiles


def test_sdxl_has_the_papers_numbers() -> None:
    profile = profiles.get("sdxl")
    training = profile.training
    assert (training.rank, training.learning_rate, training.weight_decay) == (32, 1e-4, 1e-2)
    assert (training.steps_one, training.steps_two) == (400, 200)
    assert (training.reference_weight, training.generated_weight) == (1.0, 0.1)
    assert training.contrastive_weight == 1e-4
    assert (profile.flat.canny_scale, profile.flat.tile_scale, profile.flat.strength) == (
        0.5,
        0.5,
        0.95,
    )
    assert (profile.relief.canny_scale, profile.relief.tile_scale) == (0.0, 0.4)
    assert not profile.relief.colour_correction
    assert (profile.inference.steps, profile.inference.guidance) == (30, 7.0)
    assert profile.hub is not None
    assert profile.hub.tile == "xinsir/controlnet-tile-sdxl-1.0"


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="starter, sdxl"):
        profiles.get("sd3")


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.get("starter").window = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", profiles.names())
def test_every_setting_says_what_it_is_for(name: str) -> None:
    described = profiles.describe(profiles.get(name))
    assert described["training.rank"] == "LoRA rank"
    assert all(text.strip() for text in described.values())


def test_prompts_carry_subject_and_trigger() -> None:
    profile = profiles.get("sdxl")
    design, embroidery = profile.prompts(" red\n heart ")
    assert design == "a red heart"
    assert embroidery == f"a red heart {profile.trigger}"
    assert profile.prompts(None)[0] == f"a {profile.subject}"


def test_kind_falls_back_to_flat() -> None:
    profile = profiles.get("sdxl")
    assert profile.kind("relief") is profile.relief
    assert profile.kind("flat") is profile.flat


def test_the_papers_blocks_are_blocks() -> None:
    assert len(profiles.ATTENTION_BLOCKS) == 11
    assert set(profiles.PAPER_BLOCKS) < set(profiles.ATTENTION_BLOCKS)
