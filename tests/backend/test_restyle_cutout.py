"""Motifs from words without their ground, laid where a mask has room for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from restyling import collect, finish, sewn_pair, tiny_models, tiny_style

from backend.engine import Engine
from backend.errors import InputError
from backend.jobs import GenerateJob
from backend.restyle import composed, text
from backend.restyle.composed import drawn_flat
from backend.restyle.cutout import clear, cut_out, largest_square, square_for

LINEN, RED = np.float32([0.86, 0.84, 0.79]), np.float32([0.8, 0.1, 0.1])


def _disc(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - height / 2 + 0.5, x - width / 2 + 0.5) < radius


def _job(tmp_path: Path, mask: np.ndarray | None = None, **fields: Any) -> GenerateJob:
    if mask is not None:
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
        fields["mask"] = str(tmp_path / "mask.png")
    given = {"style": "s", "prompt": "a ball", "out": str(tmp_path / "o.png"), "ground": "none"}
    return GenerateJob(**(given | fields))


def test_a_rectangle_has_most_room_in_its_middle() -> None:
    square = largest_square(np.ones((80, 200), dtype=bool))
    assert (square.top, square.left, square.side) == (0, 60, 80)


def test_the_largest_square_lies_wholly_in_any_mask() -> None:
    disc = _disc(300, 400, 100.0)
    both = disc | _disc(300, 400, 20.0)
    both[:, 380:] = True  # longer, but narrow
    square = largest_square(both)
    assert square.side == pytest.approx(100 * np.sqrt(2), abs=2)
    rows, columns = (slice(at, at + square.side) for at in (square.top, square.left))
    assert both[rows, columns].all()
    assert largest_square(np.zeros((9, 9), dtype=bool)).side == 0


def test_a_mask_gives_the_picture_its_size(tmp_path: Path) -> None:
    square = square_for(_job(tmp_path, np.ones((90, 120), dtype=bool)))
    assert square is not None
    assert (square.size, square.side) == ((90, 120), 90)
    larger = square_for(_job(tmp_path, np.ones((90, 120), dtype=bool), width=240, height=180))
    assert larger is not None
    assert (larger.size, larger.side) == ((180, 240), 180)
    assert square_for(_job(tmp_path)) is None


@pytest.mark.parametrize(
    ("mask", "fields", "message"),
    [
        (np.ones((90, 90), dtype=bool), {"ground": "cloth"}, "its cloth would fill the picture"),
        (_disc(90, 90, 30.0), {}, "is 4[0-9] pixels wide, too small"),
        (np.zeros((90, 90), dtype=bool), {}, "is 0 pixels wide, too small"),
        (np.ones((90, 90), dtype=bool), {"width": 300}, "stretched to fit"),
    ],
)
def test_a_mask_that_does_not_do_is_refused(
    tmp_path: Path, mask: np.ndarray, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        square_for(_job(tmp_path, mask, **fields))
    assert refused.value.remedy


def test_a_clear_ground_leaves_no_colour_of_itself() -> None:
    inside = _disc(64, 64, 20.0)
    cover = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    rgba = clear(np.where(inside[..., None], RED, LINEN), cover)
    assert np.array_equal(rgba[..., 3], cover)
    assert np.abs(rgba[..., :3] - RED).max() < 1e-6


def test_a_motif_is_cut_out_of_the_cloth_that_it_was_drawn_on() -> None:
    photo, _, mask = sewn_pair()
    rgba = cut_out(np.asarray(photo, np.float32), "a ball")
    found = rgba[..., 3] > 0.5
    assert (found & (mask > 0.5)).sum() / (found | (mask > 0.5)).sum() > 0.9
    assert ((rgba[..., 3] > 0.05) & (rgba[..., 3] < 0.95)).any()
    with pytest.raises(InputError, match='for "a ball" cannot be told from its ground'):
        cut_out(np.full((128, 128, 3), 0.5, np.float32), "a ball")


def test_the_motif_lies_in_the_mask_and_all_else_is_clear(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(*arguments: Any) -> Iterator[Any]:
        job = arguments[2]
        yield from ()
        return np.ones((job.height, job.width, 4), np.float32)  # type: ignore[return-value]

    monkeypatch.setattr(text, "generate", drawn)
    tiny_style(tiny_models(tiny_model)).save(tmp_path / "s")
    mask = _disc(200, 260, 90.0)
    job = _job(tmp_path, mask, style=str(tmp_path / "s"), base=str(tiny_model))
    collect(Engine().run(job))
    alpha = np.asarray(Image.open(job.out))[..., 3] > 0
    assert alpha.shape == mask.shape
    assert alpha.any()
    assert not (alpha & ~mask).any()


@pytest.mark.parametrize("ground", ["cloth", "none"])
def test_what_a_composer_drew_comes_with_and_without_ground(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, ground: str
) -> None:
    picture = np.where(_disc(64, 64, 20.0)[..., None], RED, LINEN).astype(np.float32)

    def compose(*_: Any, **__: Any) -> Iterator[Any]:
        yield None
        return [picture]  # type: ignore[return-value]

    def restyle(*arguments: Any) -> Iterator[Any]:
        yield from ()
        return arguments[2]

    monkeypatch.setattr(composed, "compose", compose)
    monkeypatch.setattr(composed, "restyle", restyle)
    models = tiny_models(tiny_model)
    job = _job(tmp_path, ground=ground, width=200, height=128)

    def made() -> np.ndarray:
        return finish(composed.embroider_words(models, models, tiny_style(models), "a ball", job))

    image = made()
    assert image.shape == (128, 200, 4 if ground == "none" else 3)
    if ground == "none":
        assert image[..., 3].mean() == pytest.approx(np.pi * 40**2 / (128 * 200), rel=0.05)
        assert np.abs(image[image[..., 3] > 0][:, :3] - RED).max() < 0.05  # no linen on its edge
    picture[:] = LINEN
    if ground == "none":
        with pytest.raises(InputError, match="cannot be told from its ground"):
            made()
    else:
        assert np.abs(made() - LINEN).max() < 0.05


def test_crumbs_of_a_bright_rim_are_no_thread_and_a_glint_is() -> None:
    inside = _disc(128, 128, 40.0)
    picture = np.where(inside[..., None], RED, LINEN).astype(np.float32)
    picture[60:68, 104:109] = 1.0  # beside the motif
    picture[50:58, 50:58] = 1.0  # within
    flat, cover = drawn_flat(picture, 512, 512)
    bright = (flat.min(axis=2) > 0.9) & (cover > 0.5)
    assert not bright[:, 400:].any()
    assert bright[200:232, 200:232].mean() > 0.8


def test_a_motif_does_not_part_where_its_colours_meet() -> None:
    picture = np.where(_disc(128, 128, 40.0)[..., None], RED, LINEN).astype(np.float32)
    picture[_disc(128, 128, 20.0)] = LINEN  # what one colour fades through to the other
    picture[_disc(128, 128, 18.5)] = 1.0
    _, cover = drawn_flat(picture, 512, 512)
    assert cover[_disc(512, 512, 150.0)].min() > 0.99
    ring = np.where(_disc(128, 128, 40.0)[..., None], RED, LINEN).astype(np.float32)
    ring[_disc(128, 128, 15.0)] = LINEN  # a hole is one
    assert drawn_flat(ring, 512, 512)[1][256, 256] == 0.0
