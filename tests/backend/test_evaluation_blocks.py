"""The study of choices of style blocks: run whole on the tiny model, kept, judged rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.evaluation.benchmark import making
from backend.evaluation.benchmark.block_study import compared, study, to_text
from backend.evaluation.benchmark.settings import Extent, Settings
from backend.models.profiles import Profile
from backend.progress import outcome

EXTENT = Extent(looks=1, families=1, designs=2, prompts=0, photo=2.0, side=1.0, steps=(1, 0))


def test_a_study_trains_every_choice_once(
    tmp_path: Path, tiny_model: Path, tiny_profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, train = [], making.train_style

    def noting(*values: Any) -> Any:
        trained.append(values[2].blocks)
        return train(*values)

    monkeypatch.setattr(making, "train_style", noting)
    settings = Settings(out=tmp_path / "out", extent=EXTENT, seed=3, base=str(tiny_model))
    report = json.loads(outcome(study(settings, 3, tiny_profile)).read_text())
    choices = report["references"][0]["choices"]
    names = [each["name"] for each in choices]
    assert names == [
        "automatic", "fixed four", "lowest two", "all", "random 1", "random 2", "random 3"
    ]  # fmt: skip
    assert trained == [",".join(each["blocks"]) for each in choices]
    rule = choices[0]["blocks"]
    assert all(len(set(each["blocks"])) == len(rule) for each in choices[4:])
    assert all(len(each["error"]) == 2 and min(each["error"]) > 0.0 for each in choices)
    assert "fixed four" in to_text(report)
    again = json.loads(outcome(study(settings, 3, tiny_profile)).read_text())
    assert again == report
    assert len(trained) == len(choices)


def _reference(**errors: float) -> dict[str, Any]:
    names = {"four": "fixed four", "two": "lowest two"}
    rows = [
        {"name": names.get(name, name.replace("_", " ")), "blocks": [], "error": [value, value]}
        for name, value in errors.items()
    ]
    return {"name": "satin", "title": "satin", "choices": rows}


def test_the_best_random_choice_is_each_references_own() -> None:
    first = _reference(automatic=0.5, four=0.6, two=0.5, all=0.4, random_1=0.5, random_2=0.9)
    second = _reference(automatic=0.5, four=0.7, two=0.5, all=0.4, random_1=0.9, random_2=0.5)
    found = compared([first, second], 1)
    assert found["best random"]["mean"] == pytest.approx(0.0)
    assert found["mean random"]["mean"] == pytest.approx(-0.2)
    assert found["fixed four"]["mean"] == pytest.approx(-0.15)
    assert [name for name, each in found.items() if not each["at_least_as_good"]] == ["all"]
    assert np.isclose(found["all"]["low"], 0.1)
