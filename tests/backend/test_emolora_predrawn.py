"""Designs drawn by Stable Diffusion 3: their place in trainings and analyses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import CPU, PROFILE, found_in, picture, watched
from restyling import collect
from tiny_sd3 import with_profile

from backend import cli
from backend.emolora import complementary, designs
from backend.emolora.adapter import Adapter
from backend.emolora.encoded import encode
from backend.emolora.pair import Pair, pair_drawn
from backend.emolora.sd3 import drawing_passes
from backend.engine import Engine
from backend.errors import InputError, ProfileError
from backend.jobs import NOTE, AnalyseJob, Progress, TrainJob
from backend.models import designer as designer_places
from backend.models import loading, profiles
from backend.models import sd3 as networks
from backend.models.settings import PAPER_BLOCKS
from backend.progress import outcome
from backend.styles import Style


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(designer_places, "_cached", lambda name, file: None)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, photo: Path, tiny_sdxl: Path, tmp_path: Path) -> TrainJob:
    """A short training for profile sdxl, which is tiny here."""
    monkeypatch.setattr(profiles, "get", with_profile(PROFILE))
    return TrainJob(
        reference=str(photo),
        out=str(tmp_path / "style"),
        profile="sdxl",
        base=str(tiny_sdxl),
        steps_one=1,
        steps_two=0,
        offline=True,
    )


def test_training_draws_before_the_base_model_is_loaded(
    job: TrainJob, tiny_sd3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, really_load = watched(monkeypatch), loading.load
    seen: list[bool] = []

    def load(*arguments: Any, **options: Any) -> Any:
        seen.append(alive())
        return really_load(*arguments, **options)

    monkeypatch.setattr(loading, "load", load)
    progress, result = collect(Engine().run(replace(job, designer=str(tiny_sd3))))
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


def test_a_training_goes_on_without_drawing_again(
    job: TrainJob, tiny_sd3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, designer=str(tiny_sd3), steps_one=2)
    steps = Engine().run(job)
    for progress in steps:
        if progress.stage == "stage one":
            break
    steps.close()
    kept = Pair.load(Path(f"{job.out}.partial"))
    monkeypatch.setattr(networks, "load", _never)
    collect(Engine().run(job))
    style = Style.load(job.out)
    assert np.array_equal(style.design, kept.design)
    assert style.designed == kept.designed == "designer"
    # Another photo is another pair.
    with pytest.raises(AssertionError):
        collect(Engine().run(replace(job, seed=7)))


@pytest.mark.parametrize("given", [True, False])
def test_an_analysis_has_its_design_drawn_unless_that_is_given(
    job: TrainJob, tiny_sd3: Path, photo: Path, given: bool
) -> None:
    asked = AnalyseJob(
        reference=job.reference,
        design=str(photo) if given else None,
        out=job.out,
        profile="sdxl",
        base=job.base,
        designer=str(tiny_sd3),
    )
    progress, _ = collect(Engine().run(asked))
    assert (NOTE in {each.stage for each in progress}) == (not given)
    draw = designs.by_designer(found_in(tiny_sd3), PROFILE, CPU, None, asked.seed)
    drawn: Pair = outcome(pair_drawn(PROFILE, str(photo), draw, seed=asked.seed))
    same = np.array_equal(Pair.load(Path(job.out)).design, drawn.design)
    assert same == (not given)
    data = json.loads((Path(job.out) / "analysis.json").read_text())
    assert data["designed"] == ("given" if given else "designer")


def test_complementary_designs_are_drawn_while_the_base_model_waits(
    tiny_sdxl: Path, tiny_sd3: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = loading.load(PROFILE, base=str(tiny_sdxl), device="cpu")
    models.designer = found_in(tiny_sd3)
    really_load = networks.load
    present: list[set[str]] = []

    def load(*arguments: Any) -> Any:
        present.append(set(models.residence.present))
        return really_load(*arguments)

    monkeypatch.setattr(networks, "load", load)
    made = designs.eight_bit(picture(64, 64))
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
def test_what_a_folder_lacks_is_named(job: TrainJob, tiny_sd3: Path, part: str, named: str) -> None:
    place = Path(shutil.copytree(tiny_sd3, Path(job.out).with_name("sd3")))
    shutil.rmtree(place / part)
    with pytest.raises(ProfileError, match=rf"sd3: .*not complete: {named} ") as caught:
        collect(Engine().run(replace(job, designer=str(place))))
    assert "--designer" in caught.value.remedy


def test_a_folder_is_for_profiles_that_have_a_designer(job: TrainJob, tiny_sd3: Path) -> None:
    asked = replace(job, profile="starter", designer=str(tiny_sd3))
    with pytest.raises(InputError, match="profile starter"):
        collect(Engine().run(asked))


def test_the_command_line_says_who_draws(
    job: TrainJob,
    tiny_sd3: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In this very process, whose profiles are changed.
    monkeypatch.setattr("backend.service.client.run", Engine().run)
    fields = ("reference", "out", "profile", "base", "steps_one", "steps_two")
    arguments = [f"--{name.replace('_', '-')}={getattr(job, name)}" for name in fields]
    assert cli.main(["train", *arguments, "--offline"]) == cli.EXIT_OK
    said = capsys.readouterr().err
    assert said.count("note: ") == 1
    assert "note: the base model itself draws the design" in said
    assert "InstantX/SD3-Controlnet-Tile" in said
    shutil.rmtree(job.out)
    assert cli.main(["train", *arguments, f"--designer={tiny_sd3}"]) == cli.EXIT_OK
    said = capsys.readouterr().err
    assert "note: Stable Diffusion 3 draws the design" in said
    assert "drawing the design 4/4" in said
    assert "truncated" not in said
    assert "Loading weights" not in said
    assert cli.main(["train", *arguments, "--designer=nowhere"]) == cli.EXIT_FAILED
    assert "nowhere" in capsys.readouterr().err


def _never(*_: object) -> Generator[Progress, None, None]:
    raise AssertionError("it was drawn again")
