"""Our training stages against a plain transcription of the reference procedure."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restyling import collect

from backend import cli
from backend.emolora import stage_one, stage_two
from backend.emolora.adapter import Adapter
from backend.evaluation import bench_training
from backend.evaluation.bench_training import compare, paper_settings
from backend.evaluation.comparison import STAGES, Comparison
from backend.evaluation.plain_training import PlainTraining
from backend.models import loading
from backend.models.loading import Models
from backend.models.products import halve
from backend.models.settings import PAPER_BLOCKS

BLOCKS = PAPER_BLOCKS[1:3]
# At the learning rate of `_compare` the LoRA soon says more than rounding does, in every loss.
EQUAL = 1e-3


def _settings(models: Models, **changes: Any) -> Models:
    """The models under the paper's settings, with a small rank."""
    settings = replace(paper_settings(models), rank=4, **changes)
    return replace(models, profile=replace(models.profile, training=settings))


def _double(models: Models) -> Models:
    parts = {
        name: copy.deepcopy(getattr(models, name)).double()
        for name in ("unet", "vae", "text_encoder", "text_encoder_2")
    }
    return replace(models, dtype=torch.float64, **parts)


def _shaken(models: Models) -> Adapter:
    """An adapter that has learnt something: with fresh ones, half of all gradients are zero."""
    adapter = Adapter(models, BLOCKS, rank=models.profile.training.rank, seed=1)
    generator = torch.Generator().manual_seed(9)
    for parameter in adapter.parameters:
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return adapter


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_has_the_papers_gradients(tiny_models: Models, stage: str) -> None:
    # A weight at which the contrastive loss counts as much as the others.
    models = _settings(tiny_models, contrastive_weight=0.5)
    slow = _double(models)
    adapter = _shaken(models)
    shown = [bench_training._shown(models, subject, 3) for subject in ("heart", "flower")]
    encoded = [bench_training._encoded(models, subject, 3) for subject in ("heart", "flower")]
    start = {name: value.double() for name, value in adapter.state().items()}
    plain = PlainTraining(slow, BLOCKS, models.profile.training, start)
    chance = stage_one.draw(models, encoded[0], (1, 2, 3))
    noise, timestep = chance.noise.double(), chance.timestep
    if stage == "stage one":
        losses = stage_one.accumulate(models, adapter, BLOCKS, encoded[0], chance)
        wanted = plain.step_one(shown[0], noise, timestep)
    else:
        losses = stage_two.accumulate(models, adapter, BLOCKS, *encoded, chance)
        wanted = plain.step_two(*shown, noise, timestep)
    assert losses == pytest.approx(wanted, rel=1e-4)
    assert set(plain.parameters) == set(adapter.state())
    for (name, theirs), ours in zip(
        sorted(plain.parameters.items()),
        [parameter for _, parameter in sorted(adapter._parameters.items())],
    ):
        assert ours.grad is not None
        assert theirs.grad is not None
        size = float(theirs.grad.abs().max())
        assert size > 0.0, name
        # Rounding in float32 reaches 2e-3; a wrong path of the gradient changes it several times.
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=0.0, atol=1e-2 * size)


def _copy(models: Models) -> Models:
    return replace(models, unet=copy.deepcopy(models.unet), vae=copy.deepcopy(models.vae))


def _mixed(models: Models) -> Models:
    made = replace(_copy(models), profile=replace(models.profile, cpu_dtype="mixed"))
    halve(made.unet)
    return made


def _compare(models: Models, steps: int = 2) -> Comparison:
    settings = replace(paper_settings(models), rank=4, learning_rate=3e-3)
    return collect(compare([models], _copy(models), steps, settings))[1][0]


def test_loss_curves_agree_with_the_plain_procedure(tiny_models: Models) -> None:
    before = {name: value.clone() for name, value in tiny_models.unet.state_dict().items()}
    found = _compare(tiny_models, steps=4)
    assert found.agrees
    assert max(found.differences().values()) < EQUAL
    for stage, names in (
        ("stage one", ["design", "embroidery"]),
        ("stage two", ["design", "embroidery", "contrastive"]),
    ):
        for side in (found.reference, found.ours):
            assert list(side.losses[stage]) == names
            assert all(len(set(values)) == 6 for values in side.losses[stage].values())
            assert len(side.seconds[stage]) == 4
            assert side.peak(stage) > side.working[stage] > 0
    # The stages learn, so agreement is not that of two runs standing still.
    after = tiny_models.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found.memory() > 0.0
    assert "loss curves agree" in found.to_text()


