"""Flat designs without a model, and finding the motif in a photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from restyling import sewn_pair

from backend.imaging.colour import delta_e, rgb_to_lab
from backend.imaging.flatten import flatten
from backend.imaging.locate import locate_motif


def test_flat_design_has_few_colours_and_no_thread() -> None:
    photo, _, mask = sewn_pair()
    flat = flatten(photo, mask)
    inside = mask > 0.5
    steps = np.abs(np.diff(rgb_to_lab(flat)[..., 0], axis=1))
    assert np.mean(steps[inside[:, 1:]] > 1.0) < 0.05
    assert np.mean(np.abs(np.diff(rgb_to_lab(photo)[..., 0], axis=1))[inside[:, 1:]] > 1.0) > 0.5
    assert len(np.unique(np.round(flat[inside] * 16), axis=0)) < 40


def test_flat_design_keeps_shapes_and_mean_colours() -> None:
    photo, design, mask = sewn_pair()
    flat = flatten(photo, mask)
    for colour in ((0.75, 0.15, 0.15), (0.15, 0.3, 0.7)):
        here = np.all(np.abs(design - np.array(colour)) < 1e-6, axis=-1)
        mean = rgb_to_lab(photo[here].mean(0)[None, None])[0, 0]
        assert np.median(delta_e(rgb_to_lab(flat)[here], mean)) < 6.0


def test_flat_design_is_the_same_every_time() -> None:
    photo, _, mask = sewn_pair()
    assert np.array_equal(flatten(photo, mask, seed=5), flatten(photo, mask, seed=5))


def test_motif_is_found_on_cloth_in_uneven_light() -> None:
    photo, _, mask = sewn_pair()
    wide = np.pad(photo, ((60, 40), (80, 50), (0, 0)), mode="edge")
    truth = np.pad(mask, ((60, 40), (80, 50))) > 0.5
    light = np.linspace(1.1, 0.7, wide.shape[1])[None, :, None]
    grain = np.random.default_rng(0).normal(0, 0.02, wide.shape)
    (x0, y0, x1, y1), found = locate_motif(np.clip(wide * light + grain, 0, 1).astype(np.float32))
    overlap = (truth & (found > 0.5)).sum() / (truth | (found > 0.5)).sum()
    assert overlap > 0.85
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    assert x0 <= columns[0] + 3
    assert y0 <= rows[0] + 3
    assert x1 >= columns[-1] - 3
    assert y1 >= rows[-1] - 3
    assert (x1 - x0) * (y1 - y0) < 0.75 * found.size


SIDE = 360


def _cloth(colour: tuple[float, float, float], grain: float, seed: int = 0) -> NDArray[np.float32]:
    """Cloth with a nap of `grain`, brighter on the left."""
    noise = np.random.default_rng(seed).normal(0.0, grain, (SIDE, SIDE)).astype(np.float32)
    nap = cv2.GaussianBlur(noise, (0, 0), 1.2) * 4.0
    light = np.linspace(1.05, 0.8, SIDE, dtype=np.float32)[None]
    cloth = np.array(colour, np.float32) * (light + nap)[..., None]
    return np.asarray(np.clip(cloth, 0, 1), dtype=np.float32)


def _thread(colour: tuple[float, float, float]) -> NDArray[np.float32]:
    """Parallel thread."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    shade = 0.8 + 0.2 * np.cos(2 * np.pi * (x + 0.5 * y) / 6.0)
    return np.asarray(np.array(colour, np.float32) * shade[..., None], dtype=np.float32)


def _disc(radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.asarray(np.hypot(x, y) < radius)


def _overlap(found: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    return float((truth & (found > 0.5)).sum() / (truth | (found > 0.5)).sum())


def test_a_fill_of_the_cloths_colour_belongs_to_the_outline_around_it() -> None:
    rgb = _cloth((0.85, 0.84, 0.82), 0.004)
    outer, inner = _disc(110), _disc(100)
    rgb[outer] = _thread((0.1, 0.1, 0.1))[outer]
    rgb[inner] = _thread((0.9, 0.9, 0.88))[inner]
    assert _overlap(locate_motif(rgb)[1], outer) > 0.9


@pytest.mark.parametrize("grain", [0.004, 0.03])
def test_cloth_within_a_frame_of_thread_stays_cloth(grain: float) -> None:
    rgb = _cloth((0.2, 0.5, 0.7), grain)
    ring, letter = _disc(130) & ~_disc(118), _disc(45)
    rgb[ring] = _thread((0.1, 0.25, 0.6))[ring]
    rgb[letter] = _thread((0.85, 0.75, 0.4))[letter]
    assert _overlap(locate_motif(rgb)[1], ring | letter) > 0.75


def test_open_fill_is_one_motif() -> None:
    rgb = _cloth((0.1, 0.15, 0.5), 0.01)
    y, x = np.mgrid[:SIDE, :SIDE]
    net = _disc(120) & ((((x + y) % 16) < 5) | (((x - y) % 16) < 5))
    rgb[net] = _thread((0.9, 0.8, 0.3))[net]
    assert _overlap(locate_motif(rgb)[1], _disc(120)) > 0.9


def test_a_motif_on_cloth_that_lies_on_a_table_is_found() -> None:
    rgb = _cloth((0.8, 0.78, 0.7), 0.01)
    rgb[:, :70] = _cloth((0.35, 0.22, 0.12), 0.02, seed=1)[:, :70]
    motif = _disc(80)
    rgb[motif] = _thread((0.7, 0.1, 0.15))[motif]
    (x0, _, x1, _), found = locate_motif(rgb)
    assert _overlap(found, motif) > 0.9
    assert 75 < x0 < 105
    assert x1 < 285


def test_embroidery_that_runs_out_of_the_picture_is_taken_where_it_is_sharp() -> None:
    sharp = _thread((0.6, 0.7, 0.85))
    rgb = cv2.GaussianBlur(sharp, (0, 0), 9.0)
    rgb[:, :200] = sharp[:, :200]
    truth = np.zeros((SIDE, SIDE), dtype=bool)
    truth[:, :200] = True
    assert _overlap(locate_motif(rgb)[1], truth) > 0.85


def test_photo_that_is_thread_all_over_comes_back_whole() -> None:
    y, x = np.mgrid[:200, :240].astype(np.float32)
    rgb = np.repeat((0.5 + 0.2 * np.cos(x + 0.3 * y))[..., None], 3, axis=2).astype(np.float32)
    box, mask = locate_motif(rgb)
    assert box == (0, 0, 240, 200)
    assert mask.min() == 1.0
