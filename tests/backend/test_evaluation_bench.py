"""The benchmark of all kinds of work, run to its end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from restyling import collect

from backend import cli
from backend.errors import ProfileError
from backend.evaluation import bench as benches
from backend.models import profiles
from backend.models.profiles import Profile


@pytest.fixture
def temporary(tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the benchmark puts its files; the starter is the tiny profile here."""
    monkeypatch.setitem(profiles._PROFILES, "starter", tiny_profile)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_every_kind_of_work_is_timed_and_nothing_is_left(
    tiny_model: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", f"--base={tiny_model}", "--steps=1", "--sizes", "64", "--json"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [(row["work"], row["unit"]) for row in rows] == [
        ("training", "a stage-one step"),
        ("loading", "the models"),
        ("preview", "64 × 64 px"),
        ("restyle", "64 × 64 px"),
    ]
    assert all(row["seconds"] > 0.0 for row in rows)
    assert "stage one" in captured.err
    assert list(temporary.iterdir()) == []


def test_restyling_is_timed_beside_the_plain_way(
    tiny_model: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "restyle", f"--base={tiny_model}", "--steps=2", "--sizes", "96", "--json"]
    assert cli.main(arguments) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["side"] == 96
    assert min(row["plain"], row["ours"], row["faster"]) > 0.0
    # In float32 both do the same arithmetic, in another order.
    assert row["psnr"] > 60.0
    assert row["same"]


def test_a_cancelled_benchmark_leaves_nothing(tiny_model: Path, temporary: Path) -> None:
    steps = benches.bench("starter", [64], 5, str(tiny_model))
    while next(steps).stage != "stage one":
        pass
    steps.close()
    assert list(temporary.iterdir()) == []


def test_a_missing_base_is_said(temporary: Path) -> None:
    with pytest.raises(ProfileError):
        collect(benches.bench("starter", [64], 1, str(temporary / "none")))
    assert list(temporary.iterdir()) == []


def test_the_table_names_the_machine_and_every_row() -> None:
    timings = [benches.Timing(work="restyle", unit="256 × 256 px", seconds=1.234)]
    machine, row = benches.to_text(timings).splitlines()
    assert machine.strip()
    assert row.split() == ["restyle", "256", "×", "256", "px", "1.23", "s"]


def test_the_drawn_pictures_are_what_the_work_needs() -> None:
    reference, art = benches._reference(), benches.artwork(64)
    assert reference.shape == (384, 384, 3)
    assert art.shape == (64, 64, 3)
    for picture in (reference, art):
        assert picture.dtype == np.float32
        assert 0.0 <= picture.min() < picture.max() <= 1.0
