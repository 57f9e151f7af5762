"""Designs drawn by Stable Diffusion 3: the drawing itself, and its place in a training."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3ControlNetModel
from numpy.typing import NDArray
from restyling import collect
from single_file import tiny_sdxl
from tiny_sd3 import save_sd3, tiny_sdxl_profile, with_profile

from backend import cli
from backend.emolora import complementary, designs, sd3
from backend.emolora.adapter import Adapter
from backend.emolora.encoded import encode
from backend.emolora.pair import Pair, pair_drawn
from backend.emolora.sampling import seeded_noise, to_tensor
from backend.emolora.sd3 import Order, caption, draw_designs, drawing_passes
from backend.engine import Engine
from backend.errors import InputError, ProfileError
from backend.jobs import NOTE, AnalyseJob, Progress, TrainJob
from backend.models import designer as designer_places
from backend.models import loading, profiles
from backend.models import sd3 as networks
from backend.models.designer import Designer, find
from backend.models.memory import MODES, applied
from backend.models.profiles import PAPER_BLOCKS
from backend.progress import outcome

PROFILE = tiny_sdxl_profile()
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(designer_places, "_cached", lambda name, file: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="module")
def folder_with_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("sd3_t5"), t5=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sdxl")
    tiny_sdxl(place)
    return place


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, photo: Path, base: Path, tmp_path: Path) -> TrainJob:
    """A short training for profile sdxl, which is tiny here."""
    monkeypatch.setattr(profiles, "get", with_profile(PROFILE))
    return TrainJob(
        reference=str(photo),
        out=str(tmp_path / "style"),
        profile="sdxl",
        base=str(base),
        steps_one=1,
        steps_two=0,
        offline=True,
    )


def _found(folder: Path) -> Designer:
    found, _ = find(PROFILE, str(folder))
    assert found is not None
    return found


def _picture(height: int = 64, width: int = 72) -> NDArray[np.float32]:
    y, x = np.mgrid[0:height, 0:width]
    disc = np.hypot(y - 30, x - 36) < 22
    rgb = np.where(disc[..., None], (0.8, 0.2, 0.2), (0.8, 0.8, 0.75))
    return np.asarray(rgb * (0.9 + 0.1 * np.sin(x))[..., None], dtype=np.float32)


def _order(subject: str, **size: int) -> Order:
    picture = _picture(**size)
    return Order(picture, designs.plain(PROFILE, picture, None, 0), subject)


def _drawn(found: Designer, seed: int = 0, **options: Any) -> NDArray[np.float32]:
    steps = draw_designs(found, PROFILE, CPU, [_order("red disc", **options)], seed)
    (drawn,) = outcome(steps)
    return drawn


@pytest.mark.parametrize("t5", [False, True])
def test_it_draws_as_diffusers_own_pipeline(
    folder: Path, folder_with_t5: Path, t5: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _found(folder_with_t5 if t5 else folder)
    loaded = networks.load(found, PROFILE, CPU)
    assert (loaded.pipeline.text_encoder_3 is not None) == t5
    # Whole cells here, for their pipeline knows no others.
    ours = _drawn(found, seed=5, width=64)
    seen = sd3._eyes(found, PROFILE, CPU)(_order("red disc", width=64))
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


def test_a_design_has_its_pictures_size_and_its_seed(folder: Path) -> None:
    found = _found(folder)
    first = _drawn(found)
    assert first.shape == (64, 72, 3)  # no whole number of cells
    assert first.dtype == np.float32
    assert 0.0 <= first.min() <= first.max() <= 1.0
    torch.manual_seed(1)  # nothing hangs on the global state
    assert np.array_equal(first, _drawn(found))
    assert not np.allclose(first, _drawn(found, seed=1), atol=1e-3)


def test_words_and_conditions_count(folder: Path) -> None:
    loaded = networks.load(_found(folder), PROFILE, CPU)
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
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = _watched(monkeypatch)
    steps = draw_designs(_found(folder), PROFILE, CPU, [_order("a"), _order("b")], 0)
    count = 2 * drawing_passes(PROFILE)
    for _ in range(count - 1):
        next(steps)
    assert alive()
    steps.close()
    assert not alive()
    assert len(list(draw_designs(_found(folder), PROFILE, CPU, [_order("a")], 0))) == 4


def test_memory_mode_8_leaves_t5_out(folder_with_t5: Path) -> None:
    found = _found(folder_with_t5)
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


def test_a_controlnet_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    found = _found(folder)
    other = SD3ControlNetModel.from_config(
        {**SD3ControlNetModel.load_config(found.tile), "num_attention_heads": 4}
    )
    other.save_pretrained(tmp_path / "tile")
    with pytest.raises(ProfileError, match=r"tile: this ControlNet belongs to another model"):
        networks.load(replace(found, tile=tmp_path / "tile"), PROFILE, CPU)


def test_a_damaged_part_is_named(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "sd3"))
    weights = next((broken / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(ProfileError, match=r"sd3/transformer: cannot be loaded"):
        _drawn(_found(broken))


def test_a_caption_keeps_the_likeliest_tags_that_fit() -> None:
    tags = ["flower", "red flower", "leaf"]
    assert caption("rose", tags, "flat", lambda _: True) == "rose, flower, red flower, leaf, flat"
    assert caption(None, tags, "flat", lambda text: len(text) < 26) == "flower, red flower, flat"
    assert caption("rose", tags, "flat", lambda _: False) == "rose, flat"


def test_training_draws_before_the_base_model_is_loaded(
    job: TrainJob, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, really_load = _watched(monkeypatch), loading.load
    seen: list[bool] = []

    def load(*arguments: Any, **options: Any) -> Any:
        seen.append(alive())
        return really_load(*arguments, **options)

    monkeypatch.setattr(loading, "load", load)
    progress, result = collect(Engine().run(replace(job, designer=str(folder))))
    assert seen == [False]
    stages = list(dict.fromkeys(each.stage for each in progress))
    assert stages[:4] == [NOTE, "pair", "drawing the design", "loading"]
    note = progress[0].message
    assert "Stable Diffusion 3 draws" in note
    assert "Canny edges of the flattened photo stand in" in note
    assert "the subject is all" in note
    drawn = [each.step for each in progress if each.stage == "drawing the design"]
    assert drawn[-1] == drawing_passes(PROFILE)
    assert NOTE not in result.seconds
    assert result.seconds["drawing the design"] > 0.0
    assert (Path(result.outputs["style"]) / "design.png").is_file()


def test_the_design_is_the_designers_and_hangs_on_the_seed(photo: Path, folder: Path) -> None:
    found = _found(folder)

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


def test_a_training_goes_on_without_drawing_again(
    job: TrainJob, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, designer=str(folder), steps_one=2)
    steps = Engine().run(job)
    for progress in steps:
        if progress.stage == "stage one":
            break
    steps.close()
    kept = Pair.load(Path(f"{job.out}.partial"))
    monkeypatch.setattr(networks, "load", _never)
    collect(Engine().run(job))
    style = Path(job.out)
    assert np.array_equal(Pair.load(_renamed(style)).design, kept.design)
    # Another photo is another pair.
    with pytest.raises(AssertionError):
        collect(Engine().run(replace(job, seed=7)))


@pytest.mark.parametrize("given", [True, False])
def test_an_analysis_has_its_design_drawn_unless_that_is_given(
    job: TrainJob, folder: Path, photo: Path, given: bool
) -> None:
    asked = AnalyseJob(
        reference=job.reference,
        design=str(photo) if given else None,
        out=job.out,
        profile="sdxl",
        base=job.base,
        designer=str(folder),
    )
    progress, _ = collect(Engine().run(asked))
    assert (NOTE in {each.stage for each in progress}) == (not given)
    draw = designs.by_designer(_found(folder), PROFILE, CPU, None, asked.seed)
    drawn: Pair = outcome(pair_drawn(PROFILE, str(photo), draw, seed=asked.seed))
    same = np.array_equal(Pair.load(Path(job.out)).design, drawn.design)
    assert same == (not given)


def test_complementary_designs_are_drawn_while_the_base_model_waits(
    base: Path, folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = loading.load(PROFILE, base=str(base), device="cpu")
    models.designer = _found(folder)
    really_load = networks.load
    present: list[set[str]] = []

    def load(*arguments: Any) -> Any:
        present.append(set(models.residence.present))
        return really_load(*arguments)

    monkeypatch.setattr(networks, "load", load)
    made = designs.eight_bit(_picture(64, 64))
    pair = Pair(made, made, np.ones((64, 64), dtype=np.float32))
    reference = encode(models, pair, PROFILE.prompts())
    blocks = PAPER_BLOCKS[1:3]
    adapter = Adapter(models, blocks, rank=2, seed=0)
    values = list(complementary.make(models, adapter, blocks, reference, made, 0))
    adapter.remove()
    assert values[:-1] == [None] * complementary.passes(models)
    (found,) = values[-1] or []
    assert found.design.shape == (64, 64, 3)
    assert present == [set()]
    assert "unet" in models.residence.present


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("controlnet_tile", "controlnet_tile"),
        ("text_encoder_2", "the pipeline itself"),
        ("transformer", "the pipeline itself"),
    ],
)
def test_what_a_folder_lacks_is_named(job: TrainJob, folder: Path, part: str, named: str) -> None:
    place = Path(shutil.copytree(folder, Path(job.out).with_name("sd3")))
    shutil.rmtree(place / part)
    with pytest.raises(ProfileError, match=rf"sd3: .*not complete: {named} ") as caught:
        collect(Engine().run(replace(job, designer=str(place))))
    assert "--designer" in caught.value.remedy


def test_a_folder_is_for_profiles_that_have_a_designer(job: TrainJob, folder: Path) -> None:
    asked = replace(job, profile="starter", designer=str(folder))
    with pytest.raises(InputError, match="profile starter"):
        collect(Engine().run(asked))


def test_the_hubs_cache_is_looked_into(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        shutil.copytree(folder / sub, place / "snapshots" / "abc")
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("abc")
    found, note = find(PROFILE)
    assert found is not None
    assert found.tile.name == "abc"
    assert note.startswith("Stable Diffusion 3 draws")
    assert networks.load(found, PROFILE, CPU).cell == 16


def test_the_command_line_says_who_draws(
    job: TrainJob, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = ("reference", "out", "profile", "base", "steps_one", "steps_two")
    arguments = [f"--{name.replace('_', '-')}={getattr(job, name)}" for name in fields]
    assert cli.main(["train", *arguments, "--offline"]) == cli.EXIT_OK
    said = capsys.readouterr().err
    assert said.count("note: ") == 1
    assert "note: the base model itself draws the design" in said
    assert "InstantX/SD3-Controlnet-Tile" in said
    shutil.rmtree(job.out)
    assert cli.main(["train", *arguments, f"--designer={folder}"]) == cli.EXIT_OK
    said = capsys.readouterr().err
    assert "note: Stable Diffusion 3 draws the design" in said
    assert "drawing the design 4/4" in said
    assert "truncated" not in said
    assert "Loading weights" not in said
    assert cli.main(["train", *arguments, "--designer=nowhere"]) == cli.EXIT_FAILED
    assert "nowhere" in capsys.readouterr().err


def test_every_setting_of_the_designer_says_what_it_is_for() -> None:
    assert PROFILE.designer is not None
    described = profiles.describe(PROFILE)
    for field in dataclasses.fields(PROFILE.designer):
        assert described[f"designer.{field.name}"]


def _watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whether a transformer of Stable Diffusion 3 that was loaded from now on is still there."""
    really_load, known = networks.load, []

    def load(*arguments: Any) -> Any:
        loaded = really_load(*arguments)
        known.append(weakref.ref(loaded.pipeline.transformer))
        return loaded

    monkeypatch.setattr(networks, "load", load)

    def alive() -> bool:
        assert known
        return any(each() is not None for each in known)

    return alive


def _never(*_: object) -> Generator[Progress, None, None]:
    raise AssertionError("it was drawn again")


def _renamed(style: Path) -> Path:
    """A style's pictures under the names of a pair."""
    shutil.copy(style / "reference.png", style / "embroidery.png")
    return style
