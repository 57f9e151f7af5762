"""The shipped model's figures: measured, not stated."""

from __future__ import annotations

import numpy as np
import pytest

from backend.starter.designs import draw_design
from backend.starter.figures import Figure, figures


@pytest.fixture(scope="module")
def measured() -> dict[str, Figure]:
    found = figures([draw_design(256, np.random.default_rng(3))], seed=0)
    return {each.name: each for each in found}


def test_the_shipped_model_is_what_its_card_says(measured: dict[str, Figure]) -> None:
    assert measured["autoencoder, flat designs"].value > 30.0
    assert measured["autoencoder, herringbone"].value > 24.0
    assert measured["shipped weights"].value < 96.0
    fine = next(each for name, each in measured.items() if "threads of 4 px" in name)
    assert fine.value > 0.7


def test_a_design_comes_back_from_noise_and_correction_brings_it_nearer(
    measured: dict[str, Figure],
) -> None:
    bare = measured["flat design redrawn, as it comes"].value
    corrected = measured["flat design redrawn, corrected"].value
    assert corrected < bare < 12.0
    assert corrected < 4.0


def test_a_figure_is_told_with_its_target() -> None:
    assert (
        str(Figure("pass", 0.2114, "s", "at most 0.15")) == "pass: 0.211 s (target: at most 0.15)"
    )
    assert str(Figure("alike", 0.9, "")) == "alike: 0.9"
