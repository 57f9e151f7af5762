"""The composer: motifs by name, its training, and how words become embroidery with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from restyling import collect, tiny_models, tiny_style

from backend.errors import InputError, ProfileError
from backend.imaging.colour import delta_e, rgb_to_lab
from backend.jobs import GenerateJob
from backend.models import profiles
from backend.models.composer import with_composer
from backend.models.loading import Models, load
from backend.models.motif_words import wording
from backend.progress import outcome
from backend.restyle.composed import compose, drawn_flat
from backend.restyle.text import generate
from backend.starter import motifs as listed
from backend.starter.architecture import TINY, build
from backend.starter.composing import (
    COMPOSER,
    MotifCorpus,
    composing_loss,
    make_motifs,
    save_composer,
)
from backend.starter.designs import COLOURS, Icon, load_icons
from backend.starter.motifs import CHARACTERS, TINTS, Motif, motifs, recoloured
from backend.starter.muon import muon_and_adamw
from backend.starter.training import Budget, fit


def _disc(colour: tuple[float, float, float], side: int = 32) -> Motif:
    """A disc with a black eye and a white glint."""
    y, x = np.mgrid[:side, :side]
    rgba = np.zeros((side, side, 4), np.float32)
    rgba[np.hypot(y - side / 2, x - side / 2) < 0.4 * side] = (*colour, 1.0)
    rgba[10:13, 10:13] = (0.03, 0.03, 0.03, 1.0)
    rgba[10:13, 19:22] = (1.0, 1.0, 1.0, 1.0)
    return Motif("ball", rgba)


def _near(rgb: np.ndarray, colour: tuple[float, ...]) -> float:
    return float(delta_e(rgb_to_lab(rgb[None, None]), rgb_to_lab(np.float32([[colour]])))[0, 0])


@pytest.mark.parametrize("tint", ["blue", "yellow", "black", "white"])
@pytest.mark.parametrize("own", [(0.9, 0.1, 0.1), (0.95, 0.95, 0.95)])
def test_a_motif_takes_a_colour_and_keeps_its_eyes(
    own: tuple[float, float, float], tint: str
) -> None:
    plain, made = recoloured(_disc(own)), recoloured(_disc(own), tint)
    assert _near(plain[16, 16], own) < 1.0
    assert _near(made[16, 16], COLOURS[tint]) < 4.0
    assert np.allclose(made[11, 11], plain[11, 11], atol=2e-3)
    assert np.allclose(made[0], plain[0], atol=2e-3)


def test_names_are_words_for_icons_that_training_may_see(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    names = [line.rpartition(" ") for line in listed.LIST.read_text("utf-8").splitlines()]
    body = '<rect x="4" y="8" width="24" height="12" fill="#c22"/>'
    path = tmp_path / "icons.json"
    path.write_text(json.dumps({"icons": {n[2]: {"body": body} for n in names}, "width": 32}))
    icons = load_icons([path])
    drawn = list(motifs(icons, 64))
    assert len({each.name for each in drawn}) == len(drawn) == len(names) + len(CHARACTERS)
    rows, columns = np.nonzero(drawn[0].rgba[..., 3] > 0.5)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (50, 25)  # 0.78 of the side, in the middle
    assert abs(rows.mean() - 31.5) <= 0.5
    letter, digit = drawn[-36].rgba, drawn[-1].rgba
    assert (drawn[-36].name, drawn[-1].name) == ("letter a", "number 9")
    assert 0.1 < (letter[..., 3] > 0.5).mean() < 0.4
    assert not np.array_equal(letter, digit)
    with pytest.raises(InputError, match="missing or held out"):
        list(motifs([Icon("teapot", icons[0].svg)], 64))


def _folder(tmp_path: Path, tiny_model: Path) -> tuple[Models, MotifCorpus, Path]:
    """The tiny model with a composer that was trained on two motifs for a moment."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    models = tiny_models(folder)
    assert models.composer is None
    pair = [_disc((0.9, 0.1, 0.1)), replace(_disc((0.1, 0.1, 0.9)), name="planet")]
    for _ in make_motifs(models, pair, tmp_path / "motifs"):
        pass
    return models, MotifCorpus.load(tmp_path / "motifs"), folder


