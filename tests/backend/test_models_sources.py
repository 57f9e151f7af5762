"""Where a base model may come from: single-file checkpoints, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from single_file import save_checkpoint, tiny_sdxl

from backend.errors import ProfileError
from backend.models import loading, profiles
from backend.models.loading import Models
from backend.models.prediction import predict

NETWORKS = ("unet", "text_encoder", "text_encoder_2", "vae", "controlnet_canny", "controlnet_tile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL as a folder, and beside it as a checkpoint."""
    place = tmp_path_factory.mktemp("sdxl")
    save_checkpoint(tiny_sdxl(place / "model"), place / "model.safetensors")
    return place / "model"


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return folder.with_suffix(".safetensors")


@pytest.fixture(scope="module")
def layout(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder without any weights but the ControlNets'."""
    bare = tmp_path_factory.mktemp("layout") / "config"
    shutil.copytree(folder, bare)
    for weights in bare.rglob("*.safetensors"):
        if "controlnet" not in str(weights):
            weights.unlink()
    return bare


@pytest.fixture(scope="module")
def models(checkpoint: Path, layout: Path) -> Models:
    return loading.load(
        "sdxl", base=str(checkpoint), base_config=str(layout), device="cpu", offline=True
    )


def test_a_checkpoint_has_the_very_weights_of_its_folder(folder: Path, models: Models) -> None:
    profile = replace(profiles.get("sdxl"), cpu_dtype="float32")
    other = loading.load(profile, base=str(folder), device="cpu")
    for name in NETWORKS:
        ours, theirs = getattr(models, name).state_dict(), getattr(other, name).state_dict()
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=0.0, atol=0.0)
    assert models.fingerprint() == other.fingerprint()
    assert models.base == "model.safetensors"


def test_a_checkpoint_predicts_as_diffusers_pipeline(folder: Path, models: Models) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    words = ["a red heart in [emb] style"]
    with torch.no_grad():
        hidden, _, pooled, _ = pipeline.encode_prompt(words, do_classifier_free_guidance=False)
    text = models.encode_prompts(words)
    torch.testing.assert_close(text.hidden, hidden)
    torch.testing.assert_close(text.pooled, pooled)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = pipeline.unet(
            noise,
            500,
            encoder_hidden_states=hidden,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": models.time_ids(1, 64, 64)},
        ).sample
        torch.testing.assert_close(predict(models, noise, 500, text), theirs)


def test_controlnets_are_found_beside_a_checkpoint(
    checkpoint: Path, layout: Path, tmp_path: Path, models: Models
) -> None:
    for name in ("controlnet_canny", "controlnet_tile"):
        shutil.copytree(layout / name, tmp_path / name)
    shutil.copy(checkpoint, tmp_path)
    bare = tmp_path / "bare"
    shutil.copytree(layout, bare, ignore=shutil.ignore_patterns("controlnet*"))
    base = str(tmp_path / checkpoint.name)
    found = loading.load("sdxl", base=base, base_config=str(bare), device="cpu", offline=True)
    ours, theirs = (each.controlnet_tile.state_dict() for each in (found, models))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize("part", ["first_stage_model.", "conditioner.embedders.1."])
def test_half_a_checkpoint_is_refused_by_name(
    checkpoint: Path, layout: Path, tmp_path: Path, part: str
) -> None:
    tensors = {k: v for k, v in load_file(checkpoint).items() if not k.startswith(part)}
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(ProfileError, match=r"autoencoder|second text encoder"):
        _load(tmp_path / "half.safetensors", layout)


def test_a_checkpoint_that_lacks_a_layer_is_refused(
    checkpoint: Path, layout: Path, tmp_path: Path
) -> None:
    tensors = load_file(checkpoint)
    del tensors["conditioner.embedders.1.model.ln_final.weight"]
    save_file(tensors, tmp_path / "gap.safetensors")
    with pytest.raises(ProfileError, match="text_encoder_2 lacks"):
        _load(tmp_path / "gap.safetensors", layout)


def test_a_damaged_checkpoint_is_named(checkpoint: Path, layout: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(ProfileError, match="damaged") as caught:
        _load(tmp_path / "cut.safetensors", layout)
    assert str(tmp_path) in caught.value.message


# Beginnings of names in checkpoints of SDXL → those in checkpoints of other models.
SD1 = ("conditioner.embedders.0.transformer.", "cond_stage_model.transformer.")
SD2 = ("conditioner.embedders.1.model.", "cond_stage_model.model.")
REFINER = ("conditioner.embedders.1.", "conditioner.embedders.0.")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (SD1, "this file is Stable Diffusion 1, not"),
        (SD2, "this file is Stable Diffusion 2, not"),
        (REFINER, "no second text encoder"),
        (("model.diffusion_model.", "model.diffusion_model.joint_blocks."), "Diffusion 3, not"),
        (("model.diffusion_model.", "double_blocks."), "FLUX, not"),
        (("model.diffusion_model.", "lora_unet_"), "a LoRA, not"),
        (("model.diffusion_model.", "control_model."), "a ControlNet, not"),
        (("model.diffusion_model.", "model.other."), "no UNet"),
    ],
)
def test_checkpoints_of_other_models_are_called_by_their_names(
    checkpoint: Path, layout: Path, tmp_path: Path, names: tuple[str, str], message: str
) -> None:
    tensors = load_file(checkpoint)
    if names == REFINER:
        tensors = {k: v for k, v in tensors.items() if "embedders.0." not in k}
    theirs = {name.replace(*names): value for name, value in tensors.items()}
    save_file(theirs, tmp_path / "other.safetensors")
    with pytest.raises(ProfileError, match=message) as caught:
        _load(tmp_path / "other.safetensors", layout)
    assert "SDXL checkpoint" in caught.value.remedy


