"""The contact sheet of a batch: a row a style, a column an input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from batching import Engine, do
from manifests import fill, listed

from backend.batch.sheet import write_sheet
from backend.errors import InputError
from backend.imaging.files import read_rgba, write_png

CLOTH = np.array([0.92, 0.91, 0.88])


def _record(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    """A batch's results: input, style and state of each row; pictures are of one colour each."""
    listed_rows = []
    for number, (source, style, state) in enumerate(rows):
        picture = f"{number}.png"
        write_png(folder / picture, np.full((40, 80, 3), 0.1 * (number + 1), np.float32))
        listed_rows.append({"input": source, "style": style, "state": state, "picture": picture})
    (folder / "results.json").write_text(json.dumps({"rows": listed_rows}))


def test_pictures_lie_by_style_and_input_and_gaps_stay_empty(tmp_path: Path) -> None:
    rows = [
        ("a", "s", "done"),
        ("b", "s", "failed"),
        ("a", "t", "already there"),
        ("b", "t", "done"),
    ]
    _record(tmp_path, rows)
    write_sheet(tmp_path, tmp_path / "sheet.png", side=100, sources=False)
    sheet = read_rgba(tmp_path / "sheet.png")[..., :3]
    assert sheet.shape == (203, 203, 3)
    middles = {(y, x): sheet[50 + 103 * y, 50 + 103 * x] for y in (0, 1) for x in (0, 1)}
    for spot, wanted in {(0, 0): 0.1, (1, 0): 0.3, (1, 1): 0.4}.items():
        assert np.allclose(middles[spot], wanted, atol=0.01)
    assert np.allclose(middles[0, 1], CLOTH, atol=0.01)
    assert np.allclose(sheet[10, 50], CLOTH, atol=0.01)  # wide pictures stand in the middle
    assert np.allclose(sheet[50, 101], 1.0)


def test_a_batch_has_its_artwork_on_top_and_photos_at_the_left(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    manifest = listed(folder, {"inputs": ["bird.png"], "styles": ["photo.png"]})
    do(manifest, folder / "out", Engine())
    write_sheet(folder / "out", folder / "sheet.png", side=64)
    sheet = read_rgba(folder / "sheet.png")[..., :3]
    assert sheet.shape == (130, 130, 3)
    assert np.allclose(sheet[:64, :64], CLOTH, atol=0.01)
    for corner in (np.s_[:64, 66:], np.s_[66:, :64], np.s_[66:, 66:]):
        assert np.abs(sheet[corner] - CLOTH).max() > 0.3


def test_prompts_have_their_words_on_top(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    prompts = ["a red heart", "a heart in a very long red dress with stars and flowers " * 9]
    data = {"inputs": ["bird.png"], "prompts": prompts, "styles": ["satin"]}
    do(listed(folder, data), folder / "out", Engine())
    write_sheet(folder / "out", folder / "sheet.png", side=160)
    sheet = read_rgba(folder / "sheet.png")[..., :3]
    assert sheet.shape == (325, 655, 3)
    inks = []
    for column in (2, 3):
        words, picture = (sheet[top : top + 160, 165 * column :][:, :160] for top in (0, 165))
        inks.append(words.min(axis=2) < 0.3)
        assert not inks[-1][:3].any()  # however many words, they stay inside
        assert not inks[-1][-3:].any()
        assert np.allclose(words[:3], CLOTH, atol=0.01)
        assert np.allclose(picture[:, 80], 42 / 255, atol=0.01)  # what the engine made of its seed
    assert 100 < inks[0].sum() < inks[1].sum()
    rows = np.flatnonzero(inks[0].any(axis=1))
    assert abs((rows[0] + rows[-1]) / 2 - 80) < 10  # in the middle


def test_nothing_made_is_said(tmp_path: Path) -> None:
    _record(tmp_path, [("a", "s", "failed")])
    with pytest.raises(InputError, match="no picture"):
        write_sheet(tmp_path, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
