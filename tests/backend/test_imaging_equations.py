"""What pictures go through on their way, against plain transcriptions in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.imaging import edges
from backend.imaging.colour import lab_to_rgb, rgb_to_lab
from backend.restyle.correction import correct_colours

Map = NDArray[np.float64]


def _picture(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)


def _mirrored(index: int, length: int) -> int:
    """An index beyond the border, where the picture is mirrored with its outermost pixel."""
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def _box(values: Map, radius: int) -> Map:
    height, width = values.shape
    found = np.zeros_like(values)
    reach = range(-radius, radius + 1)
    for y in range(height):
        for x in range(width):
            found[y, x] = np.mean(
                [
                    values[_mirrored(y + dy, height), _mirrored(x + dx, width)]
                    for dy in reach
                    for dx in reach
                ]
            )
    return found


def _enlarged(values: Map, scale: int) -> Map:
    """Between the middles of the small pixels, in straight lines; beyond them as they are."""
    found = values
    for axis in (0, 1):
        length = found.shape[axis]
        places = (np.arange(length * scale) + 0.5) / scale - 0.5
        low = np.floor(places).astype(int)
        share = np.expand_dims(places - low, 1 - axis)
        ends = [np.take(found, np.clip(low + i, 0, length - 1), axis=axis) for i in (0, 1)]
        found = ends[0] * (1.0 - share) + ends[1] * share
    return found


def _filtered(guide: Map, image: Map, radius: int, epsilon: float, scale: int) -> Map:
    """The fast guided filter (He, Sun, 2015): q = ā I + b̄, coefficients from a smaller copy."""
    height, width = guide.shape
    small = [
        each.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3))
        for each in (guide, image)
    ]
    reach = round(radius / scale)
    mean_i, mean_p = (_box(each, reach) for each in small)
    a = (_box(small[0] * small[1], reach) - mean_i * mean_p) / (
        _box(small[0] * small[0], reach) - mean_i**2 + epsilon
    )
    b = mean_p - a * mean_i
    return _enlarged(_box(a, reach), scale) * guide + _enlarged(_box(b, reach), scale)


def test_the_guided_filter_is_he_and_suns() -> None:
    rgb = _picture(24, 32)
    found = edges.guided_filter(rgb[..., 0], rgb, radius=5, epsilon=0.01, scale=4)
    for channel in range(3):
        wanted = _filtered(
            rgb[..., 0].astype(np.float64), rgb[..., channel].astype(np.float64), 5, 0.01, 4
        )
        np.testing.assert_allclose(found[..., channel], wanted, atol=1e-5)


def test_tile_is_blurred_by_15_then_filtered_with_the_papers_numbers() -> None:
    """At SDXL's window: radius 5, epsilon 0.4, scale 4, after a Gaussian of 15 pixels."""
    rgb = _picture(40, 48, seed=1)
    offsets = np.arange(15) - 7
    sigma = 0.3 * ((15 - 1) * 0.5 - 1) + 0.8  # as OpenCV has it for a size alone
    weights = np.exp(-(offsets**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    blurred = rgb.astype(np.float64)
    for axis in (0, 1):
        length = blurred.shape[axis]
        blurred = sum(
            weight * np.take(blurred, [_mirrored(i + d, length) for i in range(length)], axis=axis)
            for weight, d in zip(weights, offsets.tolist())
        )
    np.testing.assert_allclose(edges.blur(rgb, 1024), blurred, atol=1e-5)
    guide = blurred.mean(axis=2)
    wanted = np.dstack([_filtered(guide, blurred[..., c], 5, 0.4, 4) for c in range(3)])
    np.testing.assert_allclose(edges.tile_condition(rgb, 1024), wanted, atol=1e-5)
    assert np.abs(wanted - blurred).max() > 0.01  # the filter does something


@pytest.mark.parametrize(("step", "found"), [(0.04, False), (0.09, True)])
def test_canny_finds_steps_between_50_and_100(step: float, found: bool) -> None:
    """A step of s grey levels has Sobel slope 4 s: 9 % are 92 of 255, above 50 and no 100.

    It is found by what it hangs on: a taller step, further along the same edge.
    """
    rgb = np.full((40, 40, 3), 0.3, np.float32)
    rgb[:, 20:] += step
    rgb[:12, 20:] += 0.15 - step
    edge = edges.canny(rgb)[16:36, 17:23].any()
    assert edge == found
    eight = np.round(rgb * 255).astype(np.uint8)
    assert np.array_equal(edges.canny(rgb), cv2.Canny(eight, 50, 100) > 0)


def _lab(rgb: NDArray[np.floating]) -> Map:
    """CIELAB under D65 (CIE 1976; sRGB: IEC 61966-2-1)."""
    v = rgb.astype(np.float64)
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    matrix = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = linear @ np.array(matrix).T / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [
            116 * f[..., 1] - 16,
            500 * (f[..., 0] - f[..., 1]),
            200 * (f[..., 1] - f[..., 2]),
        ],
        axis=-1,
    )


def test_colours_are_cielabs() -> None:
    rgb = _picture(16, 16, seed=2)
    # OpenCV reads them from a table; a difference that eyes begin to see is 1.
    np.testing.assert_allclose(rgb_to_lab(rgb), _lab(rgb), atol=0.4)
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1.0 / 255.0)


