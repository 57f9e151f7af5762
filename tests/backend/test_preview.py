"""The instant preview: detail of the reference, colours and shapes of the target."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from restyling import artwork, sewn_pair

from backend.errors import InputError
from backend.first_look import first_look
from backend.imaging.colour import delta_e, rgb_to_lab
from backend.imaging.edges import orientation, thread_width
from backend.imaging.masks import extend_colours
from backend.preview import analogy
from backend.preview.flow import boundary_flow, measure_lay
from backend.preview.guides import make_guides, make_palette
from backend.preview.relief import evened, texture_of, without_outlines
from backend.preview.shading import apply_shading, measure_shading, relief_scale
from backend.progress import outcome


def _target(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rgba = artwork(height, width)
    return extend_colours(rgba[..., :3], rgba[..., 3] > 0.5), rgba[..., 3]


def _detail(rgb: NDArray[np.floating], mask: NDArray[np.floating]) -> NDArray[np.float32]:
    """Lightness finer than a thread or two, inside the mask."""
    lightness = rgb_to_lab(rgb)[..., 0]
    inside = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    fine: NDArray[np.float32] = (lightness - cv2.GaussianBlur(lightness, (0, 0), 7.0))[inside]
    return fine


def test_thread_appears_as_strong_as_in_the_reference() -> None:
    photo, design, mask = sewn_pair()
    target, cover = _target(240, 300)
    result = analogy.synthesise(photo, design, mask, target, cover, seed=1)
    assert result.shape == target.shape
    assert result.dtype == np.float32
    assert result.min() >= 0.0
    assert result.max() <= 1.0
    wanted, got = _detail(photo, mask).std(), _detail(result, cover).std()
    assert _detail(target, cover).std() < 0.2 * wanted
    assert 0.6 * wanted < got < 1.4 * wanted
    assert thread_width(result, cover) == pytest.approx(thread_width(photo, mask), rel=0.15)


def test_colours_stay_and_what_is_not_masked_is_untouched() -> None:
    photo, design, mask = sewn_pair()
    target, cover = _target(200, 260)
    cover[:, 130:] = 0.0
    result = analogy.synthesise(photo, design, mask, target, cover, seed=1)
    assert np.array_equal(result[cover <= 0.5], target[cover <= 0.5])
    for colour in np.unique(target[cover > 0.5], axis=0):
        here = np.all(target == colour, axis=-1) & (cover > 0.5)
        mean = rgb_to_lab(result)[here].mean(axis=0)
        assert delta_e(mean, rgb_to_lab(colour[None, None])[0, 0]) < 6.0


@pytest.mark.parametrize("light", [0.0, 1.0])
def test_thread_is_seen_on_black_and_on_white(light: float) -> None:
    photo, _, mask = sewn_pair()
    rgba = artwork(240, 300)
    rgba[..., :3] = light
    made = outcome(first_look(photo, rgba, None, None, seed=1))
    half = 0.5 * _detail(photo, mask).std()
    assert _detail(made[..., :3], rgba[..., 3]).std() > half
    assert abs(rgb_to_lab(made[..., :3])[rgba[..., 3] > 0.5][:, 0].mean() - 100.0 * light) < 20.0


def test_a_lens_that_fringes_the_photo_colours_no_thread() -> None:
    photo, design, mask = sewn_pair()
    fringed = photo.copy()
    fringed[..., 0], fringed[..., 2] = np.roll(photo[..., 0], 2, 0), np.roll(photo[..., 2], -2, 0)
    grey = np.full((96, 96, 3), 0.6, np.float32)
    result = analogy.synthesise(fringed, design, mask, grey, np.ones((96, 96), np.float32), seed=1)
    assert np.abs(rgb_to_lab(result)[..., 1:]).max() < 1.0


def test_thread_keeps_the_direction_of_a_reference_that_has_one() -> None:
    photo, design, mask = sewn_pair()
    y, x = np.mgrid[:260, :260]
    disc = (np.hypot(x - 130, y - 130) < 120).astype(np.float32)
    target = np.full((260, 260, 3), (0.3, 0.6, 0.4), dtype=np.float32)
    result = analogy.synthesise(photo, design, mask, target, disc, seed=2)

    def common(rgb: NDArray[np.float32], where: NDArray[np.bool_]) -> complex:
        along, coherence = orientation(rgb_to_lab(rgb)[..., 0], 8.0)
        return complex((coherence * np.exp(2j * along))[where].mean())

    wanted = common(photo, np.hypot(y[:224, :224] - 85, x[:224, :224] - 94) < 50)
    got = common(result, np.hypot(x - 130, y - 130) < 80)
    assert abs(np.angle(got * np.conj(wanted))) / 2 < np.deg2rad(25)
    assert abs(got) > 0.4 * abs(wanted)


def test_same_seed_same_picture_other_seed_another() -> None:
    pair = sewn_pair()
    target, cover = _target(160, 160)
    first, again, other = (
        analogy.synthesise(*pair, target, cover, seed=seed) for seed in (4, 4, 5)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_strips_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = sewn_pair()
    target = np.full((360, 200, 3), (0.3, 0.6, 0.4), dtype=np.float32)
    cover = np.ones(target.shape[:2], dtype=np.float32)
    monkeypatch.setattr(analogy, "STRIP_ROWS", 120)
    lightness = rgb_to_lab(analogy.synthesise(*pair, target, cover, seed=1))[..., 0]
    steps = np.abs(np.diff(lightness, axis=0)).mean(axis=1)
    usual = np.median(steps)
    for row in (119, 239):
        assert steps[row - 2 : row + 3].max() < 1.8 * usual


def test_no_part_of_the_reference_is_worn_out() -> None:
    pair = sewn_pair()
    target = np.full((400, 400, 3), (0.3, 0.6, 0.4), dtype=np.float32)
    cover = np.ones(target.shape[:2], dtype=np.float32)
    lightness = rgb_to_lab(analogy.synthesise(*pair, target, cover, seed=1))[..., 0]
    tiles = [
        lightness[y : y + 24, x : x + 24].ravel()
        for y in range(0, 376, 24)
        for x in range(0, 376, 24)
    ]
    assert len({tile.round(2).tobytes() for tile in tiles}) == len(tiles)


def test_thread_is_scaled_to_the_wanted_width() -> None:
    pair = sewn_pair(period=9.0)
    target, cover = _target(240, 240)
    result = analogy.synthesise(*pair, target, cover, seed=1, thread=6.0)
    assert thread_width(result, cover) == pytest.approx(6.0, rel=0.2)


@pytest.mark.parametrize("shape", [(64, 64), (70, 500), (33, 200)])
def test_any_size(shape: tuple[int, int]) -> None:
    target, cover = _target(*shape)
    result = analogy.synthesise(*sewn_pair(), target, cover, seed=1)
    assert result.shape == target.shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize("side", [24, 40, 64])
def test_a_reference_of_little_more_than_a_patch_is_enough(side: int) -> None:
    part = np.s_[80 : 80 + side, 80 : 80 + side]
    photo, design, _ = (each[part] for each in sewn_pair())
    target = np.full((260, 200, 3), (0.3, 0.6, 0.4), dtype=np.float32)
    cover = np.ones(target.shape[:2], dtype=np.float32)
    whole = np.ones((side, side), dtype=np.float32)
    result = analogy.synthesise(photo, design, whole, target, cover, seed=1)
    assert np.isfinite(result).all()
    assert _detail(result, cover).std() > 3.0


def test_nothing_to_embroider_leaves_the_picture() -> None:
    target, _ = _target(80, 80)
    result = analogy.synthesise(*sewn_pair(), target, np.zeros((80, 80)), seed=1)
    assert np.array_equal(result, target)


def test_reference_with_hardly_any_thread_is_refused() -> None:
    photo, design, _ = sewn_pair()
    mask = np.zeros(photo.shape[:2], dtype=np.float32)
    mask[100:104, 20:200] = 1.0
    target, cover = _target(80, 80)
    with pytest.raises(InputError, match="too little"):
        analogy.synthesise(photo, design, mask, target, cover, seed=1)


def test_relief_is_measured_and_laid_along_boundaries() -> None:
    y, x = np.mgrid[:160, :160]
    inside = np.hypot(x - 80, y - 80) < 60
    rgb = np.where(inside[..., None], (0.8, 0.2, 0.2), (0.2, 0.2, 0.8)).astype(np.float32)
    mask = np.ones((160, 160), dtype=bool)
    guides = make_guides(rgb, mask, make_palette(rgb, mask), thread=6.0)
    dark_rim = np.where(guides.distance < 0.7, -8.0, 0.0).astype(np.float32)
    profile = measure_shading(dark_rim, guides, thread=6.0)
    laid = apply_shading(profile, guides)
    assert laid[guides.distance < 0.4].mean() < -4.0
    assert abs(laid[guides.distance > 2.0].mean()) < 0.5


def test_a_neighbours_colour_beside_an_edge_is_no_thread() -> None:
    rng = np.random.default_rng(0)
    detail = rng.uniform(-6.0, 6.0, (64, 64)).astype(np.float32)
    detail[:, 31:33] = 60.0
    distance = np.abs(np.arange(64, dtype=np.float32) - 31.5)[None].repeat(64, 0) / 4.0
    cut = without_outlines(detail, np.ones((64, 64), bool), distance)
    assert 6.0 < cut.max() < 9.0
    np.testing.assert_array_equal(cut[:, :31], detail[:, :31])


def test_boundaries_tell_the_middle_of_a_wide_area_its_direction() -> None:
    thread, height = 4.0, 240
    y, x = np.mgrid[:height, :360].astype(np.float32)
    slant = np.deg2rad(20.0)
    across = -(x - 180) * np.sin(slant) + (y - 120) * np.cos(slant)
    distance = np.abs(np.abs(across) - 90.0) / thread  # a band 45 threads wide
    flow = boundary_flow(distance, thread)
    middle = flow[120, 180]
    assert np.hypot(*middle) > 0.8
    assert np.arctan2(middle[1], middle[0]) / 2 == pytest.approx(slant, abs=0.05)


def test_direction_turns_slowly_where_boundaries_disagree() -> None:
    y, x = np.mgrid[:240, :240].astype(np.float32)
    distance = np.abs(np.maximum(np.abs(x - 120), np.abs(y - 120)) - 100.0) / 4.0  # a square
    flow = boundary_flow(distance, 4.0)
    inside = flow[40:200, 40:200]
    step = np.hypot(*np.moveaxis(np.diff(inside, axis=1), -1, 0))
    assert step.max() < 0.2  # of 2, which would be a quarter turn from one pixel to the next


def test_threads_of_one_direction_do_not_follow_a_straight_motif() -> None:
    straight = np.zeros((80, 80))
    flow = np.zeros((80, 80, 2))
    flow[..., 0] = 1.0  # outlines run the same way
    lay = measure_lay(straight + 0.3, np.ones((80, 80)), flow)
    assert lay.follows < 0.6
    flow[:40, :, 0] = -1.0  # half of them do not
    lay = measure_lay(straight + 0.3, np.ones((80, 80)), flow)
    assert lay.follows == 0.0
    assert lay.common == pytest.approx(0.6)
    assert np.angle(complex(*lay.wanted(np.zeros(2)))) == pytest.approx(0.6)


def test_threads_along_a_round_motif_follow_it() -> None:
    y, x = np.mgrid[-40:40, -40:40] + 0.5
    tangent = np.arctan2(y, x) + np.pi / 2
    flow = np.dstack([np.cos(2 * tangent), np.sin(2 * tangent)])
    lay = measure_lay(tangent + 0.5, np.ones(tangent.shape), flow)
    assert lay.follows > 0.95
    assert lay.offset == pytest.approx(1.0, abs=1e-3)
    wanted = lay.wanted(flow[5, 60])
    turned = np.angle(complex(*wanted) * np.exp(-2j * (tangent[5, 60] + 0.5)))
    assert abs(turned) < 0.1


def test_relief_is_strongest_on_thread_neither_dark_nor_white() -> None:
    black, grey, light, white = relief_scale(np.array([5.0, 50.0, 75.0, 98.0]))
    assert black < grey < light
    assert 0.2 < white < 0.6 * light


@pytest.mark.parametrize("side", [300, 1500])
def test_an_area_is_sewn_in_one_stitch_though_the_photo_has_two(side: int) -> None:
    photo, design, mask = sewn_pair(period=5.0)
    coarse = sewn_pair(period=11.0)[0]
    half = photo.shape[1] // 2
    photo[:, half:] = coarse[:, half:]
    target = np.full((side, side, 3), design[mask > 0.5].mean(axis=0), dtype=np.float32)
    result = analogy.synthesise(photo, design, mask, target, np.ones((side, side)), seed=1)
    slopes = np.abs(np.diff(rgb_to_lab(result)[..., 0], axis=0))[10:-10, 10:-10]
    steep = cv2.resize(slopes, (side // 40,) * 2, interpolation=cv2.INTER_AREA)
    # Lightness changes about twice as quickly across the finer thread.
    assert steep.max() < 1.5 * steep.min()


def _rows(period: float, strength: float) -> NDArray[np.float32]:
    """Relief of level threads, (120, 120)."""
    rows = strength * np.sin(2 * np.pi * np.arange(120) / period)
    return np.repeat(rows[:, None], 120, axis=1).astype(np.float32)


def test_texture_tells_stitches_from_each_other_but_not_light_from_shade() -> None:
    fine, strong, coarse = (
        texture_of(relief, 24, 5.0)[60, 60]
        for relief in (_rows(5.0, 4.0), _rows(5.0, 12.0), _rows(11.0, 4.0))
    )
    assert np.abs(strong - fine).max() < 0.2
    assert np.abs(coarse - fine).max() > 1.0


def test_relief_where_light_fades_is_raised_but_no_blur_is_made_thread() -> None:
    relief = _rows(5.0, 6.0) * np.linspace(1.3, 0.8, 120, dtype=np.float32)
    relief[:, 100:] *= 0.01
    even = evened(relief, np.ones(relief.shape, bool), 10)
    strength = even.std(axis=0)
    assert strength[5:85].max() < 1.1 * strength[5:85].min()
    assert strength[110:].max() < 0.05 * strength[50]
