"""The paper's other tasks: their pairs, their styles, and what does not go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from restyling import collect, finish, tiny_style

from backend import jobs, tasks
from backend.batch.manifest import read_manifest
from backend.emolora import candidates, pair
from backend.emolora.analysis import analyse
from backend.emolora.designs import design_passes
from backend.emolora.encoded import encode
from backend.emolora.sampling import controls_of
from backend.emolora.training import train
from backend.engine import Engine
from backend.errors import InputError, StitchworkError
from backend.evaluation.task_examples import EXAMPLES, make_examples
from backend.evaluation.task_inputs import draw_inputs
from backend.imaging.edges import canny
from backend.imaging.files import write_png
from backend.imaging.lines import drawing, edge_lines, on_paper, soft_edges
from backend.jobs import AnalyseJob, GenerateJob, Progress, RestyleJob, TrainJob
from backend.models import profiles
from backend.models.loading import Models
from backend.progress import outcome
from backend.restyle.conditions import Conditions
from backend.restyle.image import restyle
from backend.restyle.text import generate
from backend.styles import Style

OTHERS = ("painting", "sketch", "appearance")
LINES = ("sketch", "appearance")


def _of_task(models: Models, task: str) -> Models:
    return replace(models, profile=tasks.get(task).settings(models.profile))


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """A picture to learn from: an orange disc with fine stripes on blue, all of it the motif."""
    y, x = np.mgrid[0:200, 0:200]
    disc = np.hypot(x - 100, y - 100) < 70
    stripes = 0.85 + 0.15 * np.sin(2 * np.pi * x / 6.0)
    picture = np.where(disc[..., None], (0.95, 0.6, 0.1), (0.2, 0.3, 0.8)) * stripes[..., None]
    path = tmp_path / "coloured.png"
    Image.fromarray(np.round(picture * 255).astype(np.uint8)).save(path)
    return path


def test_tasks_are_those_of_the_jobs() -> None:
    assert tasks.names() == jobs.TASKS
    for name in ("starter", "sdxl"):
        profile = profiles.get(name)
        assert tasks.get("embroidery").settings(profile) is profile
        words = set()
        for task in OTHERS:
            once = tasks.get(task).settings(profile)
            assert tasks.get(task).settings(once) == once
            # The paper's kinds are those of embroidery.
            assert once.flat == once.relief
            assert once.prompts("dog")[1] == f"a dog {once.trigger}"
            words.add(once.trigger)
        assert len(words) == 3


def test_the_pair_of_a_painting_is_the_same_scene_smooth(
    tiny_models: Models, coloured: Path
) -> None:
    models = _of_task(tiny_models, "painting")
    made = outcome(pair.pair_steps(models, str(coloured)))
    window = models.profile.window
    assert made.design.shape == made.embroidery.shape == (window, window, 3)
    assert made.mask.min() == 1.0  # no cloth is looked for
    inside = np.s_[26:38, 26:38]
    assert made.design[inside].std() < made.embroidery[inside].std()
    assert made.design[inside].mean((0, 1)) == pytest.approx(
        made.embroidery[inside].mean((0, 1)), abs=0.05
    )
    # A photo of the scene, if there is one, is the design itself.
    photo = coloured.with_name("photo.png")
    Image.fromarray(np.full((200, 200, 3), (0, 200, 0), np.uint8)).save(photo)
    made = outcome(pair.pair_steps(models, str(coloured), design=str(photo)))
    assert made.design.mean((0, 1)) == pytest.approx((0.0, 200 / 255, 0.0), abs=0.02)
    assert made.mask.min() == 1.0


@pytest.mark.parametrize("task", LINES)
def test_the_pair_of_lines_is_the_references_canny_map(
    tiny_models: Models, coloured: Path, task: str
) -> None:
    models = _of_task(tiny_models, task)
    made = outcome(pair.pair_steps(models, str(coloured)))
    assert set(np.unique(made.design)) == {0.0, 1.0}
    inference = models.profile.inference
    low, high = inference.canny_low, inference.canny_high
    expected = edge_lines(made.embroidery, low, high, models.profile.window)
    assert np.array_equal(made.design, expected)
    # The outline is there, and the stripes are left to the style.
    y, x = np.mgrid[0:64, 0:64]
    distance = np.abs(np.hypot(x - 31.5, y - 31.5) - 70 * 64 / 200)
    lines = made.design[..., 0] > 0
    assert lines[distance < 2.0].sum() > 80
    assert not lines[distance > 4.0].any()
    # The ControlNet sees these very lines, alone, in training as in complementary pairs.
    encoded = encode(models, made, models.profile.prompts())
    assert encoded.controls is not None
    assert encoded.controls.tile_scale == 0.0
    assert np.array_equal(encoded.controls.canny[0, 0].numpy(), made.design[..., 0])
    for each in candidates.candidates_of(models, 0):
        assert each.design is not None
        assert set(np.unique(each.design)) == {0.0, 1.0}


def test_models_draw_no_lines_but_paint_no_photo_alone(tiny_models: Models, coloured: Path) -> None:
    settings = replace(tiny_models.profile.pair, maker="models")
    tiny_models.profile = replace(tiny_models.profile, pair=settings)
    assert design_passes(_of_task(tiny_models, "sketch")) == 1
    painting = _of_task(tiny_models, "painting")
    assert "photo" in painting.profile.pair.prompt
    assert "painting" in painting.profile.pair.negative
    made = outcome(pair.pair_steps(painting, str(coloured)))
    plain = outcome(pair.pair_steps(_of_task(tiny_models, "sketch"), str(coloured)))
    assert np.array_equal(made.embroidery, plain.embroidery)
    assert made.design.std() > 0.0


def _sketch(light_on_dark: bool = False) -> np.ndarray:
    ground, ink = ((20, 20, 30), (240, 240, 230)) if light_on_dark else ((245, 240, 230), (30,) * 3)
    image = Image.new("RGB", (96, 80), ground)
    ImageDraw.Draw(image).ellipse((16, 12, 80, 68), outline=ink, width=2)
    return np.asarray(image, dtype=np.float32) / np.float32(255.0)


def test_a_sketch_is_read_as_its_lines_whatever_the_paper() -> None:
    dark, light = drawing(_sketch()), drawing(_sketch(light_on_dark=True))
    assert np.array_equal(dark > 0.5, light > 0.5)
    assert 0.02 < (dark > 0.5).mean() < 0.1
    assert dark[40, 48].max() == 0.0
    clear = np.dstack([np.zeros_like(dark), dark[..., 0]])  # black strokes on nothing
    assert np.array_equal(drawing(on_paper(clear)[..., :3]) > 0.5, dark > 0.5)
    assert drawing(np.full((8, 8, 3), 0.4, np.float32)).max() == 0.0


def test_outlines_are_found_softly_and_texture_is_not() -> None:
    y, x = np.mgrid[0:1100, 0:90]
    texture = 0.05 * np.sin(2 * np.pi * x / 4.0)
    picture = np.where(x < 40, 0.7, 0.2) + np.where((y < 550) & (x > 64), 0.15, 0.0) + texture
    rgb = np.clip(np.repeat(picture[..., None], 3, 2), 0, 1).astype(np.float32)
    found = soft_edges(rgb, 256)[..., 0]
    assert found[:, 38:42].max(axis=1).min() > 0.9
    faint = found[100:500, 62:68].max(axis=1)
    assert 0.0 < np.median(faint) < 0.6
    assert found[600:, 50:].max() == 0.0
    # Strips leave no seam, and a larger window is looked at from further away.
    rows = np.unique(found[600:1090], axis=0)
    assert len(rows) == 1
    assert soft_edges(rgb, 1024).shape == rgb.shape


def test_lines_reach_the_controlnet_as_they_are(tiny_models: Models) -> None:
    models = _of_task(tiny_models, "sketch")
    design = drawing(_sketch())[:64, :64].copy()
    design[10, 10] = 0.5
    conditions = Conditions(models, design, models.profile.flat)._pictures(((0, 0),))
    assert np.allclose(conditions.canny[0, 0].numpy(), design[..., 0], atol=0.003)
    assert torch.equal(
        controls_of(models, design, 1.0, 0.0).canny[0, 1], torch.from_numpy(design[..., 0])
    )
    plain = controls_of(tiny_models, design, 1.0, 0.0).canny[0, 0].numpy()
    assert np.array_equal(plain, canny(design))


@pytest.mark.parametrize("task", OTHERS)
def test_each_task_is_trained_and_restyles(
    tiny_models: Models, coloured: Path, tmp_path: Path, task: str
) -> None:
    out = tmp_path / "style"
    job = TrainJob(
        reference=str(coloured), out=str(out), task=task, subject="disc", steps_one=2, steps_two=2
    )
    before = tiny_models.profile
    finish(train(job, tiny_models))
    assert tiny_models.profile is before
    style = Style.load(out)
    profile = tasks.get(task).settings(before)
    assert (style.task, style.kind) == (task, "flat")
    assert style.prompts.embroidery == profile.prompts("disc")[1]
    assert style.plot is not None  # the blocks were measured
    assert style.preview is not None
    assert json.loads((out / "style.json").read_text())["task"] == task
    assert style.designed == ("smoothed" if task == "painting" else "lines")
    rgba = np.dstack([_sketch(), np.ones((80, 96), np.float32)])
    request = RestyleJob(style=str(out), input="a.png", out="b.png", task=task)
    made = finish(restyle(tiny_models, style, rgba, None, request))
    assert made.shape == rgba.shape
    assert np.isfinite(made).all()
    assert not np.array_equal(made, rgba)
    # The task belongs to the style: as embroidery the same weights give another picture.
    other = finish(restyle(tiny_models, replace(style, task="embroidery"), rgba, None, request))
    assert not np.array_equal(made, other)


def test_sketch_and_appearance_differ_in_what_they_read(tiny_models: Models) -> None:
    style = tiny_style(tiny_models)
    request = RestyleJob(style="s", input="a.png", out="b.png")
    rgba = np.dstack([_sketch(), np.ones((80, 96), np.float32)])
    inverted = np.dstack([1.0 - _sketch(), np.ones((80, 96), np.float32)])
    made = {
        task: [
            finish(restyle(tiny_models, replace(style, task=task), each, None, request))
            for each in (rgba, inverted)
        ]
        for task in LINES
    }
    assert np.abs(made["sketch"][0] - made["sketch"][1]).mean() < 0.02
    assert not np.array_equal(made["sketch"][0], made["appearance"][0])


def test_an_analysis_measures_the_tasks_pair(
    tiny_models: Models, coloured: Path, tmp_path: Path
) -> None:
    job = AnalyseJob(reference=str(coloured), out=str(tmp_path / "a"), task="sketch")
    _, result = collect(analyse(job, tiny_models))
    data = json.loads(Path(result.outputs["analysis"]).read_text())
    assert data["task"] == "sketch"
    with Image.open(tmp_path / "a" / "design.png") as design:
        assert set(np.unique(np.asarray(design))) == {0, 255}


@pytest.mark.parametrize("task", LINES)
@pytest.mark.parametrize("kind", [TrainJob, AnalyseJob])
def test_lines_are_not_given(
    coloured: Path, tiny_model: Path, tmp_path: Path, task: str, kind: Callable[..., Any]
) -> None:
    job = kind(
        reference=str(coloured),
        design=str(coloured),
        out=str(tmp_path / "o"),
        task=task,
        base=str(tiny_model),
    )
    with pytest.raises(InputError, match=f"{task} takes the lines"):
        next(Engine().run(job))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("blocks", ["down_blocks.9.attentions.0,mid_block.attentions.0", ",", ""])
def test_an_unknown_block_is_refused_before_any_model_is_loaded(
    coloured: Path, tmp_path: Path, blocks: str
) -> None:
    job = TrainJob(
        reference=str(coloured), out=str(tmp_path / "o"), blocks=blocks, base=str(tmp_path / "none")
    )
    with pytest.raises(InputError, match="there is no block") as caught:
        next(Engine().run(job))
    assert "up_blocks.1.attentions.2" in caught.value.remedy
    assert "mid_block" not in caught.value.message
    for known in ("auto", "paper", "all", "mid_block.attentions.0, up_blocks.0.attentions.1"):
        tasks.check_reference(replace(job, blocks=known))


def _restyle(**fields: Any) -> RestyleJob:
    return RestyleJob(style="s", input="a.png", out="b.png", **fields)


@pytest.mark.parametrize(
    ("job", "task", "message"),
    [
        (_restyle(task="painting"), "sketch", "is of sketch, not of painting"),
        (_restyle(task="sketch"), "embroidery", "is of embroidery, not of sketch"),
        (_restyle(embroidery="relief"), "painting", "relief is a kind of embroidery"),
        (_restyle(start="preview"), "appearance", "sews artwork"),
        (GenerateJob(style="s", prompt="a dog", out="b.png"), "sketch", "words give none"),
    ],
)
def test_what_does_not_suit_a_style_is_refused(
    tiny_models: Models, tmp_path: Path, job: RestyleJob | GenerateJob, task: str, message: str
) -> None:
    replace(tiny_style(tiny_models), task=task).save(tmp_path / "s")
    Image.new("RGB", (70, 70), "red").save(tmp_path / "a.png")
    paths: dict[str, Any] = {"style": str(tmp_path / "s"), "out": str(tmp_path / "b.png")}
    if isinstance(job, RestyleJob):
        paths["input"] = str(tmp_path / "a.png")
    with pytest.raises(StitchworkError, match=message) as caught:
        next(Engine().run(replace(job, **paths)))
    assert caught.value.remedy


def test_what_suits_a_style_is_not_refused(tiny_models: Models) -> None:
    tasks.check_style(_restyle(embroidery="relief", start="preview"), "s", "embroidery")
    tasks.check_style(_restyle(task="painting", start="preview"), "s", "painting")
    tasks.check_style(_restyle(), "s", "sketch")
    style = replace(tiny_style(tiny_models), task="painting")
    job = GenerateJob(style="s", prompt="a dog", out="b.png", steps=1)
    tasks.check_style(job, "s", style.task)
    assert finish(generate(tiny_models, style, job)).shape == (64, 64, 3)


def test_a_transparent_sketch_is_coloured_all_over(
    tiny_models: Models, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(tiny_style(tiny_models), task="sketch").save(tmp_path / "s")
    strokes = np.dstack([np.zeros_like(_sketch()), (_sketch().mean(axis=2) < 0.5)])
    Image.fromarray((strokes * 255).astype(np.uint8)).save(tmp_path / "a.png")
    engine = Engine()
    monkeypatch.setattr(Engine, "_load", lambda *_, **__: _given(tiny_models))
    job = replace(_restyle(), style=str(tmp_path / "s"), input=str(tmp_path / "a.png"))
    finish(engine.run(replace(job, out=str(tmp_path / "b.png"))))
    with Image.open(tmp_path / "b.png") as made:
        rgba = np.asarray(made.convert("RGBA"))
    assert rgba[..., 3].min() == 255
    assert (rgba[..., :3] != 255).any(axis=2).mean() > 0.9  # not the strokes alone


def _given(models: Models) -> Any:
    yield from ()
    return models


def test_a_batch_knows_tasks_before_it_works(tiny_models: Models, tmp_path: Path) -> None:
    replace(tiny_style(tiny_models), task="sketch").save(tmp_path / "lines")
    Image.new("RGB", (70, 70), "red").save(tmp_path / "a.png")
    rows = [
        {"input": "a.png", "reference": "a.png", "task": "painting"},
        {"input": "a.png", "style": "lines"},
    ]
    manifest = tmp_path / "good.json"
    manifest.write_text(json.dumps(rows))
    first, second = read_manifest(manifest)
    assert first.train is not None
    assert first.train["task"] == first.fields["task"] == "painting"
    assert second.train is None
    bad = [
        {"input": "a.png", "style": "lines", "task": "painting"},
        {"input": "a.png", "reference": "a.png", "design": "a.png", "task": "sketch"},
        {"input": "a.png", "reference": "a.png", "task": "knitting"},
        {"input": "a.png", "reference": "a.png", "task": "painting", "kind": "relief"},
        {"prompt": "a red heart", "style": "lines"},
    ]
    manifest.write_text(json.dumps(bad))
    with pytest.raises(InputError) as caught:
        read_manifest(manifest)
    for number, words in enumerate(
        ("not of painting", "takes the lines", "knitting", "kind", "words give none")
    ):
        (line,) = [
            each for each in caught.value.message.splitlines() if f"item {number + 1}" in each
        ]
        assert words in line


def test_examples_are_made_and_reported(tiny_models: Models, tmp_path: Path) -> None:
    for name in EXAMPLES:
        style = replace(tiny_style(tiny_models), task=name, profile="starter")
        style.save(tmp_path / name / "style")
    made: list[str] = []

    def given(engine: Engine, job: RestyleJob) -> Any:
        made.append(job.input)
        write_png(job.out, tiny_style(tiny_models).design)
        yield Progress(stage="embroidering", step=1, steps=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "run", given)
        progress, report = collect(make_examples(tmp_path))
    assert [each.stage for each in progress] == [f"{name}: embroidering" for name in EXAMPLES]
    page = report.read_text(encoding="utf-8")
    for name in EXAMPLES:
        for file in ("reference.png", "design.png", "input.png", "result.png"):
            assert f'src="{name}/{file}"' in page
        assert (tmp_path / name / "strip.jpg").stat().st_size < 80_000
        first, again = draw_inputs(name), draw_inputs(name)
        assert all(np.array_equal(a, b) for a, b in zip(first, again))
        assert not np.array_equal(*first)
