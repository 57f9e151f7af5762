"""Goes through a benchmark: sets, blocks, styles, pictures, words, report; does what is missing."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.evaluation.benchmark import making
from backend.evaluation.benchmark.methods import Method, chosen
from backend.evaluation.benchmark.page import write_page
from backend.evaluation.benchmark.rows import write_rows
from backend.evaluation.benchmark.scoring import Scorer
from backend.evaluation.benchmark.sets import (
    PROMPTS,
    Reference,
    designs,
    from_folder,
    rendered,
    sample,
)
from backend.evaluation.benchmark.settings import QUICK, Settings, quickened
from backend.evaluation.benchmark.store import JUDGES, MAKERS, Store, digest, sources
from backend.evaluation.benchmark.summary import summarise
from backend.imaging.files import read_rgba, write_png
from backend.jobs import Progress
from backend.models import profiles
from backend.models.loading import Models, default_device, load
from backend.models.profiles import Profile
from backend.progress import Meter, Stage
from backend.starter.designs import Design, load_icons
from backend.styles import Style

__all__ = ["benchmark"]

T = TypeVar("T")
Steps = Generator[Progress, None, T]

BLOCKS, TRAINING, EMBROIDERING, WORDS = "style blocks", "training", "embroidering", "from words"
# Parts that a thing's progress is counted in.
_PARTS = 20


@dataclass(slots=True)
class _Work:
    """A benchmark as it goes."""

    settings: Settings
    profile: Profile
    store: Store
    methods: tuple[Method, ...]
    references: list[Reference]
    designs: list[Design]
    prompts: Sequence[str]
    meter: Meter
    scorer: Scorer = field(default_factory=Scorer)
    loaded: Models | None = None
    fingerprint: str = ""
    composer: str = ""
    blocks: dict[str, making.Blocks] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    drawn: list[dict[str, Any]] = field(default_factory=list)


def benchmark(settings: Settings, profile: Profile | None = None) -> Steps[Path]:
    """Compare the methods; write report.json, report.html and picture rows; the page's path.

    Everything done is kept in the folder: after an interruption, and after closing the generator,
    the same call goes on where it was.

    Args:
        profile: in place of the settings' own.

    Raises:
        InputError: references, icons or methods cannot be used, or the folder is another thing's.
        ResourceError: the folder cannot be written.
        ProfileError: the base model cannot be loaded.
    """
    work = yield from _prepared(settings, profile)
    for reference in list(work.references):
        yield from _measured(work, reference)
    work.references = [each for each in work.references if each.name not in work.failed]
    for reference in work.references:
        for method in work.methods:
            if method.style is None:
                yield from _trained(work, reference, method)
    for reference in work.references:
        for method in work.methods:
            for design in work.designs:
                yield from _embroidered(work, reference, method, design)
    for reference in work.references[: settings.extent.worded]:
        for method in work.methods:
            for prompt in work.prompts if method.text else ():
                yield from _drawn(work, reference, method, prompt)
    report = summarise(
        settings=settings,
        profile=work.profile,
        fingerprint=work.fingerprint,
        methods=work.methods,
        references=work.references,
        designs=work.designs,
        prompts=work.prompts,
        blocks=work.blocks,
        cells=work.cells,
        drawn=work.drawn,
        missing=work.scorer.missing,
        failed=work.failed,
        folder=work.store.folder,
    )
    write_rows(work.store, work.references, work.designs, work.methods)
    return write_page(work.store, report)


def _prepared(settings: Settings, profile: Profile | None) -> Steps[_Work]:
    extent = settings.extent
    profile = profile or profiles.get(settings.profile)
    if extent == QUICK:
        profile = quickened(profile)
    methods = chosen(settings.methods)
    icons = load_icons(settings.icons)
    photos = [] if settings.references is None else from_folder(settings.references)
    store = Store(settings.out)
    yield Progress(stage="making the sets", step=0, steps=1)
    references = [
        *rendered(
            store, profile, extent.looks, extent.families, extent.photo, settings.seed, icons
        ),
        *sample(),
        *photos,
    ]
    side = round(extent.side * profile.window)
    flats = designs(side, extent.designs, settings.seed, icons)
    for design in flats:
        write_png(store.place(f"designs/{design.name}.png"), design.flat)
        for reference in references:
            truth = reference.truth(design)
            if truth is not None:
                write_png(store.place(f"truth/{reference.name}/{design.name}.png"), truth)
    prompts = PROMPTS[: extent.prompts]
    count = len(references)
    trained = sum(each.style is None for each in methods)
    drawing = sum(each.text for each in methods) * len(references[: extent.worded])
    meter = Meter(
        [
            # As the starter runs on two cores; the meter scales all of it to what it sees.
            Stage(BLOCKS, count * _PARTS, 30.0 / _PARTS),
            Stage(TRAINING, count * trained * _PARTS, 150.0 / _PARTS),
            Stage(EMBROIDERING, count * len(methods) * len(flats) * _PARTS, 6.0 / _PARTS),
            Stage(WORDS, drawing * len(prompts) * _PARTS, 4.0 / _PARTS),
        ]
    )
    yield Progress(stage="making the sets", step=1, steps=1)
    work = _Work(settings, profile, store, methods, references, flats, prompts, meter)
    models = yield from _models(work, exact=True)
    work.fingerprint = models.fingerprint()
    if models.composer is not None:
        parts = sorted(models.composer.rglob("*.safetensors"))
        work.composer = digest([digest(each.read_bytes()) for each in parts])
    return work


def _measured(work: _Work, reference: Reference) -> Steps[None]:
    """The reference's blocks; where its motif cannot be found it is left out, and said so."""
    method = work.methods[0]
    name, key = f"analysis/{reference.name}", _key(work, reference, method)
    found = work.store.get(name, key)
    if found is None:
        models = yield from _models(work, exact=True)
        models = replace(models, profile=making.profile_of(work.profile, method, reference))
        steps = making.measure_blocks(
            models, reference, work.settings, work.store.place(name) / "measured"
        )
        try:
            found = yield from _item(work, BLOCKS, reference.name, steps)
        except InputError as error:
            work.failed[reference.name] = str(error)
            return
        work.store.put(name, key, found)
    else:
        work.meter.skip(BLOCKS, steps=_PARTS)
    work.blocks[reference.name] = found


