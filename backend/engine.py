"""Runs one typed job: yields its progress, returns its result.

Heavy libraries are imported when a job needs them, so that doors open quickly.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backend import tasks
from backend.checks import check_files, clear_failures
from backend.errors import InputError
from backend.fitting import fitted, model_key, wanted
from backend.imaging.files import (
    picture_size,
    read_art,
    read_mask,
    read_reference,
    read_rgba,
    write_png,
)
from backend.imaging.lines import on_paper
from backend.imaging.masks import surroundings
from backend.jobs import (
    NOTE,
    AnalyseJob,
    GenerateJob,
    Job,
    ModelJob,
    PreviewJob,
    Progress,
    RestyleJob,
    Result,
    TrainJob,
)
from backend.limits import check_memory, check_minutes
from backend.models import memory, profiles
from backend.models.motif_words import check_words
from backend.models.profiles import Profile
from backend.progress import Show, unseen
from backend.results import Vouch, nobody

if TYPE_CHECKING:
    import torch

    from backend.emolora.pair import Pair
    from backend.models.loading import Models
    from backend.styles import Style

__all__ = ["MAX_SIDE", "MIN_SIDE", "Engine", "run"]

GIB = 2**30
# Seconds that the instant preview takes a pixel, on one core.
PREVIEW_PACE = 8e-6
MIN_SIDE = 64
MAX_SIDE = 8192

Steps = Generator[Progress, None, Result]


class Engine:
    """Runs jobs one after another; the last base model and style stay loaded between them."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._models: Models | None = None
        self._style: tuple[object, Style] | None = None

    def run(self, job: Job, vouch: Vouch = nobody, show: Show = unseen) -> Steps:
        """Do the job; closing the generator cancels it and leaves no half-written output.

        Args:
            vouch: is told of the whole result, once, before that is put in its place.
            show: is given pictures of how far the work is.

        Raises:
            StitchworkError: with a remedy, for whatever the user can put right.
        """
        check_files(job)
        with clear_failures(job.out, job.memory if isinstance(job, ModelJob) else None):
            match job:
                case TrainJob():
                    result = yield from self._train(job, vouch, show)
                case RestyleJob():
                    result = yield from self._restyle(job, vouch, show)
                case GenerateJob():
                    result = yield from self._generate(job, vouch, show)
                case PreviewJob():
                    result = yield from self._preview(job, vouch)
                case AnalyseJob():
                    result = yield from self._analyse(job, vouch)
        return result

    def release(self) -> None:
        """Forget the loaded model and style and so free their memory."""
        self._key = self._models = self._style = None

    def _train(self, job: TrainJob, vouch: Vouch, show: Show) -> Steps:
        if job.prompt is not None:
            check_words(job.prompt, job.base or profiles.get(job.profile).folder)
        watch = _Stopwatch()
        models, pair = yield from watch.time(self._prepare(job))
        from backend.emolora.training import train

        result = yield from train(job, models, watch.told(vouch), pair, show, plot=True)
        return watch.added(result)

    def _analyse(self, job: AnalyseJob, vouch: Vouch) -> Steps:
        watch = _Stopwatch()
        models, pair = yield from watch.time(self._prepare(job))
        from backend.emolora.analysis import analyse

        result = yield from analyse(job, models, watch.told(vouch), pair)
        return watch.added(result)

    def _prepare(
        self, job: TrainJob | AnalyseJob
    ) -> Generator[Progress, None, tuple[Models, Pair | None]]:
        """The job's base model, once its pictures have proved readable.

        Its pair comes with it if another model draws that: the two never share the memory.
        """
        tasks.check_reference(job)
        profile = profiles.get(job.profile)
        photo = read_reference(job.reference)
        if job.design is not None:
            read_rgba(job.design)
        if job.mask is not None:
            read_art(job.mask, photo.shape[:2])
        from backend.emolora.predrawn import designed

        def fit() -> tuple[Profile, torch.device]:
            self._key = self._models = None
            return fitted(wanted(profile.name, job, learns=True), job)

        designer, pair = yield from designed(job, profile, fit)
        models = yield from self._load(profile.name, job, learns=True)
        return replace(models, designer=designer), pair

    def _restyle(self, job: RestyleJob, vouch: Vouch, show: Show) -> Steps:
        allowed = None if job.max_memory_gib is None else job.max_memory_gib * GIB
        _check_picture(job.input, allowed)
        rgba = _read_input(job.input)
        mask = read_mask(job.mask, rgba.shape[:2]) if job.mask else None
        from backend.restyle.image import restyle

        style = self._style_in(job.style)
        tasks.check_style(job, style.name, style.task)
        if tasks.get(style.task).reads == "drawing":
            rgba = on_paper(rgba)
        profile = profiles.get(style.profile)
        # Only what is embroidered, with a window around it, is worked on.
        here = surroundings(_inside(rgba, mask), profile.window)
        height, width = (each.stop - each.start for each in here)
        room = self._room(style.profile, job)
        check_memory(job.input, rgba.shape[:2], height * width, room, allowed)
        watch = _Stopwatch()
        models = yield from watch.time(self._load(style.profile, job))
        style.check(models)
        cover = None if mask is None else mask[here]
        if job.max_minutes is not None:
            growing, fixed = yield from watch.time(_pace(models, style, rgba[here], cover, job))
            check_minutes(job.input, growing, fixed, job.max_minutes)
        rgba[here] = yield from watch.time(restyle(models, style, rgba[here], cover, job, show))
        return _written(job.out, rgba, watch, vouch)

    def _room(self, profile: str, job: ModelJob) -> float:
        """Bytes of main memory that loading the models will still take."""
        asked = wanted(profile, job)
        if self._key == model_key(asked, job):
            return 0.0
        from backend.models.loading import default_device

        if default_device().type != "cpu":
            return 0.0
        return GIB * memory.need(asked, memory.MODES[0], "restyle", "cpu", base=job.base)

    def _generate(self, job: GenerateJob, vouch: Vouch, show: Show) -> Steps:
        from backend.restyle.cutout import square_for
        from backend.restyle.text import generate

        square = square_for(job)
        style = self._style_in(job.style)
        tasks.check_style(job, style.name, style.task)
        asked = job
        if square is not None:
            asked = replace(job, width=square.side, height=square.side)
            room = self._room(style.profile, job)
            check_memory(str(job.mask), square.size, square.side**2, room, None)
        watch = _Stopwatch()
        models = yield from watch.time(self._load(style.profile, job))
        style.check(models)
        image = yield from watch.time(generate(models, style, asked, show))
        if square is not None:
            image = square.laid(image)
        return _written(job.out, image, watch, vouch)

    def _preview(self, job: PreviewJob, vouch: Vouch) -> Steps:
        allowed = None if job.max_memory_gib is None else job.max_memory_gib * GIB
        _check_picture(job.input, allowed)
        photo, rgba = read_reference(job.reference), _read_input(job.input)
        mask = read_mask(job.mask, rgba.shape[:2]) if job.mask else None
        from backend.first_look import first_look

        watch = _Stopwatch()
        image = yield from watch.time(first_look(photo, rgba, mask, job.design, seed=job.seed))
        return _written(job.out, image, watch, vouch)

    def _style_in(self, folder: str) -> Style:
        """The style in a folder, from memory if the last job used it and no file has changed.

        Raises:
            StyleError: see `Style.load`.
        """
        from backend.styles import Style

        try:
            with os.scandir(folder) as files:
                stats = [(each.name, each.stat()) for each in files]
        except OSError:
            return Style.load(folder)  # which says what is wrong
        key = folder, sorted((name, at.st_ino, at.st_size, at.st_mtime_ns) for name, at in stats)
        if self._style is None or self._style[0] != key:
            self._style = key, Style.load(folder)
        return self._style[1]

    def _load(
        self, profile: str, job: ModelJob, *, learns: bool = False
    ) -> Generator[Progress, None, Models]:
        """The base model, from memory if the last job used it; `learns`: as for `wanted`."""
        asked = wanted(profile, job, learns=learns)
        key = model_key(asked, job)
        if self._key == key and self._models is not None:
            return self._models
        yield Progress(stage="loading", step=0, steps=1)
        from backend.models.loading import load

        self._key = self._models = None
        settings, device = fitted(asked, job)
        self._models = load(
            settings,
            base=job.base,
            device=device,
            base_config=job.base_config,
            offline=job.offline,
        )
        self._key = key
        yield Progress(stage="loading", step=1, steps=1)
        return self._models


