"""Stitches by the book repeat from one latent cell to the next."""

from __future__ import annotations

import numpy as np
import pytest

from backend.starter.designs import Design
from backend.starter.samples import recognised
from backend.starter.stitches import HELD_OUT, TRAINING, book_look, render
from backend.starter.stitches.book import BOOK, CELL
from backend.starter.stitches.canvas import Grid, lay_out


def _height(family: str, seed: int) -> Grid:
    labels = np.zeros((192, 192), np.int32)
    canvas = lay_out(labels, 6.0, np.random.default_rng(seed), book=BOOK[family])
    return TRAINING[family](canvas).height


def _alike(first: Grid, second: Grid) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_every_training_family_has_its_page_and_no_other() -> None:
    assert set(BOOK) == set(TRAINING)
    assert not set(BOOK) & set(HELD_OUT)


@pytest.mark.parametrize("family", list(BOOK))
def test_repeats_every_cell_whatever_the_seed(family: str) -> None:
    height = _height(family, 1)
    assert _alike(height[CELL:], height[:-CELL]) > 0.6
    assert _alike(height[:, CELL:], height[:, :-CELL]) > 0.6
    assert _alike(height, _height(family, 2)) > 0.6
    assert float(height.std()) > 0.1


def test_two_families_by_the_book_are_two_pictures() -> None:
    heights = {family: _height(family, 1) for family in BOOK}
    for first in heights:
        for second in heights:
            assert first == second or abs(_alike(heights[first], heights[second])) < 0.8, (
                first,
                second,
            )


def test_by_the_book_the_light_is_always_the_same() -> None:
    design = np.full((64, 64, 3), 0.5, np.float32)
    art = np.ones((64, 64), bool)
    looks = [book_look("tatami", np.random.default_rng(seed)) for seed in (1, 2)]
    pictures = [render(design, art, look).mean(-1) for look in looks]
    assert looks[0].azimuth == looks[1].azimuth
    assert _alike(pictures[0], pictures[1]) > 0.85


def test_by_the_book_the_ground_is_sewn_as_well() -> None:
    design = np.full((96, 96, 3), 0.5, np.float32)
    nothing = np.zeros((96, 96), bool)
    assert render(design, nothing, book_look("satin", np.random.default_rng(1))).std() > 0.05


def test_true_pictures_are_recognised_and_flat_ones_are_all_alike() -> None:
    flat = np.full((128, 128, 3), (0.7, 0.4, 0.3), np.float32)
    design = Design(flat, np.ones((128, 128), bool), "a square", "square")
    true = {
        name: render(flat, design.art, book_look(name, np.random.default_rng(9))) for name in BOOK
    }
    found = recognised(true, design)
    for family in BOOK:
        assert found[family] == family
    grain = np.clip(flat + np.random.default_rng(1).normal(0, 0.1, (128, 128, 1)), 0, 1)
    assert len(set(recognised(dict.fromkeys(BOOK, grain.astype(np.float32)), design).values())) == 1
