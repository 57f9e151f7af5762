"""Style folders: what goes in comes out, and what is wrong with one is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.errors import ResourceError, StyleError
from backend.models.loading import Models
from backend.styles import WEIGHTS, BaseModel, Prompts, Style, is_style


@pytest.fixture
def style(tiny_models: Models) -> Style:
    rng = np.random.default_rng(0)

    def picture(*shape: int) -> np.ndarray:
        return (rng.integers(0, 256, shape) / 255.0).astype(np.float32)

    return Style(
        name="roses",
        created="2026-01-01T00:00:00+00:00",
        profile="starter",
        base=BaseModel("starter", tiny_models.fingerprint()),
        blocks=("mid_block.attentions.0",),
        prompts=Prompts("a rose", "a rose in [emb] style", "", "in [emb] style"),
        steps={"one": 3, "two": 2},
        seed=1,
        rank=4,
        kind="flat",
        thread_width_px=6.5,
        licence_note="note",
        weights={"unet.a.lora_A.weight": torch.randn(4, 8)},
        reference=picture(16, 24, 3),
        design=picture(16, 24, 3),
        mask=np.ones((16, 24), dtype=np.float32),
        preview=picture(16, 24, 3),
        measures={"loss": 0.5},
        seconds={"stage one": 2.0},
        versions={"torch": "2"},
    )


def test_a_style_comes_back_as_it_was(style: Style, tmp_path: Path) -> None:
    style.save(tmp_path / "roses")
    read = Style.load(tmp_path / "roses")
    for name in (
        "name",
        "task",
        "blocks",
        "prompts",
        "steps",
        "base",
        "thread_width_px",
        "measures",
    ):
        assert getattr(read, name) == getattr(style, name), name
    for name in ("reference", "design", "mask", "preview"):
        assert np.allclose(getattr(read, name), getattr(style, name), atol=1e-6), name
    assert read.plot is None
    assert torch.equal(read.weights["unet.a.lora_A.weight"], style.weights["unet.a.lora_A.weight"])
    assert is_style(tmp_path / "roses")
    assert [path.name for path in tmp_path.iterdir()] == ["roses"]
    data = json.loads((tmp_path / "roses" / "style.json").read_text())
    assert data["schema"] == 3
    assert data["blocks"] == ["mid_block.attentions.0"]


def test_an_older_style_is_of_embroidery(style: Style, tmp_path: Path) -> None:
    style.save(tmp_path / "roses")
    path = tmp_path / "roses" / "style.json"
    data = json.loads(path.read_text())
    assert data.pop("task") == "embroidery"
    path.write_text(json.dumps({**data, "schema": 1}))
    assert Style.load(tmp_path / "roses").task == "embroidery"
    assert Style.load(tmp_path / "roses").designed == "unknown"
    path.write_text(json.dumps({**data, "schema": 2}))  # since then every style says it
    with pytest.raises(StyleError, match="missing or unknown"):
        Style.load(tmp_path / "roses")
    del data["designed"]
    path.write_text(json.dumps({**data, "task": "painting", "schema": 2}))
    assert Style.load(tmp_path / "roses").designed == "unknown"
    path.write_text(json.dumps({**data, "task": "painting", "schema": 3}))  # nor this, since 3
    with pytest.raises(StyleError, match="missing or unknown"):
        Style.load(tmp_path / "roses")
    replace(style, task="sketch", designed="lines").save(tmp_path / "roses")
    read = Style.load(tmp_path / "roses")
    assert (read.task, read.designed) == ("sketch", "lines")


def test_saving_again_replaces_the_whole_style(style: Style, tmp_path: Path) -> None:
    style.save(tmp_path / "roses")
    replace(style, preview=None, seed=2).save(tmp_path / "roses")
    read = Style.load(tmp_path / "roses")
    assert read.seed == 2
    assert read.preview is None
    assert [path.name for path in tmp_path.iterdir()] == ["roses"]


def test_other_folders_and_files_are_left_alone(style: Style, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("photos", "file"):
        with pytest.raises(StyleError, match="not a style"):
            style.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jpg", "file", "photos"]


def test_an_unwritable_place_is_named(style: Style, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ResourceError, match="cannot be written"):
        style.save(tmp_path / "file" / "roses")


def test_missing_folders_and_other_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StyleError, match="no such style folder"):
        Style.load(tmp_path / "none")
    with pytest.raises(StyleError, match="not a style"):
        Style.load(tmp_path)


def _spoil(folder: Path, what: str) -> None:
    path = folder / "style.json"
    data = json.loads(path.read_text())
    if what == "schema":
        data["schema"] = 4
    elif what == "field":
        del data["prompts"]
    elif what == "task":
        data["task"] = "knitting"
    elif what == "designed":
        data["designed"] = ["by", "me"]
    elif what == "surplus":
        data["surprise"] = 1
    elif what == "list":
        data = []
    path.write_text(json.dumps(data))
    if what == "json":
        path.write_text("{")
    elif what == "weights":
        (folder / WEIGHTS).write_bytes(b"PK\x03\x04 not safetensors")
    elif what == "no weights":
        (folder / WEIGHTS).unlink()
    elif what == "picture":
        (folder / "mask.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("schema", "schema 4"),
        ("field", "missing or unknown"),
        ("surplus", "missing or unknown"),
        ("task", "task cannot be"),
        ("designed", "designed cannot be"),
        ("list", "not a style's description"),
        ("json", "cannot be read"),
        ("weights", "weights are damaged"),
        ("no weights", "weights are missing"),
        ("picture", "damaged"),
    ],
)
def test_damage_is_named(style: Style, tmp_path: Path, what: str, message: str) -> None:
    style.save(tmp_path / "roses")
    _spoil(tmp_path / "roses", what)
    with pytest.raises(StyleError, match=message) as caught:
        Style.load(tmp_path / "roses")
    assert str(tmp_path / "roses") in caught.value.message
    assert caught.value.remedy


def test_a_style_of_other_models_is_refused(style: Style, tiny_models: Models) -> None:
    style.check(tiny_models)
    with pytest.raises(StyleError, match="belongs to profile sdxl"):
        replace(style, profile="sdxl").check(tiny_models)
    with pytest.raises(StyleError, match="other weights"):
        replace(style, base=BaseModel("starter", "0" * 16)).check(tiny_models)