def _trained(work: _Work, reference: Reference, method: Method) -> Steps[None]:
    name, key = f"styles/{reference.name}/{method.name}", _style_key(work, reference, method)
    if work.store.get(name, key) is not None and (work.store.folder / name).is_dir():
        work.meter.skip(TRAINING, steps=_PARTS)
        return
    models = yield from _models(work, exact=True)
    models = replace(models, profile=making.profile_of(work.profile, method, reference))
    blocks, folder = work.blocks[reference.name], work.store.place(name)
    steps = making.train_style(models, reference, method, work.settings, blocks, folder)
    began = time.monotonic()
    yield from _item(work, TRAINING, f"{method.title} on {reference.name}", steps)
    work.store.put(name, key, {"seconds": round(time.monotonic() - began, 2)})


def _embroidered(work: _Work, reference: Reference, method: Method, design: Design) -> Steps[None]:
    name = f"cells/{reference.name}/{method.name}/{design.name}"
    art = digest(design.flat.tobytes() + design.art.tobytes())
    key = digest([*_judged(work, reference, method), art])

    def make(models: Models, style: Style, path: Path) -> Steps[NDArray[np.float32]]:
        return making.embroider(models, style, method, design, work.settings, path)

    def score(picture: NDArray[np.float32], style: Style) -> dict[str, Any]:
        truth = None
        if reference.look is not None:
            # As it is on disk: eight bits, like the picture.
            path = work.store.folder / f"truth/{reference.name}/{design.name}.png"
            truth = read_rgba(path)[..., :3]
        return work.scorer.embroidered(picture, design, style, truth)

    found = yield from _cell(work, EMBROIDERING, reference, method, name, key, make, score)
    work.cells.append({**found, "design": design.name})


