"""Designs drawn by Stable Diffusion 3 (paper, section 3.1)."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3ControlNetModel
from drawing import CPU, PROFILE, found_in, order, watched
from numpy.typing import NDArray
from tiny_sd3 import save_sd3

from backend.emolora import designs, sd3
from backend.emolora.pair import Pair, pair_drawn
from backend.emolora.sampling import seeded_noise, to_tensor
from backend.emolora.sd3 import caption, draw_designs, drawing_passes
from backend.errors import ProfileError
from backend.models import designer as designer_places
from backend.models import profiles
from backend.models import sd3 as networks
from backend.models.designer import Designer, find
from backend.models.memory import MODES, applied
from backend.progress import outcome


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(designer_places, "_cached", lambda name, file: None)


@pytest.fixture(scope="module")
def folder_with_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("sd3_t5"), t5=True)


def _drawn(found: Designer, seed: int = 0, **options: Any) -> NDArray[np.float32]:
    steps = draw_designs(found, PROFILE, CPU, [order("red disc", **options)], seed)
    (drawn,) = outcome(steps)
    return drawn


@pytest.mark.parametrize("t5", [False, True])
def test_it_draws_as_diffusers_own_pipeline(
    tiny_sd3: Path, folder_with_t5: Path, t5: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = found_in(folder_with_t5 if t5 else tiny_sd3)
    loaded = networks.load(found, PROFILE, CPU)
    assert (loaded.pipeline.text_encoder_3 is not None) == t5
    # Whole cells here, for their pipeline knows no others.
    ours = _drawn(found, seed=5, width=64)
    seen = sd3._eyes(found, PROFILE, CPU)(order("red disc", width=64))
    settings = PROFILE.pair
    noise = seeded_noise(CPU, (1, 16, 8, 8), 5)
    loaded.pipeline.set_progress_bar_config(disable=True)
    theirs = loaded.pipeline(
        prompt=f"red disc, {settings.prompt}",
        negative_prompt=settings.negative,
        control_image=[to_tensor(each) * 2.0 - 1.0 for each in (seen.edges, seen.colours)],
        controlnet_conditioning_scale=[settings.canny_scale, settings.tile_scale],
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        latents=noise,
        height=64,
        width=64,
        output_type="np",
    ).images[0]
    assert theirs.std() > 0.02
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_the_papers_numbers_are_the_profiles() -> None:
    settings = profiles.get("sdxl")
    assert (settings.pair.steps, settings.pair.guidance) == (28, 4.0)
    assert (settings.pair.canny_scale, settings.pair.tile_scale) == (0.2, 0.8)
    assert settings.designer is not None
    assert settings.designer.edge_side == 512
    assert settings.window == 1024


def test_a_design_has_its_pictures_size_and_its_seed(tiny_sd3: Path) -> None:
    found = found_in(tiny_sd3)
    first = _drawn(found)
    assert first.shape == (64, 72, 3)  # no whole number of cells
    assert first.dtype == np.float32
    assert 0.0 <= first.min() <= first.max() <= 1.0
    torch.manual_seed(1)  # nothing hangs on the global state
    assert np.array_equal(first, _drawn(found))
    assert not np.allclose(first, _drawn(found, seed=1), atol=1e-3)


def test_words_and_conditions_count(tiny_sd3: Path) -> None:
    loaded = networks.load(found_in(tiny_sd3), PROFILE, CPU)
    text = loaded.encode_prompts(["a", "a red dog"])
    conditions = [loaded.encode_condition(torch.full((1, 3, 64, 64), v)) for v in (0.1, 0.9)]
    latents, time = torch.zeros(1, 16, 8, 8), torch.tensor(500.0)

    def answer(row: int, given: list[torch.Tensor], scales: list[float]) -> torch.Tensor:
        return loaded.velocity(latents, time, text[[row]], given, scales)

    usual = answer(0, conditions, [0.2, 0.8])
    for other in (
        answer(1, conditions, [0.2, 0.8]),
        answer(0, conditions[::-1], [0.2, 0.8]),
        answer(0, conditions, [0.2, 0.0]),
    ):
        assert not torch.allclose(usual, other, atol=1e-4)


def test_every_step_can_be_cancelled_and_leaves_no_network(
    tiny_sd3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = watched(monkeypatch)
    steps = draw_designs(found_in(tiny_sd3), PROFILE, CPU, [order("a"), order("b")], 0)
    count = 2 * drawing_passes(PROFILE)
    for _ in range(count - 1):
        next(steps)
    assert alive()
    steps.close()
    assert not alive()
    assert len(list(draw_designs(found_in(tiny_sd3), PROFILE, CPU, [order("a")], 0))) == 4


def test_memory_mode_8_leaves_t5_out(folder_with_t5: Path) -> None:
    found = found_in(folder_with_t5)
    small = networks.load(found, applied(PROFILE, MODES[-1]), CPU)
    assert small.pipeline.text_encoder_3 is None
    assert small.pipeline.vae.use_tiling
    text = small.encode_prompts(["a"])
    assert text.hidden.shape == (1, 77 + 256, 32)
    assert not text.hidden[:, 77:].any()
    assert small.residence.present == {"text_encoder_2"}
    middle = networks.load(found, applied(PROFILE, MODES[2]), CPU)
    assert middle.encode_prompts(["a"]).hidden[:, 77:].any()
    assert middle.residence.present == {"text_encoder_3"}


def test_a_controlnet_of_another_model_is_refused(tiny_sd3: Path, tmp_path: Path) -> None:
    found = found_in(tiny_sd3)
    other = SD3ControlNetModel.from_config(
        {**SD3ControlNetModel.load_config(found.tile), "num_attention_heads": 4}
    )
    other.save_pretrained(tmp_path / "tile")
    with pytest.raises(ProfileError, match=r"tile: this ControlNet belongs to another model"):
        networks.load(replace(found, tile=tmp_path / "tile"), PROFILE, CPU)


def test_a_damaged_part_is_named(tiny_sd3: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_sd3, tmp_path / "sd3"))
    weights = next((broken / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(ProfileError, match=r"sd3/transformer: cannot be loaded"):
        _drawn(found_in(broken))


def test_a_caption_keeps_the_likeliest_tags_that_fit() -> None:
    tags = ["flower", "red flower", "leaf"]
    assert caption("rose", tags, "flat", lambda _: True) == "rose, flower, red flower, leaf, flat"
    assert caption(None, tags, "flat", lambda text: len(text) < 26) == "flower, red flower, flat"
    assert caption("rose", tags, "flat", lambda _: False) == "rose, flat"


def test_the_design_is_the_designers_and_hangs_on_the_seed(photo: Path, tiny_sd3: Path) -> None:
    found = found_in(tiny_sd3)

    def made(seed: int, drawing: bool = True) -> Pair:
        draw = designs.by_designer(found, PROFILE, CPU, "disc", seed) if drawing else None
        pair: Pair = outcome(pair_drawn(PROFILE, str(photo), draw, seed=seed))
        return pair

    first, again, other, plain = made(0), made(0), made(1), made(0, False)
    assert first.design.shape == first.embroidery.shape
    assert first.design.dtype == np.float32
    assert np.array_equal(first.design, again.design)
    for changed in (other, plain):
        assert not np.array_equal(first.design, changed.design)
        assert np.array_equal(first.embroidery, changed.embroidery)


def test_the_hubs_cache_is_looked_into(
    tiny_sd3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found, note = find(PROFILE)
    assert found is None
    settings = PROFILE.designer
    assert settings is not None
    for name in (settings.base, settings.canny, settings.tile):
        assert name in note
    for name, sub in (
        (settings.base, ""),
        (settings.canny, "controlnet_canny"),
        (settings.tile, "controlnet_tile"),
    ):
        place = tmp_path / f"models--{name.replace('/', '--')}"
        shutil.copytree(tiny_sd3 / sub, place / "snapshots" / "abc")
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("abc")
    found, note = find(PROFILE)
    assert found is not None
    assert found.tile.name == "abc"
    assert note.startswith("Stable Diffusion 3 draws")
    assert networks.load(found, PROFILE, CPU).cell == 16


def test_every_setting_of_the_designer_says_what_it_is_for() -> None:
    assert PROFILE.designer is not None
    described = profiles.describe(PROFILE)
    for field in dataclasses.fields(PROFILE.designer):
        assert described[f"designer.{field.name}"]
