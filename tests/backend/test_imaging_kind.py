"""Telling beads and knots from thread."""

from __future__ import annotations

import numpy as np
import pytest

from backend.imaging.kind import kind_of
from backend.starter.stitches import Look, render


@pytest.mark.parametrize("width", [5.0, 8.0])
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("bead", "relief"),
        ("french knot", "relief"),
        ("satin", "flat"),
        ("tatami", "flat"),
        ("knit", "flat"),
        ("chain", "flat"),
        ("herringbone", "flat"),
    ],
)
def test_round_things_are_relief_and_thread_is_flat(family: str, kind: str, width: float) -> None:
    side = 192
    y, x = np.mgrid[:side, :side] - side / 2
    art = np.hypot(x, y) < 0.44 * side
    design = np.full((side, side, 3), (0.8, 0.78, 0.72), dtype=np.float32)
    design[art] = (0.55, 0.2, 0.25)
    look = Look(
        family=family,
        width=width,
        ground="cloth",
        contrast=0.2,
        azimuth=0.9,
        elevation=0.8,
        sheen=0.6,
        seed=3,
    )
    rng = np.random.default_rng(0)
    photo = np.clip(render(design, art, look) + rng.normal(0, 0.01, design.shape), 0, 1)
    assert kind_of(photo.astype(np.float32), art.astype(np.float32)) == kind


def test_nothing_to_see_is_flat() -> None:
    assert kind_of(np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.float32)) == "flat"
    assert kind_of(np.full((64, 64, 3), 0.5, np.float32), np.ones((64, 64), np.float32)) == "flat"
