"""Windows over planes of any size: cover, blending, noise; encoding and decoding in windows."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from restyling import WINDOW, tiny_models

from backend.models.prediction import clean_of, noise_target
from backend.restyle import autoencode
from backend.restyle.conditions import Conditions
from backend.restyle.denoise import Words, denoise, invert, make_scheduler
from backend.restyle.windows import Blend, Windows, in_turn, noise_field, plan, tiles

T = TypeVar("T")


def _run(steps: Generator[None, None, T]) -> tuple[int, T]:
    """How often `steps` yields, and what it returns."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return count, value
        count += 1


@pytest.mark.parametrize("size", [(32, 32), (33, 32), (75, 131), (32, 1024)])
def test_windows_cover_every_cell_and_stay_inside(size: tuple[int, int]) -> None:
    grid = plan(*size, window=32, overlap=0.25)
    covered = np.zeros(size, dtype=int)
    for top, left in grid.spots:
        assert top >= 0
        assert left >= 0
        assert top + 32 <= size[0]
        assert left + 32 <= size[1]
        covered[top : top + 32, left : left + 32] += 1
    assert covered.min() >= 1
    lefts = sorted({left for _, left in grid.spots})
    assert all(b - a <= 24 for a, b in itertools.pairwise(lefts))


def test_only_windows_that_matter_are_computed() -> None:
    needed = np.zeros((200, 200), dtype=bool)
    needed[150:160, 20:40] = True
    grid = plan(200, 200, window=32, overlap=0.25, needed=needed)
    assert 0 < len(grid.spots) <= 6
    for top, left in grid.spots:
        assert needed[top : top + 32, left : left + 32].any()


@pytest.mark.parametrize("size", [(32, 32), (33, 40), (75, 131), (32, 256), (256, 256)])
def test_windows_in_turn_cover_every_cell_and_meet_in_each_others_middle(
    size: tuple[int, int],
) -> None:
    grids = in_turn(*size, window=32, overlap=0.25)
    for grid in grids:
        assert grid.covered().all()
        assert all(0 <= top <= size[0] - 32 for top, _ in grid.spots)
        assert all(0 <= left <= size[1] - 32 for _, left in grid.spots)
    overlapping = plan(*size, window=32, overlap=0.25)
    assert sum(len(grid.spots) for grid in grids) <= len(grids) * len(overlapping.spots)
    if len(grids) == 1:
        assert grids[0].spots == overlapping.spots
        return
    for axis in (0, 1):
        starts = [{spot[axis] for spot in grid.spots} for grid in grids]
        for border in (starts[0] | starts[1]) - {0}:
            # It is well within a window of the other grid, or of its own.
            assert any(8 <= border - start <= 24 for start in starts[0] | starts[1])
        bare = [{at for at in each if at and at - 32 in each} for each in starts]
        assert not bare[0] & bare[1]


def test_a_large_plane_is_looked_at_little_more_than_once_a_step() -> None:
    for side, most in ((128, 1.3), (256, 1.15), (512, 1.08)):
        grids = in_turn(side, side, window=32, overlap=0.25)
        looks = [len(grid.spots) * 32**2 / side**2 for grid in grids]
        assert max(looks) <= most
        every = Windows.over(np.ones((side, side), dtype=bool), 32, 0.25)
        assert [len(grid.spots) for grid in every.of(4)][:3] == [
            len(grids[i % 2].spots) for i in range(3)
        ]
        assert every.of(4)[-1].spots == plan(side, side, window=32, overlap=0.25).spots
        assert every.of(4, ends=False)[-1].spots == grids[1].spots
    assert every.of(0) == []


@pytest.mark.parametrize("size", [(32, 32), (32, 75), (128, 128), (40, 256)])
def test_tiles_cover_with_no_more_than_they_must(size: tuple[int, int]) -> None:
    grid = tiles(*size, window=32, overlap=4)
    assert grid.window <= 32
    assert grid.covered().all()
    assert len(grid.spots) * grid.window**2 <= len(plan(*size, 32, 0.25).spots) * 32**2
    for axis in (0, 1):
        starts = sorted({spot[axis] for spot in grid.spots})
        assert all(grid.window - (b - a) >= 3 for a, b in itertools.pairwise(starts))
    needed = np.zeros(size, dtype=bool)
    needed[0, -1] = True
    (spot,) = tiles(*size, window=32, overlap=4, needed=needed).spots
    assert spot[0] == 0
    assert spot[1] + grid.window == size[1]


