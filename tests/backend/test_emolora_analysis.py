"""The analysis of a photo: what it leaves, from whatever door, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from restyling import collect

from backend import cli, engine
from backend.emolora.analysis import analyse
from backend.emolora.blocks import judge, passes
from backend.engine import Engine
from backend.errors import InputError
from backend.jobs import AnalyseJob, Result
from backend.models.loading import Models
from backend.models.settings import ATTENTION_BLOCKS


def _data(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(result.outputs["analysis"]).read_text())
    return data


def test_an_analysis_says_what_it_measured_and_why(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    job = AnalyseJob(reference=str(photo), out=str(tmp_path / "new" / "analysis"), seed=3)
    progress, result = collect(analyse(job, tiny_models))
    data, settings = _data(result), tiny_models.profile.blocks
    assert [each["block"] for each in data["blocks"]] == list(ATTENTION_BLOCKS)
    table = np.array([each["similarities"] for each in data["blocks"]])
    assert table.shape == (11, settings.segments)
    assert (np.abs(table) <= 1.0).all()
    judgements = judge(table, ATTENTION_BLOCKS, settings)
    assert [each["why"] for each in data["blocks"]] == [each.why for each in judgements]
    assert data["chosen"] == [each.block for each in judgements if each.style]
    assert data["base"]["hash"] == tiny_models.fingerprint()
    assert {path.name for path in Path(job.out).iterdir()} == {
        "analysis.json",
        "blocks.png",
        "design.png",
        "embroidery.png",
        "mask.png",
        "pair.json",
    }
    with Image.open(result.outputs["plot"]) as plot:
        assert plot.width > 500
    assert result.measures[f"late similarity of {ATTENTION_BLOCKS[0]}"] == judgements[0].late
    for stage, steps in (("pair", 1), ("style blocks", passes(settings))):
        assert [each.step for each in progress if each.stage == stage][-1] == steps
    # The model is as it was: no hook stays, and its profile is the caller's.
    assert not [m for m in tiny_models.unet.modules() if m._forward_hooks]
    assert tiny_models.profile.pair.windows > 1


def test_an_analysis_can_be_cancelled_between_any_two_passes(
    tiny_models: Models, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {"unet": 0, "autoencoder": 0}
    tiny_models.unet.register_forward_pre_hook(lambda *_: work.update(unet=work["unet"] + 1))
    encode = tiny_models.encode_image

    def counting(image: torch.Tensor) -> torch.Tensor:
        work["autoencoder"] += 1
        return encode(image)

    monkeypatch.setattr(Models, "encode_image", lambda _, image: counting(image))
    job = AnalyseJob(reference=str(photo), out=str(tmp_path / "analysis"))
    settings, seen = tiny_models.profile.blocks, []
    for progress in analyse(job, tiny_models):
        seen.append((progress.stage, dict(work)))
        work.update(unet=0, autoencoder=0)
    # One step of ReNoise is its first guess and the iterations on it.
    assert max(done["unet"] for _, done in seen) == 1 + settings.renoise_iterations
    assert max(done["autoencoder"] for _, done in seen) <= 2
    assert sum(done["unet"] for _, done in seen) == settings.steps * (
        2 + settings.renoise_iterations
    )
    assert [stage for stage, _ in seen].count("pair") >= 5


def test_the_same_seed_measures_the_same_and_ddim_otherwise(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    found = []
    for name, inversion in (("a", None), ("b", "renoise"), ("c", "ddim")):
        job = AnalyseJob(reference=str(photo), out=str(tmp_path / name), inversion=inversion)
        found.append(_data(collect(analyse(job, tiny_models))[1]))
    assert found[0] == found[1]
    assert found[2]["settings"]["inversion"] == "ddim"
    assert found[2]["blocks"] != found[0]["blocks"]


@pytest.fixture
def command(photo: Path, tmp_path: Path, tiny_model: Path) -> list[str]:
    return [
        "analyse",
        f"--reference={photo}",
        f"--out={tmp_path / 'analysis'}",
        f"--base={tiny_model}",
    ]


def test_the_command_prints_the_choice_and_may_be_run_again(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        for _ in range(2):
            assert cli.main(command) == 0
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) == 11 + 3
            assert lines[0].startswith("style ")
            assert "standard deviations below" in lines[0]
            assert lines[10].startswith("content ")
            assert f"plot: {tmp_path / 'analysis' / 'blocks.png'}" in lines
    finally:
        engine._engine.release()


def test_other_things_in_the_folder_are_left_alone(
    command: list[str], photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "analysis"
    out.mkdir()
    (out / "design.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="not an analysis"):
        next(Engine().run(AnalyseJob(reference=str(photo), out=str(out))))
    assert (out / "design.png").read_bytes() == b"mine"
    with pytest.raises(InputError, match="a file"):
        next(Engine().run(AnalyseJob(reference=str(photo), out=str(out / "design.png"))))
