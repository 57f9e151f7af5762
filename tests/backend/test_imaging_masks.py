"""Outlines that fade into the cloth get the colour of the print."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.masks import colour_outlines


def _print_on_cloth(fade: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A white square on blue cloth, its outline fading over `fade` pixels, and where it is."""
    distance = np.maximum(*(np.abs(np.indices((96, 96)) - 47.5))) - 24.0
    cover = np.clip(0.5 - distance / fade, 0.0, 1.0)[..., None]
    rgb = cover * np.array([1.0, 1.0, 1.0]) + (1.0 - cover) * np.array([0.2, 0.4, 0.7])
    return rgb.astype(np.float32), cover[..., 0] > 0.1


def test_print_that_fades_into_the_cloth_is_sewn_in_its_own_colour() -> None:
    rgb, inside = _print_on_cloth(6)
    got = colour_outlines(rgb, inside, ~inside, 8.0)
    assert rgb[inside].min() < 0.5
    assert got[inside].min() > 0.95
    np.testing.assert_array_equal(got[~inside], rgb[~inside])


def test_an_outline_of_its_own_colour_is_no_fading() -> None:
    rgb, inside = _print_on_cloth(1)
    ring = inside & (cv2.erode(inside.astype(np.uint8), np.ones((7, 7))) == 0)
    rgb[ring] = (0.1, 0.1, 0.1)
    got = colour_outlines(rgb, inside, ~inside, 8.0)
    np.testing.assert_array_equal(got, rgb)


def test_a_line_thinner_than_the_fading_keeps_the_colour_of_its_middle() -> None:
    rgb = np.full((64, 64, 3), (0.2, 0.4, 0.7), np.float32)
    for offset, share in ((0, 1.0), (1, 0.7), (2, 0.3)):
        for row in (32 - offset, 32 + offset):
            rgb[row] = share + (1.0 - share) * rgb[0]
    inside = np.zeros((64, 64), bool)
    inside[30:35] = True
    got = colour_outlines(rgb, inside, ~inside, 8.0)
    assert got[30:35].min() > 0.95


def test_where_no_cloth_is_seen_nothing_fades() -> None:
    rgb, inside = _print_on_cloth(6)
    nowhere = np.zeros_like(inside)
    np.testing.assert_array_equal(colour_outlines(rgb, inside, nowhere, 8.0), rgb)
