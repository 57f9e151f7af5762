"""Restyling any size: what stays identical, what changes, how it reports and ends."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from restyling import artwork, collect, finish, tiny_models, tiny_style

from backend.errors import InputError
from backend.imaging.colour import rgb_to_lab
from backend.jobs import GenerateJob, RestyleJob
from backend.models.loading import Models
from backend.restyle.correction import Correction, correct_colours, in_strips
from backend.restyle.image import passes, restyle
from backend.restyle.text import generate, prompts_of
from backend.styles import Style


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    return tiny_models(tiny_model)


@pytest.fixture(scope="module")
def style(models: Models) -> Style:
    return tiny_style(models)


def _job(**fields: Any) -> RestyleJob:
    return RestyleJob(**{"style": "s", "input": "in.png", "out": "o", "steps": 3, **fields})


def _opaque(height: int, width: int) -> np.ndarray:
    rgba = artwork(height, width)
    rgba[rgba[..., 3] == 0.0] = (0.6, 0.6, 0.65, 1.0)
    return rgba


@pytest.mark.parametrize("shape", [(64, 64), (75, 211), (150, 66)])
@pytest.mark.parametrize("start", ["design", "preview"])
def test_any_size_keeps_shape_and_alpha(
    models: Models, style: Style, shape: tuple[int, int], start: str
) -> None:
    rgba = artwork(*shape)
    result = finish(restyle(models, style, rgba, None, _job(start=start)))
    assert result.shape == rgba.shape
    assert result.dtype == np.float32
    assert np.array_equal(result[..., 3], rgba[..., 3])
    clear = rgba[..., 3] == 0.0
    assert np.array_equal(result[clear], rgba[clear])
    assert np.abs(result - rgba)[~clear].mean() > 1e-3


@pytest.mark.parametrize("fields", [{"start": "design"}, {"start": "preview"}, {"guidance": 3.0}])
def test_as_many_rows_go_through_the_unet_as_passes_are_said(
    models: Models, style: Style, fields: dict[str, Any]
) -> None:
    seen: list[int] = []
    hook = models.unet.conv_in.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )
    job = _job(**fields)
    try:
        finish(restyle(models, style, _opaque(64, 64), None, job))
    finally:
        hook.remove()
    assert sum(seen) == passes(models, style, job)


def test_what_denoising_leaves_alone_is_the_preview_itself(
    models: Models, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    def idle(models: Models, latents: torch.Tensor, *_: Any) -> Generator[None, None, torch.Tensor]:
        yield
        return latents

    monkeypatch.setattr("backend.restyle.image.invert", idle)
    monkeypatch.setattr("backend.restyle.image.denoise", idle)
    shown: list[np.ndarray] = []
    job = _job(start="preview", colours="none")
    result = finish(
        restyle(models, style, _opaque(75, 211), None, job, lambda each: shown.append(each.copy()))
    )
    # The autoencoder has had no training: what it makes of a picture is nothing like it.
    assert np.abs(result[..., :3] - np.clip(shown[0], 0.0, 1.0)).max() < 1e-5


def test_outside_the_mask_every_pixel_is_identical(models: Models, style: Style) -> None:
    rgba = _opaque(120, 180)
    mask = np.zeros((120, 180), dtype=np.float32)
    mask[30:90, 40:120] = 1.0
    mask[30:90, 120:124] = 0.5
    result = finish(restyle(models, style, rgba, mask, _job()))
    assert np.array_equal(result[mask == 0.0], rgba[mask == 0.0])
    assert np.abs(result - rgba)[mask == 1.0].mean() > 1e-3


def test_masked_part_is_the_same_in_a_larger_picture(models: Models, style: Style) -> None:
    rgba = _opaque(64, 64)
    wide = np.concatenate([rgba, np.full((64, 128, 4), 1.0, np.float32)], axis=1)
    mask = np.zeros((64, 192), dtype=np.float32)
    mask[:, :8] = 1.0
    alone = finish(restyle(models, style, rgba, mask[:, :64], _job(start="design")))
    among = finish(restyle(models, style, wide, mask, _job(start="design")))
    # What lies beside the window still shows in its outermost edges and blur.
    assert np.abs(alone[:, :8] - among[:, :8]).max() < 5e-3


def test_same_seed_same_picture(models: Models, style: Style) -> None:
    rgba = _opaque(80, 100)
    first, again, other = (
        finish(restyle(models, style, rgba, None, _job(seed=seed, start="design")))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_progress_counts_up_to_the_end(models: Models, style: Style) -> None:
    seen, _ = collect(restyle(models, style, _opaque(80, 150), None, _job(strength=1.0)))
    stages = list(dict.fromkeys(each.stage for each in seen))
    names = ["preparing", "encoding", "inverting", "embroidering", "decoding", "finishing"]
    assert stages == names
    for stage in stages:
        last = [each for each in seen if each.stage == stage][-1]
        assert last.step == last.steps
    assert seen[-1].seconds_left == 0.0


def test_cancelling_leaves_the_model_as_it_was(models: Models, style: Style) -> None:
    before = {name: value.clone() for name, value in models.unet.state_dict().items()}
    steps = restyle(models, style, _opaque(64, 64), None, _job(strength=1.0))
    while next(steps).stage != "embroidering":
        pass
    steps.close()
    after = models.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.is_grad_enabled()


def test_routing_gives_only_the_style_blocks_the_trigger(
    tiny_model: Path, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.restyle.image.in_strips", lambda result, *_: result)
    rgba = _opaque(64, 64)
    routed, plain = (
        finish(restyle(tiny_models(tiny_model, routing=on), style, rgba, None, _job(strength=1.0)))
        for on in (True, False)
    )
    assert not np.array_equal(routed, plain)


def test_nothing_to_embroider_is_said(models: Models, style: Style) -> None:
    with pytest.raises(InputError, match=r"in\.png"):
        finish(restyle(models, style, _opaque(64, 64), np.zeros((64, 64), np.float32), _job()))
    with pytest.raises(InputError, match="nothing to embroider"):
        finish(restyle(models, style, np.zeros((64, 64, 4), np.float32), None, _job()))


def test_colour_correction_keeps_the_designs_colours_and_the_outputs_thread() -> None:
    rng = np.random.default_rng(0)
    design = np.repeat(np.linspace(0.2, 0.7, 120, dtype=np.float32)[None, :, None], 90, axis=0)
    design = (design * (1.0, 0.6, 0.4)).astype(np.float32)
    thread = 0.08 * rng.choice((-1.0, 1.0), (90, 120, 1))
    darker = np.clip(design[..., ::-1] * 0.7 + 0.05 + thread, 0, 1).astype(np.float32)
    corrected = correct_colours(darker, design, "shade", sigma=8.0)
    ours, wanted = rgb_to_lab(corrected), rgb_to_lab(design)
    inner = np.s_[20:70, 20:100]
    assert np.abs(ours[inner] - wanted[inner]).mean(axis=(0, 1))[1:].max() < 4.0
    assert abs(ours[inner][..., 0].mean() - wanted[inner][..., 0].mean()) < 1.5
    assert ours[inner][..., 0].std(axis=0).mean() > 4.0


def test_correction_in_strips_equals_the_whole() -> None:
    rng = np.random.default_rng(0)
    result, design = rng.random((2, 1300, 40, 3)).astype(np.float32)
    inside = np.ones((1300, 40), dtype=bool)
    for how in get_args(Correction):
        whole = correct_colours(result, design, how, 6.0, inside)
        stripped = result.copy()
        in_strips(stripped, design, how, 6.0, inside)
        assert np.abs(stripped - whole).max() < 1e-4


def test_a_job_chooses_what_is_corrected(models: Models, style: Style) -> None:
    rgba = _opaque(64, 64)
    pictures = [
        finish(restyle(models, style, rgba, None, _job(start="design", colours=colours)))
        for colours in ("auto", models.profile.flat.colour_correction, "none", "paper", "coarse")
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert all(not np.array_equal(one, two) for one, two in itertools.combinations(pictures[1:], 2))


@pytest.mark.parametrize("size", [(64, 64), (64, 100), (150, 90)])
def test_words_become_a_picture_of_the_wanted_size(
    models: Models, style: Style, size: tuple[int, int]
) -> None:
    job = GenerateJob(style="s", prompt="a dog", out="o", height=size[0], width=size[1], steps=3)
    seen, image = collect(generate(models, style, job))
    assert image.shape == (*size, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.0
    assert {each.stage for each in seen} >= {"composing", "decoding"}


def test_trigger_is_added_once(style: Style) -> None:
    assert prompts_of(style, "a red  dog") == ("a red dog", "a red dog in [emb] style")
    assert prompts_of(style, "a dog in [emb] style") == ("a dog", "a dog in [emb] style")
