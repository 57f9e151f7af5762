"""Profile sdxl on tiny models of SDXL's own layout: the whole way, each memory mode, the export."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from restyling import artwork, collect, finish, tiny_style
from single_file import _unet_name
from tiny_sd3 import tiny_sdxl_profile, with_profile

from backend import cli
from backend.emolora.adapter import Adapter, attention_blocks, with_style
from backend.engine import Engine
from backend.jobs import RestyleJob, TrainJob
from backend.library.lora import export_lora, to_kohya
from backend.models import designer, loading, profiles
from backend.models.loading import Models
from backend.models.memory import MODES, applied
from backend.models.prediction import predict
from backend.models.settings import ATTENTION_BLOCKS, PAPER_BLOCKS
from backend.restyle.image import restyle
from backend.styles import Style

PROFILE = tiny_sdxl_profile()
# Transformer layers of SDXL's attention blocks, in the order data passes them.
DEPTHS = (2, 2, 10, 10, 10, 10, 10, 10, 2, 2, 2)


@pytest.fixture
def models(tiny_sdxl: Path) -> Models:
    return loading.load(PROFILE, base=str(tiny_sdxl), device="cpu")


def test_the_layout_is_sdxls(models: Models) -> None:
    assert attention_blocks(models) == ATTENTION_BLOCKS
    names = [name for name, _ in models.unet.named_modules()]
    layers = Counter(
        name.split(".transformer_blocks.")[0] for name in names if ".attn1.to_q" in name
    )
    assert tuple(layers[block] for block in ATTENTION_BLOCKS) == DEPTHS
    # Two attentions a layer, four projections each: in θ_a, and in the paper's θ_e.
    adapter = Adapter(models, PAPER_BLOCKS, rank=2, seed=0)
    assert len(adapter.parameters) == 2 * 8 * sum(DEPTHS)
    assert len(adapter.style_parameters) == 2 * 8 * (2 + 10 + 10 + 10)
    adapter.remove()
    for network in (models.controlnet_canny, models.controlnet_tile):
        inner = [name for name, _ in network.named_modules() if name.endswith(".attn2")]
        assert len(inner) == 2 * 2 + 2 * 10 + 10  # they read words, unlike the starter's
    assert models.text_encoder.config.hidden_size != models.text_encoder_2.config.hidden_size
    assert models.tokenizer.pad_token != models.tokenizer_2.pad_token
    assert models.scheduler.config.prediction_type == "epsilon"


def _style(models: Models, *, convolutions: bool = False) -> Style:
    """A style as the sdxl profile trains it, but with random weights."""
    training = replace(models.profile.training, convolutions=convolutions)
    wider = replace(models, profile=replace(models.profile, training=training))
    adapter = Adapter(wider, PAPER_BLOCKS, rank=2, seed=0)
    weights = adapter.style_weights()
    adapter.remove()
    generator = torch.Generator().manual_seed(3)
    weights = {
        name: torch.randn(value.shape, generator=generator) * 0.2 for name, value in weights.items()
    }
    return replace(tiny_style(models), rank=2, blocks=PAPER_BLOCKS, weights=weights)


def test_every_memory_mode_gives_the_same_picture(tiny_sdxl: Path) -> None:
    rgba, pictures = artwork(64, 72), {}
    for mode in MODES:
        # Tiles of the autoencoder come close, and have a test of their own.
        profile = replace(applied(PROFILE, mode), vae_tiling=False)
        models = loading.load(profile, base=str(tiny_sdxl), device="cpu")
        # Colours uncorrected: where a last bit differs, OpenCV's CIELAB may jump by 2e-3.
        job = RestyleJob(style="s", input="i", out="o", embroidery="flat", colours="none")
        pictures[mode.name] = finish(restyle(models, _style(models), rgba, None, job))
        assert len(models.residence.present) <= {"none": 6, "phase": 3, "network": 1}[mode.offload]
    inside = rgba[..., 3] > 0
    assert np.abs(pictures["full"] - rgba)[inside].mean() > 1e-3
    for name, picture in pictures.items():
        assert np.abs(picture - pictures["full"]).max() < 2e-4, name


def _job(photo: Path, base: Path, out: Path, **fields: Any) -> TrainJob:
    return TrainJob(
        reference=str(photo),
        out=str(out),
        profile="sdxl",
        base=str(base),
        steps_one=2,
        steps_two=2,
        offline=True,
        **fields,
    )


def test_a_style_is_trained_used_and_read_by_diffusers(
    photo: Path, tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(profiles, "get", with_profile(PROFILE))
    monkeypatch.setattr(designer, "_cached", lambda name, file: None)
    out, made = tmp_path / "style", tmp_path / "made.png"
    collect(Engine().run(_job(photo, tiny_sdxl, out, subject="red disc", blocks="paper")))
    style = Style.load(out)
    assert (style.blocks, style.designed, style.profile) == (PAPER_BLOCKS, "base", "sdxl")
    assert style.plot is not None  # though its blocks are named
    assert any(value.any() for name, value in style.weights.items() if ".lora_B." in name)
    base = ["--base", str(tiny_sdxl), "--offline"]
    words = ["--prompt", "a yellow dog", "--steps", "2"]
    # In this very process, whose profile is changed.
    monkeypatch.setattr("backend.service.client.run", Engine().run)
    assert cli.main(["generate", "--style", str(out), "--out", str(made), *words, *base]) == 0
    assert made.is_file()
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, local_files_only=True)
    pipeline.load_lora_weights(out)
    models = loading.load(PROFILE, base=str(tiny_sdxl), device="cpu")
    with with_style(models, dict(style.weights)):
        expected = _predicted(models, models.unet)
    torch.testing.assert_close(_predicted(models, pipeline.unet), expected, rtol=1e-4, atol=1e-5)


def _predicted(models: Models, unet: Any) -> torch.Tensor:
    text = models.encode_prompts(["a rose in [emb] style"])
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return predict(replace(models, unet=unet), noise, 500, text)


@pytest.mark.filterwarnings("ignore")  # as in test_library_lora.py
def test_kohyas_names_are_those_of_comfyui_and_lead_back(
    models: Models, tiny_sdxl: Path, tmp_path: Path
) -> None:
    style = _style(models, convolutions=True)
    kohya = to_kohya(style.weights)
    # ComfyUI makes a LoRA's names of those of the checkpoint's UNet: dots become underscores.
    theirs = {
        f"lora_unet_{_unet_name(name).removesuffix('.weight').replace('.', '_')}": value.shape
        for name, value in models.unet.state_dict().items()
        if name.endswith(".weight")
    }
    layers = {name.split(".")[0] for name in kohya}
    assert layers <= set(theirs)
    assert len(layers) == len(style.weights) // 2 > 256
    for layer in layers:
        down, up = (kohya[f"{layer}.lora_{part}.weight"] for part in ("down", "up"))
        assert (up.shape[0], down.shape[1]) == tuple(theirs[layer][:2]), layer
        assert float(kohya[f"{layer}.alpha"]) == down.shape[0] == style.rank
    export_lora(style, "kohya", tmp_path / "lora.safetensors")
    back, _ = StableDiffusionXLPipeline.lora_state_dict(
        tmp_path / "lora.safetensors", unet_config=models.unet.config
    )
    # diffusers still names some layers as it did when LoRA sat in attention processors.
    back = {
        re.sub(r"\.processor\.(to_\w+)_lora\.", r".\1.lora.", name)
        .replace(".to_out.lora.", ".to_out.0.lora.")
        .replace(".lora.down.", ".lora_A.")
        .replace(".lora.up.", ".lora_B."): value
        for name, value in back.items()
    }
    assert back.keys() == style.weights.keys()
    assert all(torch.equal(value, back[name]) for name, value in style.weights.items())
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, local_files_only=True)
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    plain = _predicted(models, models.unet)
    with with_style(models, dict(style.weights)):
        expected = _predicted(models, models.unet)
    torch.testing.assert_close(_predicted(models, pipeline.unet), expected, rtol=1e-4, atol=1e-5)
    assert (expected - plain).abs().max() > 1e-2