def test_a_model_for_inpainting_is_refused(checkpoint: Path, layout: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint)
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(16, 9, 3, 3)
    save_file(tensors, tmp_path / "inpaint.safetensors")
    with pytest.raises(ProfileError, match="takes 9 channels and gives 4"):
        _load(tmp_path / "inpaint.safetensors", layout)


def test_a_folder_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    for name, config, message in (
        ("unet", {"addition_embed_type": None}, "not Stable Diffusion XL"),
        ("vae", {"latent_channels": 16}, "UNet and autoencoder belong to different"),
        ("text_encoder", None, "UNet and text encoders belong to different"),
        ("controlnet_tile", {"cross_attention_dim": 8}, "tile: this ControlNet was made for anot"),
        ("controlnet_canny", {"block_out_channels": (8, 16, 32)}, "canny: this ControlNet"),
    ):
        other = Path(shutil.copytree(folder, tmp_path / name))
        if config is None:
            shutil.rmtree(other / name)
            shutil.copytree(folder / "text_encoder_2", other / name)
        else:
            kind: Any = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}.get(
                name, ControlNetModel
            )
            kind.from_config({**kind.load_config(folder / name), **config}).save_pretrained(
                other / name
            )
        with pytest.raises(ProfileError, match=message) as caught:
            _load(other, None)
        assert str(other) in caught.value.message
        assert caught.value.remedy


def test_weights_that_are_no_safetensors_are_not_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "pickled"))
    weights = next((other / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ProfileError, match="not in safetensors"):
        _load(other, None)
    shutil.rmtree(other / "unet")
    shutil.copytree(folder / "unet", other / "unet")
    shutil.rmtree(other / "text_encoder_2")
    with pytest.raises(ProfileError, match="incomplete"):  # and not: go online
        _load(other, None)
    shutil.copytree(folder / "text_encoder_2", other / "text_encoder_2")
    shutil.rmtree(other / "controlnet_tile")
    with pytest.raises(ProfileError, match=r"controlnet-tile.*base's folder"):
        _load(other, None)
    assert capsys.readouterr().err == ""  # our words alone


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_pickles_are_never_opened(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ProfileError, match="can run code"):
        _load(tmp_path / f"model{suffix}", None)


def test_a_checkpoint_without_configuration_says_what_to_give(checkpoint: Path) -> None:
    with pytest.raises(ProfileError, match="--base-config"):
        loading.load("starter", base=str(checkpoint), device="cpu")
    with pytest.raises(ProfileError, match="--base-config"):
        _load(checkpoint, checkpoint.parent)
    with pytest.raises(ProfileError, match="no such file"):
        _load(checkpoint.with_name("none.safetensors"), None)


def test_offline_is_kept_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def absent(*_: object, **options: Any) -> None:
        seen.append(options)
        raise OSError("not in the cache")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", absent)
    with pytest.raises(ProfileError, match="Leave out --offline"):
        loading.load("sdxl", device="cpu", offline=True)
    assert seen
    assert all(options["local_files_only"] for options in seen)


def test_sdxl_s_own_autoencoder_is_kept_out_of_float16(
    checkpoint: Path, layout: Path, tmp_path: Path, models: Models
) -> None:
    profile = replace(profiles.get("sdxl"), cpu_dtype="float16")
    upcast = tmp_path / "layout"
    shutil.copytree(layout, upcast)
    config = upcast / "vae" / "config.json"
    config.write_text(config.read_text().replace('"force_upcast": false', '"force_upcast": true'))
    for base, wanted in ((layout, torch.float16), (upcast, torch.float32)):
        found = loading.load(
            profile, base=str(checkpoint), base_config=str(base), device="cpu", offline=True
        )
        assert found.unet.dtype == torch.float16
        assert found.fingerprint() == models.fingerprint()
        assert found.vae.dtype == wanted
        latents = found.encode_image(torch.rand(1, 3, 64, 64))
        assert torch.isfinite(found.decode(latents)).all()


def _load(base: Path, layout: Path | None) -> Models:
    return loading.load(
        "sdxl",
        base=str(base),
        base_config=None if layout is None else str(layout),
        device="cpu",
        offline=True,
    )
