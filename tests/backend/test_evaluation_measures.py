"""Each measure moves the way it should, on textures whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import InputError
from backend.evaluation import measures

Image = NDArray[np.float32]
SIDE = 192


def threads(period: float = 6.0, angle: float = 0.0, strength: float = 0.15) -> Image:
    """Parallel threads on a two-coloured ground: (SIDE, SIDE, 3)."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    return np.clip(flat() + strength * wave[..., None], 0, 1).astype(np.float32)


def flat() -> Image:
    ground = np.full((SIDE, SIDE, 3), (0.7, 0.3, 0.3), dtype=np.float32)
    ground[:, SIDE // 2 :] = (0.3, 0.4, 0.7)
    return ground


ALIKE: list[Callable[[Image, Image], float]] = [
    measures.hfrd,
    measures.band_distance,
    measures.spectrum_distance,
    measures.orientation_distance,
    measures.histogram_loss,
    measures.colour_shift,
]


@pytest.mark.parametrize("measure", ALIKE, ids=lambda measure: measure.__name__)
def test_a_picture_is_like_itself(measure: Callable[[Image, Image], float]) -> None:
    assert measure(threads(), threads()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("measure", ALIKE[:4], ids=lambda measure: measure.__name__)
def test_sewn_is_nearer_to_sewn_than_flat_is(measure: Callable[[Image, Image], float]) -> None:
    reference = threads()
    assert measure(threads(6.5, 0.1), reference) < 0.5 * measure(flat(), reference)


def test_energy_lies_in_the_band_of_the_thread() -> None:
    for period, band in ((2.5, "2–4 px"), (6.0, "4–8 px"), (12.0, "8–16 px")):
        energies = measures.band_energies(threads(period), np.ones((SIDE, SIDE)))
        without = measures.band_energies(flat(), np.ones((SIDE, SIDE)))
        gained = {name: energies[name] - without[name] for name in energies}
        assert max(gained, key=lambda name: gained[name]) == band


def test_twice_the_contrast_is_about_an_octave() -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[:, : SIDE // 2 - 8] = 1
    strong, weak = threads(6.0, 0.0, 0.2), threads(6.0, 0.0, 0.1)
    assert measures.band_distance(strong, weak, mask, mask) == pytest.approx(1.0, abs=0.15)
    # The share of fine detail alone does not see it: all contrast inside the mask is thread.
    assert measures.hfrd(strong, weak, mask, mask) < 1.0


def test_losing_the_designs_shade_fools_hfrd_but_not_the_bands() -> None:
    """Why absolute energies stand beside the paper's ratio."""
    y = np.linspace(-1, 1, SIDE, dtype=np.float32)[:, None, None]
    shaded = np.clip(threads(strength=0.04) + 0.25 * y, 0, 1)
    bare = np.clip(flat() * 0 + 0.4 + 0.001 * np.sign(threads() - 0.45), 0, 1)
    stitchless_ratio = measures.high_frequency_ratio(bare)
    assert stitchless_ratio > measures.high_frequency_ratio(shaded)
    assert measures.band_energies(bare)["4–8 px"] < measures.band_energies(shaded)["4–8 px"]


def test_direction_is_compared_at_the_best_rotation() -> None:
    one, turned = threads(6.0, 0.0), threads(6.0, np.pi / 3)
    crossed = np.where((np.arange(SIDE) % 48 < 24)[None, :, None], one, turned)
    assert measures.orientation_distance(turned, one) < 12.0
    assert measures.orientation_distance(crossed, one) > 25.0


def test_a_mask_keeps_its_surroundings_out() -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[48:144, 16:80] = 1
    rng = np.random.default_rng(0)
    noisy = threads()
    noisy[mask == 0] = rng.random((int((mask == 0).sum()), 3))
    for measure in (measures.hfrd, measures.band_distance, measures.histogram_loss):
        assert measure(noisy, threads(), mask, mask) == pytest.approx(0.0, abs=1e-3)
        assert measure(noisy, threads()) > 0.1


def test_histograms_see_colours_and_not_places() -> None:
    mirrored = np.ascontiguousarray(flat()[:, ::-1])
    assert measures.histogram_loss(flat(), mirrored) == pytest.approx(0.0, abs=1e-6)
    other = np.ascontiguousarray(flat()[..., ::-1])
    other[..., 1] = 0.9
    assert measures.histogram_loss(flat(), other) > 80.0


def test_colour_shift_forgives_stitches_but_not_tints() -> None:
    assert measures.colour_shift(threads(), flat()) < 1.5
    tinted = np.clip(flat() + np.float32((0.08, 0.0, -0.08)), 0, 1)
    assert measures.colour_shift(tinted, flat()) > 5.0


def test_distance_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = threads()
    noise = rng.normal(0, 1, truth.shape).astype(np.float32)
    near, far = truth + 0.02 * noise, truth + 0.1 * noise
    assert measures.psnr(near, truth) == pytest.approx(-20 * np.log10(0.02), abs=0.2)
    assert 1.0 > measures.ssim(near, truth) > measures.ssim(far, truth)
    assert measures.psnr(truth, truth) == 100.0
    assert measures.ssim(truth, truth) == pytest.approx(1.0)


def test_one_changed_byte_outside_the_mask_is_seen() -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[: SIDE // 2] = 1
    source, output = flat(), flat()
    output[: SIDE // 2] = 0.0
    assert measures.changed_outside(output, source, mask) == 0.0
    output[-1, -1, 0] += 1 / 255
    assert measures.changed_outside(output, source, mask) == pytest.approx(
        100.0 / (SIDE * SIDE / 2)
    )
    assert measures.changed_outside(output, source, None) == 0.0


def test_one_colour_is_measured_without_warnings() -> None:
    grey = np.full((SIDE, SIDE, 3), 0.5, dtype=np.float32)
    assert measures.high_frequency_ratio(grey) == 0.0
    for measure in ALIKE:
        assert np.isfinite(measure(grey, threads()))
        assert np.isfinite(measure(np.zeros_like(grey), grey))


def test_small_motifs_have_a_spectrum_too() -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[50:75, 50:75] = 1
    assert np.isfinite(measures.spectrum_distance(threads(), threads(4.0), mask, None))


def test_sizes_that_do_not_fit_are_refused() -> None:
    for attempt in (
        lambda: measures.psnr(flat(), flat()[:50]),
        lambda: measures.hfrd(flat(), flat(), np.ones((3, 3))),
        lambda: measures.hfrd(flat(), flat(), np.zeros((SIDE, SIDE))),
        lambda: measures.spectrum_distance(flat(), flat()[:20, :20]),
    ):
        with pytest.raises(InputError):
            attempt()
