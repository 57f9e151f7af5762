"""The benchmark of all kinds of work, run to its end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from restyling import collect

from backend import cli
from backend.errors import ProfileError
from backend.evaluation import bench as benches
from backend.evaluation import bench_restyling
from backend.evaluation.cost import Cost, matrix_rate, measured, operations
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


def test_restyling_is_timed_beside_diffusers_and_its_networks_alone(
    tiny_model: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "restyle", f"--base={tiny_model}", "--steps=4", "--sizes", "96"]
    assert cli.main([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["side"] == 96
    for name in ("ours", "usual", "plain"):
        assert row[name]["seconds"] > 0.0
    for name in ("ours", "usual"):
        assert 0.0 < row[name]["networks"] < row[name]["seconds"]
    inference = profiles.get("starter").inference
    assert row["passes"] == 3
    assert row["usual_passes"] == 2 * int(inference.preview_steps * inference.preview_strength)
    assert row["usual_floor"] / row["floor"] == pytest.approx(row["usual_passes"] / 3)


def test_a_large_picture_is_not_given_to_diffusers(
    tiny_model: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_restyling, "PLAIN_MOST", 64)
    _, found = collect(bench_restyling.bench_restyling("starter", [72], 1, str(tiny_model)))
    assert found[0].plain is None
    text = bench_restyling.to_text(found)
    assert "72 × 72" in text
    assert "left out" in text
    assert "from 72" not in text


def test_growth_is_told_from_the_smallest_to_the_largest_picture() -> None:
    def of(side: int, seconds: float, memory: float | None) -> bench_restyling.Restyled:
        cost = Cost(seconds=seconds, networks=seconds / 2, memory=memory)
        return bench_restyling.Restyled(
            side=side,
            passes=1,
            floor=1.0,
            ours=cost,
            plain=None,
            usual_passes=1,
            usual_floor=1.0,
            usual=replace(cost, memory=None),
        )

    rows = bench_restyling._growth([of(200, 9.0, 5e5), of(100, 2.0, 2e5)])
    assert rows[0] == "from 100 to 200 px, 4.0 times:"
    assert "1.12 times the time" in rows[1]
    assert "10 bytes" in rows[1]
    assert "bytes" not in rows[2]


def test_time_in_networks_and_memory_are_those_of_the_work_alone() -> None:
    device = torch.device("cpu")
    layer = torch.nn.Linear(4, 4)
    kept = np.ones(2**22, np.uint8)
    with measured(device, [layer]) as cost:
        layer(torch.zeros(1, 4))
        held = np.ones(2**26, np.uint8)
        del held
    assert 0.0 < cost.networks < cost.seconds
    assert cost.memory is None or 0.9 * 2**26 < cost.memory < 2**27
    both = torch.nn.Sequential(layer)
    with measured(device, [both, layer]) as nested:
        both(torch.zeros(1, 4))
    assert 0.0 < nested.networks < nested.seconds
    with measured(device) as nothing:
        layer(torch.zeros(1, 4))
    assert nothing.networks == 0.0
    assert nothing.memory is None or nothing.memory < 2**24
    assert kept.all()


def test_operations_are_counted_with_attention() -> None:
    query = torch.zeros(1, 2, 8, 4)
    # Twice a product of (8, 4) and (4, 8), in two heads; a product and a sum each.
    attention = torch.nn.functional.scaled_dot_product_attention
    assert operations(lambda: attention(query, query, query)) == 2 * 2 * 2 * 8 * 8 * 4
    assert matrix_rate(torch.device("cpu"), torch.float32, side=64) > 1e6


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
