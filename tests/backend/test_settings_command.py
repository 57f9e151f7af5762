"""The settings as a user reads them: all of them, with values and meanings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend import cli


def test_every_setting_is_printed_with_its_value_and_meaning(capsys: Any) -> None:
    assert cli.main(["settings", "--profile", "sdxl", "--json"]) == 0
    rows = {each["setting"]: each for each in json.loads(capsys.readouterr().out)}
    assert rows["flat.canny_scale"]["value"] == 0.5
    assert rows["inference.canny_high"]["value"] == 100
    assert rows["training.contrastive_weight"]["meaning"] == "weight of the contrastive loss"
    assert rows["relief.strength"]["value"] == 0.85
    assert all(each["meaning"] for each in rows.values())
    assert "flat" not in rows  # its own settings tell
    assert cli.main(["settings"]) == 0
    text = capsys.readouterr().out
    assert "training.rank = 16\n    LoRA rank\n" in text


def test_an_unknown_profile_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "--profile", "sd3"]) == 1
    assert "starter, sdxl" in capsys.readouterr().err