def test_training_lowers_the_loss_and_what_is_saved_draws(tmp_path: Path, tiny_model: Path) -> None:
    _, corpus, folder = _folder(tmp_path, tiny_model)
    assert corpus.latents.shape[0] == 2 * (len(TINTS) + 1)
    assert wording(*corpus.notes[1]) == "a red ball"
    parts = build(replace(TINY, window=32), 0)
    loss = composing_loss(parts, corpus, batch=8)
    trained = {name: parts[name] for name in COMPOSER}

    @torch.no_grad()
    def error() -> float:
        return float(torch.stack([loss(torch.Generator().manual_seed(k)) for k in range(8)]).mean())

    before = error()
    budget = Budget(steps=45)
    run = fit(trained, loss, budget, tmp_path / "c.pt", seed=0, optimisers=muon_and_adamw)
    assert [each.step for each in run] == list(range(1, 46))
    assert error() < 0.85 * before
    assert save_composer(parts, corpus, folder / "composer") > 0

    models = tiny_models(folder)
    composer = with_composer(models, folder / "composer")
    assert composer.vae is models.vae
    first, second = outcome(compose(composer, ["a red ball", "a planet"], 3, steps=4))
    assert first.shape == (32, 32, 3)
    assert not np.array_equal(first, second)
    (again,) = outcome(compose(composer, ["a red ball"], 3, steps=4))
    assert again.shape == first.shape

    job = GenerateJob(style="s", prompt="a red ball", out="o", height=72, width=100, steps=3)
    seen, image = collect(generate(models, tiny_style(models), job))
    assert image.shape == (72, 100, 3)
    assert {each.stage for each in seen} >= {"composing", "embroidering", "decoding"}
    assert torch.equal(models.unet.conv_in.weight, tiny_models(folder).unet.conv_in.weight)


def test_a_damaged_composer_is_named(tmp_path: Path, tiny_model: Path) -> None:
    _, corpus, folder = _folder(tmp_path, tiny_model)
    save_composer(build(TINY, 0), corpus, folder / "composer")
    (folder / "composer" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    with pytest.raises(ProfileError, match="composer cannot be read"):
        with_composer(tiny_models(folder), folder / "composer")


def test_a_composed_motif_becomes_even_colours_and_a_mask() -> None:
    soft = np.clip(
        recoloured(_disc((0.9, 0.1, 0.1), 64))
        + np.random.default_rng(0).normal(0, 0.01, (64, 64, 3)).astype(np.float32),
        0.0,
        1.0,
    )
    flat, art = drawn_flat(soft, 128, 200)
    assert flat.shape == (128, 200, 3)
    assert 0.3 < art[:, 36:164].mean() < 0.6
    assert not art[:, :30].any()
    assert flat[64, 110].std() > 0.2
    assert np.ptp(flat[art == 0], axis=0).max() < 1e-6
    assert _near(flat[64, 110], (0.9, 0.1, 0.1)) < 5.0


@pytest.mark.parametrize("rim", [False, True])
def test_soft_edges_are_sewn_in_the_colour_further_in(rim: bool) -> None:
    y, x = np.mgrid[:64, :64]
    inside = np.hypot(y - 31.5, x - 31.5) < 24
    linen, red = np.float32([0.86, 0.84, 0.79]), np.float32([0.82, 0.13, 0.14])
    picture = cv2.GaussianBlur(np.where(inside[..., None], red, linen), (0, 0), 1.5)
    if rim:  # as the composer draws beside strong colours
        beside = np.abs(np.hypot(y - 31.5, x - 31.5) - 27) < 1.5
        picture = np.where(beside[..., None], np.float32([0.93, 0.91, 0.86]), picture)
    picture[2:4, 2:4] = 1.0  # a speck
    flat, art = drawn_flat(picture, 256, 256)
    assert art.mean() == pytest.approx(inside.mean(), rel=0.06)
    assert not art[:24, :24].any()
    away = delta_e(rgb_to_lab(flat), rgb_to_lab(np.tile(red, (256, 256, 1))))[art > 0]
    assert np.quantile(away, 0.95) < 8.0
    assert len(np.unique(art)) > 10  # no steps along the outline


def test_the_shipped_composer_draws_what_it_is_asked_for() -> None:
    models = load(replace(profiles.get("starter"), cpu_dtype="float32"))
    assert models.composer is not None
    composer = with_composer(models, models.composer)
    asked = ["a red heart", "a blue heart", "a blue letter b", "a yellow car"]
    red, blue, letter, car = outcome(compose(composer, asked, 5))
    for picture, name in ((red, "red"), (blue, "blue")):
        middle = picture[60:68, 60:68].mean(axis=(0, 1))
        assert min(TINTS, key=lambda each: _near(middle, COLOURS[each])) == name
    shapes = [drawn_flat(each, 128, 128)[1] > 0 for each in (red, blue, letter, car)]
    alike = [(shapes[0] & each).sum() / (shapes[0] | each).sum() for each in shapes]
    assert alike[1] > 0.85 > 0.75 > max(alike[2:])
    (again,) = outcome(compose(composer, asked[:1], 5))
    assert np.allclose(again, red, atol=2e-3)
