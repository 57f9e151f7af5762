"""Blurred print becomes crisp; what is crisp, shaded or thin stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.imaging import crisp
from backend.imaging.artwork import sewable

RED, CREAM, BLUE = (0.8, 0.2, 0.15), (0.95, 0.9, 0.8), (0.15, 0.25, 0.6)


def _print(height: int = 240) -> NDArray[np.float32]:
    """A red disc and a blue bar on cream."""
    picture = np.full((height, 240, 3), CREAM, np.float32)
    cv2.circle(picture, (90, 110), 60, RED, -1)
    picture[:, 190:215] = BLUE
    return picture


def _enlarged(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(large, 0.0, 1.0)


def _everywhere(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(picture.shape[:2], bool)


def _crisp(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    inside = _everywhere(picture)
    return crisp.crisp(picture, inside, crisp.edge_width(picture, inside, 20.0))


def _mixed(picture: NDArray[np.float32]) -> float:
    """Share of pixels that have none of the print's colours."""
    apart = [np.abs(picture - np.float32(each)).max(axis=-1) for each in (RED, CREAM, BLUE)]
    return float((np.min(apart, axis=0) > 0.08).mean())


@pytest.mark.parametrize("factor", [4, 6, 10])
def test_enlarged_print_has_its_colours_again(factor: int) -> None:
    blurred = _enlarged(_print(), factor)
    result = _crisp(blurred)
    assert _mixed(result) < 0.35 * _mixed(blurred)
    # Outlines stay where they are.
    wrong = np.abs(result - _print()).max(axis=-1) > 0.3
    assert wrong.mean() < 0.02


def test_width_of_edges_is_measured() -> None:
    sharp = _print()
    assert crisp.edge_width(sharp, _everywhere(sharp), 20.0) < 3.5
    widths = [
        crisp.edge_width(cv2.GaussianBlur(sharp, (0, 0), sigma), _everywhere(sharp), 20.0)
        for sigma in (2.0, 4.0)
    ]
    # The steepest part of a blurred step is as steep as a ramp of 2.5 sigma.
    assert widths == pytest.approx([5.0, 10.0], rel=0.25)
    plain = np.full_like(sharp, 0.5)
    assert crisp.edge_width(plain, _everywhere(plain), 20.0) == 0.0


def test_crisp_artwork_is_untouched() -> None:
    smooth = cv2.resize(_print(), (120, 120), interpolation=cv2.INTER_AREA)
    assert _crisp(smooth) is smooth


def test_shades_and_thin_lines_stay() -> None:
    blurred = _enlarged(_print(), 6)
    ramp = np.linspace(0.2, 0.9, 70, dtype=np.float32)
    blurred[60:130, 50:120] = ramp[:, None, None] * np.float32(RED)
    line = np.exp(-(((np.arange(240) - 170) / 1.5) ** 2)).astype(np.float32)[None, :, None]
    blurred = blurred * (1.0 - line) + line * np.float32((0.1, 0.1, 0.1))
    result = _crisp(blurred)
    assert np.abs(result - blurred)[70:120, 60:110].max() < 0.02
    assert np.abs(result - blurred)[:, 169:172].max() < 0.05
    assert np.abs(result - blurred).max() > 0.2


def test_strips_and_masks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    blurred = _enlarged(_print(480), 6)
    inside = _everywhere(blurred)
    width = crisp.edge_width(blurred, inside, 20.0)
    whole = crisp.crisp(blurred, inside, width)
    monkeypatch.setattr(crisp, "_ROWS", 100)
    assert np.abs(crisp.crisp(blurred, inside, width) - whole).max() < 1e-5
    inside[:, 120:] = False
    half = crisp.crisp(blurred, inside, width)
    assert np.array_equal(half[:, 120:], blurred[:, 120:])
    assert np.abs(half[:, :60] - whole[:, :60]).max() < 1e-5


def test_print_that_fades_into_cloth_is_one_colour_to_its_edge() -> None:
    picture = np.full((240, 240, 3), BLUE, np.float32)
    cv2.circle(picture, (120, 120), 80, RED, -1)
    sharp = picture[..., 0] > 0.5
    rgba = np.dstack([_enlarged(picture, 8), np.ones((240, 240), np.float32)])
    # As found in the enlarged print: somewhat past its outline.
    mask = cv2.dilate(sharp.astype(np.float32), np.ones((9, 9), np.uint8))
    colours, cover = sewable(rgba, mask, 6.5)
    assert np.array_equal(cover, mask)
    apart = np.abs(colours - np.float32(RED)).max(axis=-1)[mask > 0.5]
    assert (apart > 0.1).mean() < 0.03
    faded = np.abs(rgba[..., :3] - np.float32(RED)).max(axis=-1)[mask > 0.5]
    assert (faded > 0.1).mean() > 0.12
