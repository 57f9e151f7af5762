"""Our own restyling path against plain diffusers, on one window of the tiny model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from numpy.typing import NDArray
from restyling import WINDOW, finish, tiny_models, tiny_style

from backend.imaging import edges
from backend.imaging.artwork import covered
from backend.jobs import GenerateJob, RestyleJob
from backend.models.loading import Models
from backend.restyle.denoise import make_scheduler
from backend.restyle.image import restyle
from backend.restyle.text import generate
from backend.restyle.windows import noise_field
from backend.styles import Style

SEED, STEPS, GUIDANCE, STRENGTH = 7, 4, 3.0, 0.75
MODULES = (
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img",
    "diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl_img2img",
)


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    return tiny_models(tiny_model, routing=False)


@pytest.fixture(scope="module")
def style(models: Models) -> Style:
    return tiny_style(models)


@pytest.fixture
def _same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers draws our noise, and takes the autoencoder's mode instead of a sample."""

    def noise(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
        return noise_field(SEED, *shape[1:])[None]

    def mode(output: Any, *_: Any, **__: Any) -> torch.Tensor:
        latents: torch.Tensor = output.latent_dist.mode()
        return latents

    for module in MODULES:
        monkeypatch.setattr(f"{module}.randn_tensor", noise)
        monkeypatch.setattr(f"{module}.retrieve_latents", mode)


def _pipeline(
    kind: Any, folder: Path, models: Models, style: Style, sampler: str = "ddim", **more: Any
) -> Any:
    pipeline = kind.from_pretrained(folder, **more)
    pipeline.scheduler = make_scheduler(models, STEPS, sampler)
    pipeline.load_lora_weights({name: value.clone() for name, value in style.weights.items()})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _picture() -> NDArray[np.float32]:
    y, x = np.mgrid[:WINDOW, :WINDOW].astype(np.float32) / WINDOW
    rgb = np.dstack([x, 0.3 + 0.4 * (np.hypot(x - 0.5, y - 0.5) < 0.3), 1.0 - y])
    return (np.round(rgb * 255.0) / 255.0).astype(np.float32)


def _ours(
    models: Models, style: Style, rgb: NDArray[np.float32], kind: str, sampler: str = "auto"
) -> torch.Tensor:
    job = RestyleJob(
        style="style",
        input="in.png",
        out="out.png",
        embroidery=kind,
        start="design",
        strength=STRENGTH,
        steps=STEPS,
        sampler=sampler,
        guidance=GUIDANCE,
        seed=SEED,
    )
    rgba = np.dstack([rgb, np.ones(rgb.shape[:2], np.float32)])
    result = finish(restyle(models, style, rgba, None, job))
    return torch.from_numpy(result[..., :3])


def _tensor(image: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


# Diffusers' solver hands NumPy 2 tensors in a way that torch warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.usefixtures("_same_start")
@pytest.mark.parametrize(
    ("tile_only", "sampler"), [(False, "ddim"), (True, "ddim"), (False, "dpm++")]
)
def test_image_path_equals_diffusers_controlnet_pipeline(
    tiny_model: Path,
    models: Models,
    style: Style,
    tile_only: bool,
    sampler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = models.profile.relief if tile_only else models.profile.flat
    # What is done to colours before and after diffusion is not diffusers'.
    monkeypatch.setattr(
        "backend.restyle.image.in_strips", lambda result, *_, **__: np.asarray(result)
    )
    monkeypatch.setattr("backend.restyle.image.sewable", lambda rgba, mask, _: covered(rgba, mask))
    rgb = _picture()
    pipeline = _pipeline(
        StableDiffusionXLControlNetImg2ImgPipeline,
        tiny_model,
        models,
        style,
        sampler,
        controlnet=[models.controlnet_canny, models.controlnet_tile],
    )
    outline = np.repeat(edges.canny(rgb)[..., None], 3, axis=2)
    blurred = np.round(edges.tile_condition(rgb, WINDOW) * 255.0) / 255.0
    theirs = pipeline(
        prompt=models.profile.prompts()[1],
        negative_prompt=models.profile.inference.negative,
        image=_tensor(rgb),
        control_image=[_tensor(outline), _tensor(blurred.astype(np.float32))],
        controlnet_conditioning_scale=[kind.canny_scale, kind.tile_scale],
        strength=STRENGTH,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
    ).images[0]
    ours = _ours(models, style, rgb, "relief" if tile_only else "flat", sampler)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=2e-4, rtol=0.0)


@pytest.mark.usefixtures("_same_start")
def test_image_path_without_controls_equals_diffusers_img2img(
    tiny_model: Path, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tiny_models(tiny_model, routing=False)
    bare = {"canny_scale": 0.0, "tile_scale": 0.0, "colour_correction": "none"}
    models.profile = _with_relief(models, **bare)
    rgb = _picture()
    pipeline = _pipeline(StableDiffusionXLImg2ImgPipeline, tiny_model, models, style)
    theirs = pipeline(
        prompt=models.profile.prompts()[1],
        negative_prompt=models.profile.inference.negative,
        image=_tensor(rgb),
        strength=STRENGTH,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
    ).images[0]
    ours = _ours(models, style, rgb, "relief")
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=2e-4, rtol=0.0)


def _with_relief(models: Models, **changes: Any) -> Any:
    relief = dataclasses.replace(models.profile.relief, **changes)
    return dataclasses.replace(models.profile, relief=relief)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_text_path_equals_diffusers_pipeline(
    tiny_model: Path, models: Models, style: Style, sampler: str
) -> None:
    pipeline = _pipeline(StableDiffusionXLPipeline, tiny_model, models, style, sampler)
    channels = models.unet.config.in_channels
    cells = WINDOW // models.factor
    theirs = pipeline(
        prompt="a yellow dog in [emb] style",
        negative_prompt=models.profile.inference.negative,
        latents=noise_field(SEED, channels, cells, cells)[None],
        height=WINDOW,
        width=WINDOW,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
    ).images[0]
    job = GenerateJob(
        style="style",
        prompt="a yellow dog",
        out="out.png",
        steps=STEPS,
        sampler=sampler,
        guidance=GUIDANCE,
        seed=SEED,
    )
    ours = torch.from_numpy(finish(generate(models, style, job)))
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=2e-4, rtol=0.0)


@pytest.mark.usefixtures("_same_start")
def test_style_matters(models: Models, style: Style) -> None:
    job: dict[str, Any] = {"style": "s", "input": "i", "out": "o", "steps": STEPS, "seed": SEED}
    job |= {"start": "design", "strength": 1.0}
    rgba = np.dstack([_picture(), np.ones((WINDOW, WINDOW), np.float32)])
    results = [
        finish(restyle(models, style, rgba, None, RestyleJob(**job, style_strength=strength)))
        for strength in (0.0, 1.0)
    ]
    assert np.abs(results[0] - results[1]).max() > 0.01
