"""Measures against a true answer, on textures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.evaluation import measures
from backend.evaluation.truth import by_region, colour_psnr, ms_ssim, shape_loss

Image = NDArray[np.float32]
SIDE = 192


def flat(turn: int = 0) -> Image:
    """A red half and a blue quarter on grey; `turn` moves the colours on by so many channels."""
    picture = np.full((SIDE, SIDE, 3), 0.6, dtype=np.float32)
    picture[:, : SIDE // 2] = np.roll((0.7, 0.25, 0.3), turn)
    picture[SIDE // 2 :, SIDE // 2 :] = np.roll((0.2, 0.3, 0.7), turn)
    return picture


def sewn(angle: float, rows: slice = slice(None), picture: Image | None = None) -> Image:
    """Threads of 7 px across `angle` on those rows."""
    result = flat() if picture is None else picture.copy()
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    wave = 0.12 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / 7.0)
    result[rows] += wave[rows][..., None]
    return np.clip(result, 0.0, 1.0)


def noise(strength: float) -> Image:
    grain = np.random.default_rng(0).normal(0.0, strength, (SIDE, SIDE, 1))
    return np.clip(sewn(0.4) + grain, 0.0, 1.0).astype(np.float32)


def test_ms_ssim_is_one_for_itself_and_falls_with_noise() -> None:
    truth = sewn(0.4)
    values = [ms_ssim(noise(strength), truth) for strength in (0.0, 0.05, 0.2)]
    assert values[0] == pytest.approx(1.0)
    assert values[0] > values[1] > values[2] > 0.0


def test_ms_ssim_sees_what_is_under_the_mask_alone() -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.float32)
    mask[:, : SIDE // 2 - 40] = 1.0
    spoilt = sewn(0.4)
    spoilt[:, SIDE // 2 + 60 :] = 0.0
    assert ms_ssim(spoilt, sewn(0.4), mask) > 0.999 > ms_ssim(spoilt, sewn(0.4))


def test_small_pictures_have_fewer_scales() -> None:
    small = sewn(0.4)[:40, :40]
    assert ms_ssim(small, small) == pytest.approx(1.0)
    assert shape_loss(small, small) == pytest.approx(0.0)


def test_stitches_are_no_fault_of_shape_but_moved_shapes_are() -> None:
    assert shape_loss(sewn(0.4), flat()) < 1.0
    moved = np.roll(flat(), 24, axis=1)
    assert shape_loss(moved, flat()) > 10.0
    # One colour on the ground: its outline is its shape.
    mask = np.zeros((SIDE, SIDE), dtype=np.float32)
    mask[60:130, 20:80] = 1.0
    spot = np.where(mask[..., None] > 0, flat(), 0.9).astype(np.float32)
    late = np.roll(spot, 8, axis=0)
    assert shape_loss(spot, spot, mask) == pytest.approx(0.0, abs=1e-6)
    assert shape_loss(late, spot, mask) > 3.0
    plain = np.full_like(spot, 0.5)
    assert shape_loss(plain, plain) == 0.0


def test_stitches_are_no_fault_of_colour_but_other_colours_are() -> None:
    assert colour_psnr(sewn(0.4), flat()) > 35.0
    assert colour_psnr(sewn(0.4, picture=flat(1)), flat()) < 20.0


def test_regions_are_compared_each_by_itself() -> None:
    half = SIDE // 2
    labels = np.ones((SIDE, SIDE), dtype=np.int32)
    labels[half:] = 2
    upper, lower = slice(None, half), slice(half, None)
    plain = np.full((SIDE, SIDE, 3), 0.5, dtype=np.float32)
    # Threads above, nothing below; and the other way round.
    one, other = (sewn(0.4, rows, plain) for rows in (upper, lower))
    whole = measures.orientation_distance(one, other)
    assert by_region(measures.orientation_distance, one, one, labels) == pytest.approx(0.0)
    assert by_region(measures.orientation_distance, one, other, labels) > whole + 20.0


def test_ground_and_specks_do_not_count_as_regions() -> None:
    seen: list[int] = []

    def distance(output: object, truth: object, here: object, there: object) -> float:
        seen.append(int(np.asarray(here).sum()))
        return 1.0

    labels = np.zeros((SIDE, SIDE), dtype=np.int32)
    labels[20:100, 20:100], labels[150:160, 150:160] = 2, 5
    assert by_region(distance, flat(), flat(), labels) == 1.0
    assert seen == [80 * 80]
    seen.clear()
    by_region(distance, flat(), flat(), np.zeros_like(labels) + 3)
    assert seen == [SIDE * SIDE]
