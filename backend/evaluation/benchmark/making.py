"""Does one thing of a benchmark: measures blocks, trains a style, embroiders, draws from words."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.emolora.analysis import analyse
from backend.emolora.training import train
from backend.evaluation.benchmark.methods import Method
from backend.evaluation.benchmark.sets import Reference
from backend.evaluation.benchmark.settings import Settings
from backend.imaging.artwork import sewable
from backend.imaging.files import write_png
from backend.jobs import AnalyseJob, GenerateJob, Progress, RestyleJob, TrainJob
from backend.models.loading import Models
from backend.models.profiles import Profile
from backend.preview.analogy import synthesise
from backend.restyle.image import restyle
from backend.restyle.text import generate
from backend.starter.designs import Design
from backend.styles import Style

__all__ = ["Blocks", "draw", "embroider", "measure_blocks", "profile_of", "steps_of", "train_style"]

Blocks = dict[str, str]
"""Names of blocks, joined by commas, by the rule that chose them."""


def profile_of(profile: Profile, method: Method, reference: Reference) -> Profile:
    """The profile that a method works with on a reference."""
    adjusted = method.adjust(profile)
    if reference.thread > 0.0:
        pair = replace(adjusted.pair, thread_px=reference.thread)
        adjusted = replace(adjusted, pair=pair)
    return adjusted


def steps_of(settings: Settings, profile: Profile, method: Method) -> tuple[int, int]:
    """Steps of both stages."""
    own = (profile.training.steps_one, profile.training.steps_two)
    one, two = settings.extent.steps or own
    if method.stage_two:
        return one, two
    return (one + two if method.all_steps else one), 0


def measure_blocks(
    models: Models, reference: Reference, settings: Settings, folder: Path
) -> Generator[Progress, None, Blocks]:
    """Which blocks the automatic rule takes of a reference, and the two of lowest similarity."""
    job = AnalyseJob(
        reference=str(reference.photo),
        out=str(folder),
        profile=models.profile.name,
        seed=settings.seed,
        **_beside(reference),
    )
    result = yield from analyse(job, models)
    data = json.loads(Path(result.outputs["analysis"]).read_text(encoding="utf-8"))
    lowest = sorted(data["blocks"], key=lambda each: each["late"])[:2]
    return {
        "rule": ",".join(data["chosen"]),
        "lowest two": ",".join(each["block"] for each in lowest),
    }


def train_style(
    models: Models,
    reference: Reference,
    method: Method,
    settings: Settings,
    blocks: Blocks,
    folder: Path,
) -> Generator[Progress, None, None]:
    """Train a method's style of a reference into `folder`; goes on where it was interrupted."""
    one, two = steps_of(settings, models.profile, method)
    job = TrainJob(
        reference=str(reference.photo),
        out=str(folder),
        profile=models.profile.name,
        seed=settings.seed,
        steps_one=one,
        steps_two=two,
        blocks=blocks.get(method.blocks, method.blocks),
        **_beside(reference),
    )
    yield from train(job, models)


def embroider(
    models: Models,
    style: Style,
    method: Method,
    design: Design,
    settings: Settings,
    path: Path,
) -> Generator[Progress, None, NDArray[np.float32]]:
    """A design embroidered by a method, (H, W, 3) as it is on disk then."""
    cover = design.art.astype(np.float32)
    rgba = np.dstack([design.flat, np.ones_like(cover)])
    if method.start == "none":
        yield Progress(stage="laying thread", step=0, steps=1)
        # Of the artwork as all others sew it.
        drawn, cover = sewable(rgba, cover, style.thread_width_px)
        picture = synthesise(
            style.reference, style.design, style.mask, drawn, cover, seed=settings.seed
        )
    else:
        job = RestyleJob(
            style=style.name,
            input=design.name,
            out=str(path),
            start=method.start,
            style_strength=method.strength,
            seed=settings.seed,
        )
        picture = (yield from restyle(models, style, rgba, cover, job))[..., :3]
    return _written(path, picture)


def draw(
    models: Models, style: Style, method: Method, prompt: str, settings: Settings, path: Path
) -> Generator[Progress, None, NDArray[np.float32]]:
    """A prompt drawn in a method's style, (H, W, 3) as it is on disk then."""
    job = GenerateJob(
        style=style.name,
        prompt=prompt,
        out=str(path),
        style_strength=method.strength,
        seed=settings.seed,
    )
    picture = yield from generate(models, style, job)
    return _written(path, picture)


def _beside(reference: Reference) -> dict[str, Any]:
    return {
        name: None if path is None else str(path)
        for name, path in (("mask", reference.mask), ("design", reference.design))
    }


def _written(path: Path, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = np.round(np.clip(picture, 0.0, 1.0) * 255.0)
    write_png(path, whole.astype(np.uint8))
    return (whole / 255.0).astype(np.float32)