def test_the_autoencoder_takes_larger_tiles_where_they_are_less_work() -> None:
    whole = Windows.over(np.ones((128, 128), dtype=bool), 32, 0.25)
    for grid in (whole.encoded, whole.decoded):
        assert grid.covered().all()
        assert len(grid.spots) * grid.window**2 < 1.15 * 128**2
    spots = np.zeros((128, 128), dtype=bool)
    spots[2:8, 2:8] = spots[-8:-2, -8:-2] = True
    apart = Windows.over(spots, 32, 0.25).decoded
    assert len(apart.spots) == 2
    assert apart.window <= 32
    assert apart.covered()[spots].all()


@pytest.mark.parametrize("kind", ["flat", "relief"])
def test_controlnets_look_once_at_a_design_and_see_what_windows_show(
    tiny_model: Path, kind: str
) -> None:
    models = tiny_models(tiny_model)
    rng = np.random.default_rng(0)
    design = np.repeat(np.repeat(rng.random((24, 40, 3)), 8, 0), 8, 1).astype(np.float32)
    conditions = Conditions(models, design, models.profile.kind(kind))
    calls = []
    look = models.controlnet_tile.controlnet_cond_embedding
    handle = look.register_forward_hook(lambda *_: calls.append(1))
    spots = ((5, 3), (16, 32), (13, 11))
    found = conditions(spots)
    count = len(calls)
    again = conditions(spots)
    assert len(calls) == count <= 12
    handle.remove()
    pictures = conditions._pictures(spots)
    for name in ("canny", "tile"):
        if getattr(pictures, f"{name}_scale") == 0.0:
            continue
        network = getattr(models, f"controlnet_{name}")
        # Within a window, as far from its border as a look reaches, both are the same.
        whole = network.controlnet_cond_embedding(getattr(pictures, name))
        inner = np.s_[:, :, 3:-3, 3:-3]
        assert torch.allclose(getattr(found, name)[inner], whole[inner], atol=1e-5)
        assert torch.equal(getattr(found, name), getattr(again, name))


def test_blend_of_agreeing_windows_is_exact_and_of_differing_ones_smooth() -> None:
    grid = plan(32, 120, window=32, overlap=0.5)
    plane = torch.randn(3, 32, 120, generator=torch.Generator().manual_seed(0))
    same, steps = Blend(grid, 3), Blend(grid, 1)
    for number, (top, left) in enumerate(grid.spots):
        same.add((top, left), plane[:, top : top + 32, left : left + 32])
        steps.add((top, left), torch.full((1, 32, 32), float(number % 2)))
    torch.testing.assert_close(same.mean(), plane, atol=1e-5, rtol=0.0)
    row = steps.mean()[0, 16]
    # A border between windows would show as a jump of up to 1 from one cell to the next.
    assert float(row.diff().abs().max()) < 0.15


def test_noise_depends_on_seed_and_position_only() -> None:
    small, large = noise_field(5, 4, 40, 90), noise_field(5, 4, 130, 200)
    assert torch.equal(small, large[:, :40, :90])
    assert not torch.equal(noise_field(6, 4, 40, 90), small)
    assert abs(float(large.mean())) < 0.02
    assert abs(float(large.std()) - 1.0) < 0.02
    correlation = torch.corrcoef(
        torch.stack([large[0, :64, :64], large[0, 64:128, :64]]).flatten(1)
    )
    assert abs(float(correlation[0, 1])) < 0.06


def test_padding_mirrors_to_whole_windows() -> None:
    image = np.random.default_rng(0).random((5, 77, 3)).astype(np.float32)
    padded = autoencode.pad(image, WINDOW, 8)
    assert padded.shape == (64, 80, 3)
    assert np.array_equal(padded[:5, :77], image)
    assert np.array_equal(padded[5], np.r_[image[4], image[4, -3:][::-1]])


