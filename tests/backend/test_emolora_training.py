"""Training as a whole: the style it leaves, cancelling, resuming, bad input."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.emolora import stage_one
from backend.emolora.training import train
from backend.errors import InputError, ResourceError, StyleError
from backend.jobs import Progress, Result, TrainJob
from backend.models.loading import Models
from backend.models.settings import ATTENTION_BLOCKS
from backend.styles import Style


def _job(photo: Path, out: Path, **fields: object) -> TrainJob:
    values: dict[str, object] = {"steps_one": 5, "steps_two": 3, "seed": 7}
    return TrainJob(reference=str(photo), out=str(out), **{**values, **fields})  # type: ignore[arg-type]


def _run(job: TrainJob, models: Models) -> tuple[list[Progress], Result]:
    progress = []
    steps = train(job, models)
    while True:
        try:
            progress.append(next(steps))
        except StopIteration as end:
            return progress, end.value


def _unet(models: Models) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in models.unet.state_dict().items()}


def test_training_leaves_a_style(tiny_models: Models, photo: Path, tmp_path: Path) -> None:
    before = _unet(tiny_models)
    out = tmp_path / "styles" / "disc"
    progress, result = _run(_job(photo, out, subject="red disc"), tiny_models)
    style = Style.load(out)
    style.check(tiny_models)
    assert result.outputs["style"] == str(out)
    assert style.name == "disc"
    assert style.designed == "flattened"
    assert style.prompts.embroidery == "a red disc in [emb] style"
    assert dict(style.steps) == {"one": 5, "two": 3}
    assert 2 <= len(style.blocks) <= 5
    assert style.plot is not None
    assert style.preview is not None
    assert style.preview.shape == style.design.shape == style.reference.shape
    assert style.thread_width_px == pytest.approx(6.5, rel=0.3)
    assert {"loss_design", "loss_embroidery", "loss_contrastive"} <= set(style.measures)
    assert any(value.abs().max() > 0 for n, value in style.weights.items() if "lora_B" in n)
    # Nothing stays behind, neither on disk nor in the model.
    assert [path.name for path in out.parent.iterdir()] == ["disc"]
    after = _unet(tiny_models)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    stages = list(dict.fromkeys(each.stage for each in progress))
    assert stages == [
        "pair",
        "style blocks",
        "stage one",
        "complementary pairs",
        "stage two",
        "finish",
    ]
    for stage in stages:
        last = [each for each in progress if each.stage == stage][-1]
        assert last.step == last.steps


def test_a_cancelled_training_resumes_to_the_same_weights(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    _run(_job(photo, tmp_path / "whole"), tiny_models)
    whole = Style.load(tmp_path / "whole")
    before = _unet(tiny_models)
    for stop in (("stage one", 3), ("stage one", 5), ("stage two", 3)):
        out = tmp_path / f"{stop[0]} {stop[1]}"
        steps = train(_job(photo, out), tiny_models)
        for progress in steps:
            if (progress.stage, progress.step) == stop:
                break
        steps.close()
        assert not out.exists()
        partial = out.with_name(f"{out.name}.partial")
        assert (partial / "checkpoint.safetensors").is_file()
        assert _unet(tiny_models).keys() == before.keys()
        rest, _ = _run(_job(photo, out), tiny_models)
        assert len([each for each in rest if each.stage == stop[0]]) < 5
        resumed = Style.load(out)
        assert resumed.blocks == whole.blocks
        assert resumed.measures == whole.measures
        for name, value in whole.weights.items():
            assert torch.equal(value, resumed.weights[name]), name
        assert not partial.exists()


def test_complementary_pairs_go_on_after_the_last_batch(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    def steps_in(progress: list[Progress]) -> list[int]:
        return [each.step for each in progress if each.stage == "complementary pairs"]

    whole, _ = _run(_job(photo, tmp_path / "whole"), tiny_models)
    count = len(steps_in(whole))
    out = tmp_path / "cut"
    steps = train(_job(photo, out), tiny_models)
    for progress in steps:
        if (progress.stage, progress.step) == ("complementary pairs", count - 1):
            break
    steps.close()
    rest, _ = _run(_job(photo, out), tiny_models)
    settings = tiny_models.profile.complementary
    # The reference is inverted again; of the candidates, only the last batch is made again.
    assert len(steps_in(rest)) < count - settings.steps + 1
    assert steps_in(rest)[-1] == count
    found, wanted = Style.load(out), Style.load(tmp_path / "whole")
    assert found.measures == wanted.measures
    assert all(torch.equal(value, found.weights[name]) for name, value in wanted.weights.items())


def test_another_job_does_not_go_on_from_it(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    for seed in (7, 8):
        steps = train(_job(photo, out, seed=seed, steps_two=0), tiny_models)
        seen = []
        for progress in steps:
            seen.append((progress.stage, progress.step))
            if progress.stage == "stage one" and progress.step == 4:
                break
        steps.close()
        assert ("stage one", 1) in seen


def test_named_blocks_are_not_measured(tiny_models: Models, photo: Path, tmp_path: Path) -> None:
    job = _job(photo, tmp_path / "s", blocks=ATTENTION_BLOCKS[9], steps_one=1, steps_two=0)
    progress, _ = _run(job, tiny_models)
    assert list(dict.fromkeys(each.stage for each in progress)) == ["pair", "stage one", "finish"]
    style = Style.load(tmp_path / "s")
    assert style.blocks == (ATTENTION_BLOCKS[9],)
    assert style.plot is None


def test_training_learns(
    tiny_models: Models, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(tiny_models.profile.training, rank=8, learning_rate=1e-2)
    tiny_models.profile = replace(tiny_models.profile, training=settings)
    original = stage_one.draw  # always the same chance, so that losses compare
    monkeypatch.setattr(stage_one, "draw", lambda m, p, key: original(m, p, (0,)))
    job = _job(photo, tmp_path / "s", steps_one=25, steps_two=0, blocks=ATTENTION_BLOCKS[9])
    progress, _ = _run(job, tiny_models)
    messages = [each.message for each in progress if each.stage == "stage one"]
    first, last = (float(text.rsplit(" ", 1)[1]) for text in (messages[0], messages[-1]))
    assert last < 0.95 * first


def test_a_file_in_the_way_is_refused_before_work(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("mine")
    with pytest.raises(StyleError, match="not a style"):
        next(train(_job(photo, tmp_path / "s"), tiny_models))
    assert (tmp_path / "s" / "thesis.txt").read_text() == "mine"
    assert not (tmp_path / "s.partial").exists()


def test_wrong_blocks_are_refused_before_work(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="down_blocks.7"):  # noqa: RUF043
        next(train(_job(photo, tmp_path / "s", blocks="down_blocks.7"), tiny_models))
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_named(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"s\.partial"):
        next(train(_job(photo, tmp_path / "file" / "s"), tiny_models))


def test_a_picture_that_is_none_is_named(tiny_models: Models, tmp_path: Path) -> None:
    bad = tmp_path / "photo.jpg"
    bad.write_bytes(os.urandom(64))
    with pytest.raises(InputError, match=r"photo\.jpg"):
        next(train(_job(bad, tmp_path / "s"), tiny_models))
