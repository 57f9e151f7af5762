"""The stitch renderer: colours kept, repeatable, and every family a texture of its own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backend.starter.samples import band_energy
from backend.starter.stitches import HELD_OUT, TRAINING, Look, draw_look, regions, render

FAMILIES = [*TRAINING, *HELD_OUT]


def _design(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A blue disc with a yellow bar on cream."""
    y, x = np.mgrid[:size, :size]
    flat = np.full((size, size, 3), (0.9, 0.87, 0.8), np.float32)
    disc = np.hypot(x - size / 2, y - size / 2) < 0.38 * size
    flat[disc] = (0.2, 0.35, 0.7)
    flat[disc & (np.abs(y - size / 2) < 0.12 * size)] = (0.9, 0.75, 0.2)
    return flat, disc


def _look(family: str, **changes: object) -> Look:
    settings: dict[str, object] = {
        "family": family, "width": 6.0, "ground": "cloth", "contrast": 0.2,
        "azimuth": 1.0, "elevation": 0.8, "sheen": 0.5, "seed": 4,
    }  # fmt: skip
    return Look(**{**settings, **changes})  # type: ignore[arg-type]


def test_held_out_families_are_no_training_families() -> None:
    assert len(HELD_OUT) >= 3
    assert not set(HELD_OUT) & set(TRAINING)


@pytest.mark.parametrize("family", FAMILIES)
def test_keeps_the_mean_colour_of_every_region(family: str) -> None:
    flat, art = _design()
    sewn = render(flat, art, _look(family))
    assert sewn.shape == flat.shape
    assert sewn.min() >= 0
    assert sewn.max() <= 1
    labels = regions(flat, art)
    assert labels.max() == 2
    for region in range(3):
        lack = np.abs((sewn - flat)[labels == region].mean(0)).max()
        assert lack < 0.02, region


@pytest.mark.parametrize("family", FAMILIES)
def test_has_thread_where_the_design_has_none(family: str) -> None:
    flat, art = _design()
    sewn = render(flat, art, _look(family, ground="none"))
    inside = (slice(32, 96), slice(32, 96))
    assert band_energy(sewn[inside]) > band_energy(flat[inside]) + 0.03


def test_same_look_same_picture_and_other_seed_another() -> None:
    flat, art = _design()
    first = render(flat, art, _look("tatami"))
    np.testing.assert_array_equal(first, render(flat, art, _look("tatami")))
    assert np.abs(first - render(flat, art, _look("tatami", seed=5))).mean() > 0.01


def test_families_differ_from_each_other() -> None:
    """By the histogram of their spectrum, which the place of single stitches does not change."""
    flat = np.full((128, 128, 3), 0.5, np.float32)
    art = np.ones((128, 128), bool)

    def fingerprint(family: str) -> np.ndarray:
        total = np.zeros((128, 128))
        for seed in range(3):
            light = render(flat, art, _look(family, ground="none", seed=seed)).mean(-1)
            total += np.abs(np.fft.fft2(light - light.mean())) ** 2
        frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128)] * 2))
        radial, _ = np.histogram(frequency, 24, (0.02, 0.5), weights=total)
        peak = np.sort(total.ravel())[-200:].sum() / total.sum()
        return np.append(radial / radial.sum(), peak)

    prints = {family: fingerprint(family) for family in FAMILIES}
    for one, other in itertools.combinations(FAMILIES, 2):
        assert np.abs(prints[one] - prints[other]).sum() > 0.05, (one, other)


def test_mask_less_ground_stays_plain() -> None:
    flat, art = _design()
    sewn = render(flat, art, _look("satin", ground="plain"))
    np.testing.assert_allclose(np.ptp(sewn[:12, :12], axis=(0, 1)), 0, atol=0.005)
    assert (
        np.abs(sewn[:12, :12] - flat[:12, :12]).max() < 0.03
    )  # light under the art's edge evens out


def test_draws_widths_that_survive_the_autoencoder() -> None:
    rng = np.random.default_rng(0)
    widths = [draw_look("satin", rng).width for _ in range(50)]
    assert min(widths) >= 4
    assert max(widths) <= 9