def _drawn(work: _Work, reference: Reference, method: Method, prompt: str) -> Steps[None]:
    name = f"words/{reference.name}/{method.name}/{prompt.replace(' ', '-')}"
    key = digest([*_judged(work, reference, method), prompt, work.composer])

    def make(models: Models, style: Style, path: Path) -> Steps[NDArray[np.float32]]:
        return making.draw(models, style, method, prompt, work.settings, path)

    def score(picture: NDArray[np.float32], style: Style) -> dict[str, Any]:
        return work.scorer.drawn(picture, prompt, style)

    found = yield from _cell(work, WORDS, reference, method, name, key, make, score)
    work.drawn.append({**found, "prompt": prompt})


def _cell(
    work: _Work,
    stage: str,
    reference: Reference,
    method: Method,
    name: str,
    key: str,
    make: Any,
    score: Any,
) -> Steps[dict[str, Any]]:
    """A picture and its measures, from disk if they are there."""
    found, path = work.store.get(name, key), work.store.place(f"{name}.png")
    if found is None or not path.is_file():
        models = yield from _models(work, exact=False)
        models = replace(models, profile=making.profile_of(work.profile, method, reference))
        style = Style.load(
            work.store.folder / f"styles/{reference.name}/{method.style or method.name}"
        )
        began = time.monotonic()
        title = f"{method.title} on {reference.name}"
        picture = yield from _item(work, stage, title, make(models, style, path))
        seconds = round(time.monotonic() - began, 2)
        found = {**score(picture, style), "seconds": seconds}
        work.store.put(name, key, found)
    else:
        work.meter.skip(stage, steps=_PARTS)
    return {**found, "reference": reference.name, "method": method.name, "picture": f"{name}.png"}


def _judged(work: _Work, reference: Reference, method: Method) -> list[Any]:
    style = _style_key(work, reference, method)
    return [style, method.start, method.strength, sources(*JUDGES)]


def _key(work: _Work, reference: Reference, method: Method) -> str:
    """Of what everything that a method does with a reference depends on."""
    profile = making.profile_of(work.profile, method, reference)
    # Where the base lies says nothing: its fingerprint tells what it is.
    profile = replace(profile, folder=None)
    settings = asdict(profile)
    del settings["cpu_training"]  # the benchmark trains in float32
    made_by = [work.fingerprint, sources(*MAKERS)]
    return digest([settings, *made_by, work.settings.seed, reference.key])


def _style_key(work: _Work, reference: Reference, method: Method) -> str:
    maker = next(each for each in work.methods if each.name == (method.style or method.name))
    steps = making.steps_of(work.settings, work.profile, maker)
    blocks = work.blocks[reference.name].get(maker.blocks, maker.blocks)
    keys = [_key(work, reference, each) for each in (maker, method)]
    return digest([*keys, blocks, steps])


def _models(work: _Work, *, exact: bool) -> Steps[Models]:
    """The base model as training or restyling has it on this machine; one is kept at a time."""
    exact = exact and default_device().type == "cpu"
    wanted = replace(work.profile, cpu_dtype="float32") if exact else work.profile
    if work.loaded is None or work.loaded.profile.cpu_dtype != wanted.cpu_dtype:
        yield Progress(stage="loading", step=0, steps=1)
        work.loaded = None
        work.loaded = load(wanted, base=work.settings.base)
    return work.loaded


def _item(work: _Work, stage: str, title: str, steps: Steps[T]) -> Steps[T]:
    """Run one thing; its own estimate says how much of it is done."""
    began, done, meter = time.monotonic(), 0, work.meter
    try:
        while True:
            try:
                each = next(steps)
            except StopIteration as end:
                result: T = end.value
                yield _whole(meter.tick(stage, steps=_PARTS - done, message=title))
                return result
            parts = 0
            if each.seconds_left is not None:
                spent = time.monotonic() - began
                parts = int(_PARTS * spent / max(spent + each.seconds_left, 1e-9))
            more = max(0, min(parts, _PARTS - 1) - done)
            done += more
            count = f" {each.step}/{each.steps}" if each.steps > 1 else ""
            message = f"{title}: {each.stage}{count}"
            yield _whole(meter.tick(stage, steps=more, message=message))
    finally:
        steps.close()


def _whole(progress: Progress) -> Progress:
    """Count things, not their parts."""
    return replace(progress, step=progress.step // _PARTS, steps=progress.steps // _PARTS)
