"""Flat designs without a model, and finding the motif in a photo."""

from __future__ import annotations

import numpy as np
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


def test_photo_that_is_thread_all_over_comes_back_whole() -> None:
    y, x = np.mgrid[:200, :240].astype(np.float32)
    rgb = np.repeat((0.5 + 0.2 * np.cos(x + 0.3 * y))[..., None], 3, axis=2).astype(np.float32)
    box, mask = locate_motif(rgb)
    assert box == (0, 0, 240, 200)
    assert mask.min() == 1.0
