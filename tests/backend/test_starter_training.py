"""Training of the starter on its tiny twin: losses fall, runs resume to the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.starter.architecture import CONTROLNETS, STARTER, TINY, build, save
from backend.starter.autoencoder import autoencoder_loss, psnr, random_textures
from backend.starter.data import Corpus
from backend.starter.diffusion import TRAINED, diffusion_loss
from backend.starter.latents import LatentCorpus, make_latents
from backend.starter.linear_start import linear_start
from backend.starter.runs import patches_of
from backend.starter.samples import redraw
from backend.starter.training import Budget, fit


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    flats = np.repeat(np.repeat(rng.integers(0, 255, (4, 4, 4, 3)), 16, 1), 16, 2)
    textiles = np.clip(flats + rng.normal(0, 25, flats.shape), 0, 255)
    notes = [{"flat": "a cup, flat design", "textile": "a cup, satin embroidery"}] * 4
    return Corpus(flats.astype(np.uint8), textiles.astype(np.uint8), notes)


@pytest.fixture(scope="module")
def latents(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> LatentCorpus:
    folder = tmp_path_factory.mktemp("latents")
    done = list(make_latents(build(TINY, 0)["vae"], corpus, folder, batch=3))
    assert done == [3, 4]
    return LatentCorpus.load(folder)


def _train(folder: Path, latents: LatentCorpus, *steps: int) -> dict[str, Any]:
    """Train a fresh tiny model, once for each number of steps, going on each time."""
    for until in steps:
        parts = build(TINY, 1)
        loss = diffusion_loss(parts, latents, batch=4)
        modules = {name: parts[name] for name in TRAINED}
        reports = list(fit(modules, loss, Budget(steps=until), folder / "unet.pt", seed=5))
        assert all(np.isfinite(report.loss) for report in reports)
        assert reports[-1].step == until
    state: dict[str, Any] = torch.load(folder / "unet.pt", weights_only=True)
    return state


def test_latents_hold_scale_edges_and_blur(corpus: Corpus, latents: LatentCorpus) -> None:
    values = np.asarray(latents.textiles, np.float32) * latents.scale
    assert values.std() == pytest.approx(1, abs=0.02)
    assert set(np.unique(latents.edges)) == {0, 1}
    middle = np.abs(np.asarray(latents.tiles, float) - corpus.flats)[:, 8:56:16, 8:56:16]
    assert middle.max() < 12  # colours kept away from edges


def test_two_runs_are_equal_and_resuming_changes_nothing(
    latents: LatentCorpus, tmp_path: Path
) -> None:
    budgeted = tmp_path / "one"
    one, two = _train(budgeted, latents, 4), _train(tmp_path / "two", latents, 4)
    for part, weights in one["average"].items():
        for name, value in weights.items():
            assert torch.equal(value, two["average"][part][name]), name
    again = _train(budgeted, latents, 4 + 1)  # one more step than the finished run
    assert again["step"] == 5
    assert again["generators"][0].ne(one["generators"][0]).any()


def test_interrupted_run_goes_on_exactly(latents: LatentCorpus, tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", latents, 4)
    parts = build(TINY, 1)
    modules = {name: parts[name] for name in TRAINED}
    path = tmp_path / "cut" / "unet.pt"
    run = fit(
        modules, diffusion_loss(parts, latents, batch=4), Budget(steps=4), path, seed=5, every=0.0
    )
    next(run), next(run)
    run.close()
    assert torch.load(path, weights_only=True)["step"] == 2
    rest = _train(tmp_path / "cut", latents, 4)
    for part, weights in whole["modules"].items():
        for name, value in weights.items():
            assert torch.equal(value, rest["modules"][part][name]), name


def test_a_spent_budget_trains_no_further(latents: LatentCorpus, tmp_path: Path) -> None:
    _train(tmp_path, latents, 2)
    parts = build(TINY, 1)
    modules = {name: parts[name] for name in TRAINED}
    loss = diffusion_loss(parts, latents, batch=4)
    assert not list(fit(modules, loss, Budget(steps=2), tmp_path / "unet.pt", seed=5))


def test_every_trained_part_gets_gradients(latents: LatentCorpus) -> None:
    parts = build(TINY, 1)
    torch.nn.init.normal_(parts["unet"].conv_out.weight, generator=torch.Generator().manual_seed(0))
    loss = diffusion_loss(parts, latents, batch=4)
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):  # which ControlNets take part is drawn anew each time
        torch.autograd.backward(loss(generator))
    for name in TRAINED:
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in parts[name].parameters())


def test_controlnets_alone_learn_from_every_batch(latents: LatentCorpus) -> None:
    parts = build(TINY, 1)
    for name in TRAINED:
        parts[name].requires_grad_(name in CONTROLNETS)
    loss = diffusion_loss(parts, latents, batch=2, part="controlnets")
    generator = torch.Generator().manual_seed(0)
    assert all(loss(generator).requires_grad for _ in range(30))


def test_autoencoder_learns(corpus: Corpus, tmp_path: Path) -> None:
    vae = build(TINY, 0)["vae"]
    before = _quality(vae, corpus)
    loss = autoencoder_loss(vae, corpus, batch=4, crop=32)
    reports = list(
        fit({"vae": vae}, loss, Budget(steps=120), tmp_path / "vae.pt", seed=0, rate=5e-3)
    )
    assert all(np.isfinite(report.loss) for report in reports)
    assert _quality(vae, corpus) > before + 1


def test_decoder_alone_learns_and_latents_stay(corpus: Corpus, tmp_path: Path) -> None:
    vae = build(TINY, 2)["vae"]
    pixels = torch.from_numpy(corpus.textiles[:1]).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist.mode()
    quality = _quality(vae, corpus)
    loss = autoencoder_loss(vae, corpus, batch=4, crop=32, decoder=True)
    list(fit({"vae": vae}, loss, Budget(steps=60), tmp_path / "vae.pt", seed=0, average=0.9))
    with torch.no_grad():
        assert torch.equal(vae.encode(pixels).latent_dist.mode(), before)
    assert _quality(vae, corpus) > quality + 1


def _quality(vae: Any, corpus: Corpus) -> float:
    pictures = torch.from_numpy(np.array(corpus.flats)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pictures * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
    return float(psnr(decoded, pictures).mean())


def test_linear_start_is_a_codec_from_the_first_step(corpus: Corpus) -> None:
    """Patches of one colour come back in that colour before any training."""
    vae = build(STARTER, 0)["vae"]
    linear_start(vae, patches_of(corpus, pictures=8))
    assert _quality(vae, corpus) > 18


def test_random_textures_differ_and_stay_in_range() -> None:
    first, second = (random_textures(np.random.default_rng(n), 32) for n in (0, 1))
    assert first.shape == (3, 32, 32)
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first - second).abs().mean() > 0.02


def test_redraw_gives_one_picture_a_caption_and_repeats() -> None:
    parts = build(TINY, 0)
    flat = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    one, two = (redraw(parts, flat, ["a cup", ""], steps=2, seed=3) for _ in range(2))
    assert one.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(one, two)


def test_half_precision_files_leave_the_model_as_it_was(tmp_path: Path) -> None:
    parts = build(TINY, 0)
    before = parts["unet"].conv_in.weight.clone()
    save(parts, tmp_path, half=True)
    assert torch.equal(parts["unet"].conv_in.weight, before)
