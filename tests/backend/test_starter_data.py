"""The training stream: what is held out never enters, captions say what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backend.errors import InputError
from backend.imaging.files import read_rgba
from backend.starter.data import TRIGGER, Corpus, make_corpus, stream
from backend.starter.designs import Icon, draw_design, is_held_out, load_icons
from backend.starter.diffusion import caption
from backend.starter.drawn import KINDS
from backend.starter.stitches import HELD_OUT, TRAINING
from backend.starter.unseen import write_unseen

NAMES = [f"{colour}-{thing}" for colour in ("red", "blue", "green") for thing in
         ("apple", "car", "dog", "boat", "star", "leaf", "cup", "hat", "fish", "bell")]  # fmt: skip


@pytest.fixture(scope="module")
def icons(tmp_path_factory: pytest.TempPathFactory) -> list[Icon]:
    pytest.importorskip("resvg_py")
    body = '<circle cx="16" cy="16" r="12" fill="#c22"/><path d="M8 8h8v8z" fill="#2c2"/>'
    entries = {name: {"body": body} for name in [*NAMES, "man-running", "flag-ch", "ok-button"]}
    path = tmp_path_factory.mktemp("icons") / "icons.json"
    path.write_text(json.dumps({"icons": entries, "width": 32, "height": 32}))
    return load_icons([path])


def test_people_flags_and_letters_are_left_out(icons: list[Icon]) -> None:
    assert sorted(icon.name for icon in icons) == sorted(NAMES)


def test_about_a_tenth_is_held_out() -> None:
    held = sum(is_held_out(f"icon-{n}") for n in range(2000))
    assert 150 < held < 260


def test_held_out_icons_and_families_never_enter_training(icons: list[Icon]) -> None:
    held = {icon.name for icon in icons if is_held_out(icon.name)}
    assert held
    training = [s for _, s in zip(range(120), stream(icons, 0, size=64))]
    assert {s.family for s in training} <= set(TRAINING)
    assert not {s.design for s in training} & held
    assert {s.design for s in training} & set(KINDS)
    unseen = [s for _, s in zip(range(12), stream(icons, 0, size=64, held_out=True))]
    assert {s.family for s in unseen} <= set(HELD_OUT)
    assert {s.design for s in unseen} <= held


def test_stream_depends_on_seed_and_number_alone(icons: list[Icon]) -> None:
    first = [s for _, s in zip(range(6), stream(icons, 3, size=64))]
    later = next(stream(icons, 3, size=64, start=5))
    np.testing.assert_array_equal(first[5].textile, later.textile)
    assert first[5].textile_caption == later.textile_caption
    assert not np.array_equal(first[5].flat, next(stream(icons, 4, size=64, start=5)).flat)


def test_captions_name_the_textile_or_carry_the_trigger(icons: list[Icon]) -> None:
    samples = [s for _, s in zip(range(80), stream(icons, 1, size=64))]
    named = [s for s in samples if s.family in s.textile_caption]
    unnamed = [s for s in samples if s.textile_caption.endswith(TRIGGER)]
    assert len(named) + len(unnamed) == 80
    assert 15 < len(unnamed) < 45
    assert all(s.flat_caption.endswith(", flat design") for s in samples)


def test_training_captions_drop_words_and_subjects() -> None:
    note = {"flat": "a red apple, flat design", "textile": "a red apple, satin embroidery"}
    rng = np.random.default_rng(0)
    textiles = {caption(note, False, rng) for _ in range(200)}
    assert textiles == {
        "", "a red apple, satin embroidery", "a motif, satin embroidery",
        f"a red apple {TRIGGER}", f"a motif {TRIGGER}",
    }  # fmt: skip
    flats = {caption(note, True, rng) for _ in range(200)}
    assert not any("embroidery" in text or TRIGGER in text for text in flats)


def test_drawings_have_art_and_ground() -> None:
    rng = np.random.default_rng(0)
    shares = [draw_design(64, rng).art.mean() for _ in range(40)]
    assert np.mean([0.02 < share < 0.98 for share in shares]) > 0.8


def test_corpus_is_written_once_and_read_back(icons: list[Icon], tmp_path: Path) -> None:
    assert list(make_corpus(icons, tmp_path, 3, 0, size=64)) == [1, 2, 3]
    corpus = Corpus.load(tmp_path)
    expected = next(stream(icons, 0, size=64))
    np.testing.assert_array_equal(corpus.textiles[0], expected.textile)
    assert corpus.notes[0]["flat"] == expected.flat_caption
    assert list(make_corpus(icons, tmp_path, 3, 0, size=64)) == [3]


def test_what_is_no_icon_set_is_said(tmp_path: Path) -> None:
    path = tmp_path / "icons.json"
    path.write_text("[]")
    with pytest.raises(InputError, match="no Iconify icon set"):
        load_icons([path])


def test_unseen_photos_and_artwork_are_a_batch_of_what_is_held_out(
    icons: list[Icon], tmp_path: Path
) -> None:
    manifest = json.loads(write_unseen(icons, tmp_path / "unseen", 2, seed=1).read_text())
    assert len(manifest["styles"]) == len(HELD_OUT)
    assert manifest["inputs"] == ["art_1.png", "art_2.png"]
    photos = [read_rgba(tmp_path / "unseen" / each) for each in manifest["styles"]]
    assert all(photo.shape == (640, 640, 4) and photo[..., 3].all() for photo in photos)
    art = read_rgba(tmp_path / "unseen" / "art_1.png")
    assert 0.0 < art[..., 3].mean() < 1.0
