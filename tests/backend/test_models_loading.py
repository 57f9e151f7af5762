"""Loading base models, and one prediction of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from backend.errors import ProfileError
from backend.models import loading, profiles
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import (
    Controls,
    add_noise,
    control,
    ddim_step,
    hints,
    noise_of,
    noise_target,
    predict,
    timesteps,
)


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_prompts_are_encoded_as_diffusers_does(tiny_model: Path, tiny_models: Models) -> None:
    words = ["a red heart", "a red heart in [emb] style"]
    ours = tiny_models.encode_prompts(words)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    with torch.no_grad():
        hidden, _, pooled, _ = pipeline.encode_prompt(words, do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.hidden, hidden)
    torch.testing.assert_close(ours.pooled, pooled)
    assert not torch.equal(ours.hidden[0], ours.hidden[1])


def test_the_sdxl_profile_loads_the_same_classes_from_a_folder(tiny_model: Path) -> None:
    models = loading.load("sdxl", base=str(tiny_model), device="cpu")
    assert models.profile.window == 1024
    assert models.base == tiny_model.name
    assert not any(p.requires_grad for p in models.unet.parameters())


def test_images_go_to_latents_and_back(tiny_models: Models) -> None:
    rgb = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    latents = tiny_models.encode_image(rgb)
    assert latents.shape == (2, 4, 8, 6)
    back = tiny_models.decode(latents)
    assert back.shape == rgb.shape
    assert back.min() >= 0.0
    assert back.max() <= 1.0
    assert torch.equal(latents, tiny_models.encode_image(rgb))  # the mode: nothing is drawn


def test_fingerprint_follows_the_weights_only(tiny_model: Path, tiny_models: Models) -> None:
    before = tiny_models.fingerprint()
    again = loading.load("starter", base=str(tiny_model), device="cpu")
    assert again.fingerprint() == before
    with torch.no_grad():
        again.unet.conv_in.weight += 0.1
    assert again.fingerprint() != before


@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_computes_in_bfloat16_only_where_it_can(
    tiny_model: Path, tiny_models: Models, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(loading, "has_bfloat16", lambda: native)
    profile = replace(tiny_models.profile, cpu_dtype="bfloat16")
    models = loading.load(profile, base=str(tiny_model), device="cpu")
    assert models.dtype == (torch.bfloat16 if native else torch.float32)
    # A style must be found to fit its base whatever arithmetic it was trained in.
    assert models.fingerprint() == tiny_models.fingerprint()
    assert models.encode_image(torch.rand(1, 3, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_a_mixed_base_halves_the_weights_of_what_trains(
    tiny_model: Path, tiny_models: Models, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(loading, "has_bfloat16", lambda: native)
    profile = replace(tiny_models.profile, cpu_dtype="mixed")
    models = loading.load(profile, base=str(tiny_model), device="cpu")
    assert models.dtype == torch.float32
    halved = torch.bfloat16 if native else torch.float32
    assert models.unet.conv_in.weight.dtype == halved
    assert models.controlnet_tile.conv_in.weight.dtype == halved
    assert models.unet.conv_norm_out.weight.dtype == models.vae.dtype == torch.float32
    assert models.fingerprint() == tiny_models.fingerprint()
    text, latents = tiny_models.encode_prompts(["a motif"]), _noise(1, 4, 8, 8)
    found, wanted = (predict(each, latents, 300, text) for each in (models, tiny_models))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0.0, atol=0.05 * float(wanted.abs().max()))
    assert torch.equal(found, wanted) is not native


def test_controls_change_the_prediction_by_their_scale(tiny_models: Models) -> None:
    text = tiny_models.encode_prompts(["a motif"])
    latents, picture = _noise(1, 4, 8, 8), torch.rand(1, 3, 64, 64)
    for network in (tiny_models.controlnet_canny, tiny_models.controlnet_tile):
        for parameter in network.parameters():  # a fresh ControlNet says zero
            parameter.data += 0.01
    plain = predict(tiny_models, latents, 300, text)
    none = predict(tiny_models, latents, 300, text, Controls(picture, picture, 0.0, 0.0))
    controls = Controls(picture, picture, 0.5, 0.5)
    both = predict(tiny_models, latents, 300, text, controls)
    assert torch.equal(plain, none)
    assert not torch.allclose(plain, both)


def test_what_the_controlnets_said_can_be_used_again(tiny_models: Models) -> None:
    text = tiny_models.encode_prompts(["a motif", "a heart"])
    latents, picture = _noise(2, 4, 8, 8), torch.rand(2, 3, 64, 64)
    controls = Controls(picture, 1.0 - picture, 0.5, 0.7)
    wanted = predict(tiny_models, latents, 300, text, controls)
    seen = hints(tiny_models, controls)
    assert seen is not None
    assert seen.canny.shape[2:] == latents.shape[2:]
    assert torch.equal(predict(tiny_models, latents, 300, text, seen), wanted)
    said = control(tiny_models, latents, 300, text, seen)
    assert said is not None
    assert torch.equal(predict(tiny_models, latents, 300, text, said), wanted)
    twice = TextEmbedding(text.hidden.repeat(2, 1, 1), text.pooled.repeat(2, 1))
    both = predict(tiny_models, latents.repeat(2, 1, 1, 1), 300, twice, said.with_rows(said))
    torch.testing.assert_close(both, wanted.repeat(2, 1, 1, 1))
    second = predict(tiny_models, latents[1:], 300, text[1:], said[1:])
    torch.testing.assert_close(second, wanted[1:])
    none = Controls(picture, picture, 0.0, 0.0)
    assert control(tiny_models, latents, 300, text, none) is None
    assert hints(tiny_models, none) == none


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_schedule_agrees_with_diffusers(tiny_models: Models, kind: str) -> None:
    tiny_models.scheduler.register_to_config(prediction_type=kind)
    scheduler = DDIMScheduler.from_config(
        tiny_models.scheduler.config,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )
    scheduler.set_timesteps(10)
    schedule = timesteps(tiny_models, 10)
    assert schedule == scheduler.timesteps.tolist()
    latents, output = _noise(1, 4, 8, 8), _noise(1, 4, 8, 8, seed=1)
    noise = noise_of(tiny_models, latents, output, schedule[0])
    ours = ddim_step(tiny_models, latents, noise, schedule[0], schedule[1])
    theirs = scheduler.step(output, schedule[0], latents).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    noise = noise_of(tiny_models, latents, output, schedule[-1])
    last = ddim_step(tiny_models, latents, noise, schedule[-1], -1)
    theirs = scheduler.step(output, schedule[-1], latents).prev_sample
    torch.testing.assert_close(last, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_back_noise_and_image(tiny_models: Models, kind: str) -> None:
    tiny_models.scheduler.register_to_config(prediction_type=kind)
    clean, noise = _noise(2, 4, 8, 8), _noise(2, 4, 8, 8, seed=1)
    noisy = add_noise(tiny_models, clean, noise, 700)
    output = noise_target(tiny_models, clean, noise, 700)
    found = noise_of(tiny_models, noisy, output, 700)
    torch.testing.assert_close(found, noise, atol=1e-4, rtol=1e-4)
    back = ddim_step(tiny_models, noisy, found, 700, -1)
    torch.testing.assert_close(back, clean, atol=1e-3, rtol=1e-3)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="pipeline layout") as caught:
        loading.load("starter", base=str(tmp_path / "nothing"), device="cpu")
    assert str(tmp_path) in caught.value.message
    assert not loading.is_available("starter", base=str(tmp_path / "nothing"))


def test_a_damaged_folder_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_model, folder)
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ProfileError, match="damaged or incomplete") as caught:
        loading.load("starter", base=str(folder), device="cpu")
    assert str(folder / "unet") in caught.value.message


def test_a_model_that_is_not_there_offline_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def absent(*_: object, **__: object) -> None:
        raise OSError("not in the cache\nmore")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", absent)
    with pytest.raises(ProfileError, match="Unset HF_HUB_OFFLINE"):
        loading.load("sdxl", device="cpu")


def test_unknown_prediction_types_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tiny_model, folder)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"v_prediction"', '"sample"'))
    with pytest.raises(ProfileError, match="predicts noise or velocity"):
        loading.load(profiles.get("starter"), base=str(folder), device="cpu")