def test_with_halved_weights_losses_agree_as_bfloat16_rounds(
    tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "has_bfloat16", lambda: True)
    models, settings = _mixed(tiny_models), replace(paper_settings(tiny_models), rank=4)
    both = [models, _copy(tiny_models)]
    mixed, level = collect(compare(both, _copy(tiny_models), 1, settings))[1]
    # In a model that has learnt nothing the contrastive loss hangs on less than bfloat16 rounds.
    apart, allowed = mixed.differences(), mixed.tolerances()
    assert all(apart[name] <= allowed[name] <= 0.05 for name in ("design", "embroidery"))
    assert level.agrees
    assert level.ours.held > mixed.ours.held
    assert mixed.differences()["design"] > level.differences()["design"]
    assert "bfloat16 for frozen weights" in mixed.to_text()
    again = collect(compare([_mixed(tiny_models)], _copy(tiny_models), 1, settings))[1][0]
    assert again.ours.losses == mixed.ours.losses


def _unrouted(models: Models, blocks: Sequence[str], hidden: torch.Tensor) -> Any:
    return nullcontext()


def _from_all(adapter: Adapter, rows: int) -> Any:
    return nullcontext()


@pytest.mark.parametrize("fault", ["no routing", "embroidery into all", "another generated weight"])
def test_a_fault_in_a_stage_is_seen(
    tiny_models: Models, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "no routing":
        monkeypatch.setattr(stage_one, "routed", _unrouted)
    elif fault == "embroidery into all":
        monkeypatch.setattr(Adapter, "content_learns_from", _from_all)
    else:
        original = stage_two.learn
        monkeypatch.setattr(stage_two, "learn", lambda *given: original(*given[:5], 1.0))
    assert max(_compare(tiny_models).differences().values()) > EQUAL


def test_all_sides_begin_with_what_was_taught(tiny_models: Models) -> None:
    settings = replace(paper_settings(tiny_models), rank=4)
    losses = []
    for taught in (0, 3):
        run = compare([tiny_models], _copy(tiny_models), 1, settings, taught=taught)
        found = collect(run)[1][0]
        assert found.agrees
        losses.append(found.ours.losses["stage one"]["embroidery"][0])
    assert losses[1] != losses[0]


def test_curves_may_part_as_far_as_the_reference_does_by_rounding(tiny_models: Models) -> None:
    found = _compare(tiny_models)
    second = found.reference.echo["stage two"]
    drift = second["contrastive"]
    assert drift != found.reference.losses["stage two"]["contrastive"]
    assert all(value >= 1e-3 for value in found.tolerances().values())
    far = {"stage two": {**second, "contrastive": [1.5 * each for each in drift]}}
    apart = replace(found.reference, echo={**found.reference.echo, **far})
    parted = replace(found, reference=apart)
    assert parted.tolerances()["contrastive"] > 0.5
    assert found.agrees


def test_the_command_prints_ratios(
    tiny_model: Path, tiny_models: Models, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(bench_training, "load", lambda profile, base: _copy(tiny_models))
    monkeypatch.setattr(bench_training, "_TAUGHT", 1)
    arguments = ["bench", "train", "--base", str(tiny_model), "--steps", "1"]
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    for words in ("stage one, s a step", "stage two, peak", "400 + 200 steps", "agree"):
        assert words in text
    assert cli.main([*arguments, "--json"]) == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert set(data["speed"]) == {*STAGES, "whole"}
    assert len(data["ours"]["losses"]["stage two"]["contrastive"]) == 3
    monkeypatch.setattr(
        Comparison,
        "tolerances",
        lambda found: dict.fromkeys(found.differences(), 0.0),
    )
    assert cli.main(arguments) == 1
    assert "DIFFER" in capsys.readouterr().out