def test_windowed_autoencoder_equals_the_whole_on_one_window_and_joins_on_more(
    tiny_model: Path,
) -> None:
    models = tiny_models(tiny_model)
    y, x = np.mgrid[:WINDOW, :160].astype(np.float32)
    rgb = np.dstack([x / 160, y / WINDOW, 0.5 + 0 * x]).astype(np.float32)

    def through(part: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        grid = plan(part.shape[0] // 8, part.shape[1] // 8, WINDOW // 8, 0.25)
        count, latents = _run(autoencode.encode(models, part, grid))
        assert count == len(grid.spots)
        return latents, _run(autoencode.decode(models, latents, grid))[1]

    latents, image = through(rgb[:, :WINDOW])
    whole = models.encode_image(autoencode.to_tensor(rgb[:, :WINDOW]))[0]
    assert torch.equal(latents, whole)
    assert np.array_equal(image, models.decode(whole[None])[0].permute(1, 2, 0).numpy())
    _, wide = through(rgb)
    assert wide.shape == rgb.shape
    jumps = np.abs(np.diff(wide, axis=1)).max(axis=(0, 2))
    smooth = np.abs(np.diff(image, axis=1)).max()
    assert jumps.max() <= 1.5 * smooth + 1e-3


def test_what_other_latents_show_is_taken_off(tiny_model: Path) -> None:
    models = tiny_models(tiny_model)
    cells, longer = WINDOW // models.factor, 2 * WINDOW // models.factor - 3
    grid = plan(cells, longer, cells, 0.25)
    first, second = noise_field(0, 4, cells, longer), noise_field(1, 4, cells, longer)
    (_, one), (_, two) = (_run(autoencode.decode(models, each, grid)) for each in (first, second))
    count, found = _run(autoencode.decode(models, first, grid, second))
    assert count == 2 * len(grid.spots)
    np.testing.assert_allclose(found, one - two, atol=1e-5)


def test_inversion_leads_back_to_the_picture_and_noise_does_not(tiny_model: Path) -> None:
    models = tiny_models(tiny_model)
    grid = plan(8, 20, window=models.profile.window // models.factor, overlap=0.25)
    clean = torch.randn(4, 8, 20, generator=torch.Generator().manual_seed(0))
    text = models.encode_prompts(["a cup in [emb] style"])
    words = Words(style=text, plain=None, negative=None, blocks=())
    scheduler = make_scheduler(models, 40)
    times = [int(t) for t in scheduler.timesteps[20:]]
    grids = [grid] * len(times)

    def back(noisy: torch.Tensor) -> float:
        _, result = _run(
            denoise(models, noisy, grids, scheduler, times, words, 1.0, lambda _: None)
        )
        return float((result - clean).square().mean())

    _, inverted = _run(invert(models, clean, grids, times, words, lambda _: None))
    noise = noise_field(0, 4, 8, 20)
    noisy = scheduler.add_noise(clean, noise, torch.tensor([times[0]]))
    assert back(inverted) < 0.1 * back(noisy)


def test_planes_on_the_cpu_go_with_a_model_on_another_device(tiny_model: Path) -> None:
    models = tiny_models(tiny_model)
    plane, output = noise_field(0, 4, 8, 8), noise_field(1, 4, 8, 8)
    here = clean_of(models, plane, output, 300)
    models.device = torch.device("meta")  # as strict as a GPU about what it is multiplied with
    torch.testing.assert_close(clean_of(models, plane, output, 300), here, rtol=0.0, atol=0.0)


# Diffusers' solver hands NumPy 2 tensors in a way that torch warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_dpm_solver_is_nearer_to_the_limit_of_many_steps_than_ddim(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tiny_models(tiny_model)
    spread = 0.5  # of latents, were they Gaussian: then the best prediction and the limit are known

    def best(_: Any, noisy: torch.Tensor, timestep: int, *__: Any) -> torch.Tensor:
        a = models.alphas()[timestep]
        clean = a.sqrt() * spread**2 / (a * spread**2 + 1.0 - a) * noisy
        noise = (noisy - a.sqrt() * clean) / (1.0 - a).sqrt()
        return noise_target(models, clean, noise, timestep)

    monkeypatch.setattr("backend.restyle.denoise.predict", best)
    grid = plan(8, 8, window=models.profile.window // models.factor, overlap=0.25)
    text = models.encode_prompts(["a cup in [emb] style"])
    words = Words(style=text, plain=None, negative=None, blocks=())
    noisy = noise_field(0, 4, 8, 8)

    def missed(sampler: str, steps: int) -> float:
        scheduler = make_scheduler(models, steps, sampler)
        times = [int(t) for t in scheduler.timesteps[steps // 2 :]]
        a = models.alphas()[times[0]]
        limit = spread / (a * spread**2 + 1.0 - a).sqrt() * noisy
        grids = [grid] * len(times)
        work = denoise(models, noisy, grids, scheduler, times, words, 1.0, lambda _: None)
        return float((_run(work)[1] - limit).norm() / limit.norm())

    assert missed("dpm++", 20) < missed("ddim", 30) < 0.1