def test_the_papers_correction_takes_a_and_b_of_the_design_and_lightness_of_the_output() -> None:
    output, design = _picture(24, 24, seed=3), _picture(24, 24, seed=4)
    # Greyer, so that every mixture is a colour that screens have.
    output, design = output * 0.2 + 0.4, design * 0.2 + 0.4
    wanted = np.dstack([_lab(output)[..., :1], _lab(design)[..., 1:]])
    found = _lab(correct_colours(output, design, "paper", sigma=8.0))
    np.testing.assert_allclose(found, wanted, atol=0.6)


def test_coarse_correction_moves_areas_and_keeps_what_is_fine() -> None:
    fine = 0.08 * np.sin(np.arange(96) * 2.0)[None, :, None] * np.array((1.0, -1.0, 0.5))
    design = np.full((96, 96, 3), (0.55, 0.4, 0.3), np.float32)
    output = (np.array((0.4, 0.5, 0.45)) + fine).repeat(96, axis=0).astype(np.float32)
    found = _lab(correct_colours(output, design, "coarse", sigma=8.0))[30:66, 30:66]
    ours, theirs = (_lab(each)[30:66, 30:66] for each in (output, design))
    np.testing.assert_allclose(found.mean(axis=(0, 1)), theirs.mean(axis=(0, 1)), atol=0.5)
    np.testing.assert_allclose(
        found - found.mean(axis=(0, 1)), ours - ours.mean(axis=(0, 1)), atol=0.6
    )


def test_the_correction_of_shade_keeps_fine_lightness_of_the_output() -> None:
    thread = 0.06 * np.sin(np.arange(96) * 2.0)[None, :, None]
    design = np.full((96, 96, 3), (0.55, 0.4, 0.3), np.float32)
    output = np.clip(np.array((0.4, 0.5, 0.45)) + thread, 0, 1).repeat(96, axis=0)
    found = _lab(correct_colours(output.astype(np.float32), design, "shade", sigma=8.0))
    ours, theirs = _lab(output), _lab(design)
    inner = np.s_[30:66, 30:66]
    np.testing.assert_allclose(found[inner][..., 1:], theirs[inner][..., 1:], atol=0.5)
    fine = [each[inner][..., 0] - each[inner][..., 0].mean() for each in (found, ours)]
    np.testing.assert_allclose(fine[0], fine[1], atol=0.5)
    assert found[inner][..., 0].mean() == pytest.approx(theirs[inner][..., 0].mean(), abs=0.5)
