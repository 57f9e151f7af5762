"""Profiles: complete, described, frozen, and true to the paper where they say so."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from backend.errors import ProfileError
from backend.jobs import TrainJob
from backend.models import profiles
from backend.models.memory import with_precision
from backend.models.settings import ATTENTION_BLOCKS, PAPER_BLOCKS

# Every number and word that the paper or its released code gives, by the setting that has it.
PAPER: dict[str, Any] = {
    # Section 3.1: the pair.
    "window": 1024,
    "pair.maker": "models",
    "pair.steps": 28,
    "pair.guidance": 4.0,
    "pair.canny_scale": 0.2,
    "pair.tile_scale": 0.8,
    "pair.prompt": "flat design, vector graphic design, digital design, cartoon design, clean "
    "lines, uniform color blocks, smooth surface, high quality",
    "designer.base": "stabilityai/stable-diffusion-3-medium-diffusers",
    "designer.canny": "InstantX/SD3-Controlnet-Canny",
    "designer.tile": "InstantX/SD3-Controlnet-Tile",
    "designer.edge_side": 512,
    # Section 3.1: the blocks.
    "blocks.steps": 50,
    "blocks.segments": 10,
    "blocks.late": 5,
    "blocks.inversion": "renoise",
    # Section 3.2 and 3.3: training.
    "hub.base": "stabilityai/stable-diffusion-xl-base-1.0",
    "hub.vae": "madebyollin/sdxl-vae-fp16-fix",
    "design_prompt": "a {subject}",
    "embroidery_prompt": "a {subject} in [emb] style",
    "training.rank": 32,
    "training.learning_rate": 1e-4,
    "training.weight_decay": 1e-2,
    "training.batch": 1,
    "training.steps_one": 400,
    "training.steps_two": 200,
    "training.reference_weight": 1.0,
    "training.generated_weight": 0.1,
    "training.contrastive_weight": 1e-4,
    "training.temperature": 1.0,
    # Neither the starter's additions nor others.
    "training.convolutions": False,
    "training.controls": False,
    "training.cloth_weight": 1.0,
    "training.crop": 1.0,
    "training.extra_style_modules": (),
    "training.lora_blocks": (),
    "training.design": True,
    "pair.recoloured": 1,
    "pair.windows": 1,
    "complementary.source": "text",
    "complementary.count": 10,
    # Section 3.4: inference.
    "hub.canny": "xinsir/controlnet-canny-sdxl-1.0",
    "hub.tile": "xinsir/controlnet-tile-sdxl-1.0",
    "inference.steps": 30,
    "inference.guidance": 7.0,
    "inference.negative": "lowres, bad anatomy, cropped, worst quality, low quality",
    "inference.canny_low": 50,
    "inference.canny_high": 100,
    "inference.start": "design",
    "inference.routing": False,
    "flat.canny_scale": 0.5,
    "flat.tile_scale": 0.5,
    "flat.strength": 0.95,
    "flat.colour_correction": "paper",
    "relief.canny_scale": 0.0,
    "relief.tile_scale": 0.4,
    "relief.strength": 0.85,
    "relief.colour_correction": "none",
}


@pytest.mark.parametrize("setting", PAPER)
def test_sdxl_has_the_papers_numbers_and_words(setting: str) -> None:
    value: Any = profiles.get("sdxl")
    for name in setting.split("."):
        value = getattr(value, name)
    assert value == PAPER[setting]


def test_sdxl_takes_the_papers_negative_words_and_seed() -> None:
    profile = profiles.get("sdxl")
    assert profile.pair.negative.startswith("embroidery, lowres")
    job = TrainJob(reference="r", out="o")
    assert (job.seed, job.steps_one, job.steps_two, job.precision) == (42, None, None, "auto")
    # What the profile says in half precision is bfloat16, or float16 where that is not known.
    assert profile.gpu_dtype == "bfloat16"
    assert with_precision(profile, "fp16").gpu_dtype == "float16"


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
    assert len(ATTENTION_BLOCKS) == 11
    assert PAPER_BLOCKS == (
        "down_blocks.1.attentions.1",
        "down_blocks.2.attentions.0",
        "up_blocks.0.attentions.1",
        "up_blocks.0.attentions.2",
    )
    assert set(PAPER_BLOCKS) < set(ATTENTION_BLOCKS)