_engine = Engine()


def run(job: Job) -> Steps:
    """`Engine.run` with the one engine of this process."""
    return _engine.run(job)


class _Stopwatch:
    """Wall seconds by stage, taken from the progress that passes through."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, steps: Generator[Progress, None, Any]) -> Generator[Progress, None, Any]:
        last = time.perf_counter()
        try:
            while True:
                progress = next(steps)
                now = time.perf_counter()
                if progress.stage != NOTE:
                    spent = self.seconds.get(progress.stage, 0.0)
                    self.seconds[progress.stage] = spent + now - last
                yield progress
                last = time.perf_counter()
        except StopIteration as finished:
            return finished.value
        finally:
            steps.close()

    def told(self, vouch: Vouch) -> Vouch:
        return lambda made, at: vouch(self.added(made), at)

    def added(self, result: Result) -> Result:
        return replace(result, seconds=self.seconds | result.seconds)


def _read_input(path: str) -> NDArray[np.float32]:
    """An image to embroider, (H, W, 4).

    Raises:
        InputError: as `read_rgba`, or of a size that cannot be restyled.
    """
    rgba = read_rgba(path)
    height, width = rgba.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{path}: {width} × {height} pixels are too few to embroider.",
            f"Give an image of at least {MIN_SIDE} pixels a side.",
        )
    if max(height, width) > MAX_SIDE:
        raise InputError(
            f"{path}: {width} × {height} pixels are too many.",
            f"Scale it by {MAX_SIDE / max(height, width):.3f} or less: "
            f"{MAX_SIDE} pixels a side are the most.",
        )
    return rgba


def _check_picture(path: str, allowed: float | None) -> None:
    """Refuse a picture that is too much to read, by its header alone."""
    size = picture_size(path)
    if size is not None and max(size) <= MAX_SIDE:
        check_memory(path, size, 0, 0.0, allowed)


def _inside(rgba: NDArray[np.float32], mask: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """What is to be embroidered, (H, W)."""
    inside: NDArray[np.bool_] = rgba[..., 3] > 0.0
    return inside if mask is None else inside & (mask > 0.0)


def _pace(
    models: Models,
    style: Style,
    rgba: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    job: RestyleJob,
) -> Generator[Progress, None, tuple[float, float]]:
    """Seconds that grow with the area, and that do not, by embroidering one window for a try."""
    from backend.restyle.image import restyle, windows_over

    inside = _inside(rgba, mask)
    rows, columns = np.nonzero(inside)
    side = models.profile.window
    if len(rows) == 0:
        return 0.0, 0.0
    top, left = int(rows[len(rows) // 2]), int(columns[len(rows) // 2])
    window = np.s_[max(0, top - side // 2) :, max(0, left - side // 2) :]
    try_out = rgba[window][:side, :side].copy()
    cover = None if mask is None else mask[window][:side, :side]
    watch = _Stopwatch()
    yield from (
        replace(each, stage="estimating", seconds_left=None)
        for each in watch.time(restyle(models, style, try_out, cover, job))
    )
    seconds = watch.seconds
    fixed = seconds.pop("preparing", 0.0)
    count = len(windows_over(models, inside).turns[0].spots)
    sewn = PREVIEW_PACE * float(inside.sum()) if fixed > 0.5 else 0.0
    return sum(seconds.values()) * count + sewn, fixed


def _written(out: str, image: NDArray[np.float32], watch: _Stopwatch, vouch: Vouch) -> Result:
    began, result = time.perf_counter(), Result(outputs={"image": out}, seconds=watch.seconds)

    def before(aside: Path) -> None:
        watch.seconds["writing"] = time.perf_counter() - began
        vouch(result, aside)

    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_png(out, image, before)
    return result
