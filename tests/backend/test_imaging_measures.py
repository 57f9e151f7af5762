"""Colour differences, masks, edges, thread measure and direction."""

from __future__ import annotations

import numpy as np
import pytest
from restyling import sewn_pair

from backend.imaging import colour, edges, masks


def test_lab_of_known_colours_and_back() -> None:
    rgb = np.array([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=np.float32)
    expected = [[100.0, 0.0, 0.0], [0.0, 0.0, 0.0], [53.24, 80.09, 67.20]]
    assert np.allclose(colour.rgb_to_lab(rgb)[0], expected, atol=0.15)
    noise = np.random.default_rng(0).random((30, 30, 3)).astype(np.float32)
    assert np.abs(colour.lab_to_rgb(colour.rgb_to_lab(noise)) - noise).max() < 4e-3


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [  # Sharma, Wu, Dalal (2005), table 1: pairs 1, 7, 10, 13, 17, 20, 25 and 33
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0010), 7.1792),
        ((50.0, -0.0010, 2.4900), (50.0, 0.0009, -2.4900), 4.8045),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ],
)
def test_delta_e_matches_published_pairs(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert colour.delta_e(np.array(first), np.array(second)) == pytest.approx(expected, abs=2e-4)
    assert colour.delta_e(np.array(second), np.array(first)) == pytest.approx(expected, abs=2e-4)


def test_thread_is_neither_quite_black_nor_quite_white() -> None:
    ramp = np.linspace(0.0, 1.0, 101, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    sewn = colour.thread_colours(ramp)
    assert 8.0 < colour.rgb_to_lab(sewn)[0, 0, 0] < 14.0
    assert 94.0 < colour.rgb_to_lab(sewn)[0, -1, 0] < 98.0
    assert (np.diff(sewn[0, :, 0]) > 0.0).all()
    assert np.abs(sewn - ramp)[0, 30:90].max() < 0.025
    red = colour.thread_colours(np.array([[[0.82, 0.13, 0.14]]], np.float32))
    change = colour.delta_e(
        colour.rgb_to_lab(red), colour.rgb_to_lab(np.float32([[[0.82, 0.13, 0.14]]]))
    )
    assert change < 2.0


def test_colours_extend_from_the_nearest_known_pixel() -> None:
    rgb = np.zeros((20, 20, 3), dtype=np.float32)
    rgb[:, :5] = (1.0, 0.0, 0.0)
    rgb[:, 15:] = (0.0, 0.0, 1.0)
    known = np.zeros((20, 20), dtype=bool)
    known[:, :5] = known[:, 15:] = True
    full = masks.extend_colours(rgb, known)
    assert np.array_equal(full[known], rgb[known])
    assert np.array_equal(full[10, 7], (1.0, 0.0, 0.0))
    assert np.array_equal(full[10, 12], (0.0, 0.0, 1.0))
    assert np.array_equal(masks.extend_colours(rgb, known | True), rgb)


def test_specks_and_holes_go_and_large_parts_stay() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    mask[10:40, 10:40] = True
    mask[20:22, 20:22] = False
    mask[2, 2] = True
    clean = masks.remove_specks(mask, 9)
    assert clean[10:40, 10:40].all()
    assert clean.sum() == 900
    assert masks.bounding_box(clean) == (10, 10, 40, 40)
    assert masks.bounding_box(np.zeros((5, 5))) == (0, 0, 0, 0)


def test_feather_stays_within_the_mask() -> None:
    mask = np.zeros((40, 40), dtype=np.float32)
    mask[10:30, 10:30] = 1.0
    soft = masks.feather(mask, 4.0)
    assert (soft[mask == 0.0] == 0.0).all()
    assert soft[20, 20] == 1.0
    assert 0.0 < soft[10, 20] < 0.5


@pytest.mark.parametrize("period", [4.0, 7.0, 12.0, 19.0])
@pytest.mark.parametrize("angle", [0.0, 0.6, 1.4])
def test_thread_width_and_direction_of_parallel_thread(period: float, angle: float) -> None:
    y, x = np.mgrid[:200, :200].astype(np.float32)
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    noise = np.random.default_rng(1).normal(0, 0.03, wave.shape)
    rgb = np.repeat((0.5 + 0.15 * wave + noise)[..., None], 3, axis=2).astype(np.float32)
    assert edges.thread_width(rgb) == pytest.approx(period, rel=0.12)
    along, coherence = edges.orientation(rgb[..., 0], 6.0)
    wanted = (angle + np.pi / 2) % np.pi
    off = (along[50:150, 50:150] - wanted + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(off).mean() < 0.1
    assert coherence[50:150, 50:150].mean() > 0.6


def test_thread_width_looks_at_the_mask_only() -> None:
    photo, _, mask = sewn_pair(period=7.0)
    y, x = np.mgrid[: len(photo), : len(photo)]
    weave = 0.1 * np.cos(2 * np.pi * x / 3.0) * np.cos(2 * np.pi * y / 3.0)
    photo = np.where(mask[..., None] > 0.5, photo, photo + weave[..., None]).astype(np.float32)
    assert edges.thread_width(photo, mask) == pytest.approx(6.6, rel=0.12)


def test_thread_width_of_nothing_is_zero() -> None:
    assert edges.thread_width(np.full((64, 64, 3), 0.4, np.float32)) == 0.0
    assert edges.thread_width(np.full((64, 64, 3), 0.4), np.zeros((64, 64))) == 0.0


def test_conditions_keep_edges_and_colours() -> None:
    rgb = np.full((128, 128, 3), 0.9, dtype=np.float32)
    rgb[:, 64:] = (0.2, 0.3, 0.8)
    outline = edges.canny(rgb)
    assert set(np.unique(outline)) == {0.0, 1.0}
    assert outline[10:-10, 62:66].any(axis=1).all()
    assert outline[:, :60].sum() == 0.0
    noisy = rgb + np.random.default_rng(0).normal(0, 0.05, rgb.shape).astype(np.float32)
    tile = edges.tile_condition(np.clip(noisy, 0, 1), window=256)
    assert np.abs(tile[:, 80:].mean((0, 1)) - rgb[0, 100]).max() < 0.03
    assert (
        tile[20:-20, 90:].std(axis=(0, 1)).max() < 0.6 * noisy[20:-20, 90:].std(axis=(0, 1)).max()
    )


def test_guided_filter_smooths_flat_parts_and_keeps_the_step() -> None:
    guide = np.zeros((80, 80), dtype=np.float32)
    guide[:, 40:] = 1.0
    noisy = guide + np.random.default_rng(0).normal(0, 0.1, guide.shape).astype(np.float32)
    smooth = edges.guided_filter(guide, noisy, radius=6, epsilon=0.01)
    assert smooth[:, :34].std() < 0.04
    assert smooth[:, 42:46].mean() - smooth[:, 34:38].mean() > 0.9
