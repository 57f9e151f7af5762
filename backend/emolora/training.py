"""One training job from photo to style: pair, blocks, stage one, complementary data, stage two."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend import tasks
from backend.emolora import blocks as block_choice
from backend.emolora import complementary, stage_one, stage_two
from backend.emolora.adapter import Adapter, attention_blocks
from backend.emolora.checkpoint import Partial
from backend.emolora.encoded import EncodedPair, encoding_steps, window_boxes
from backend.emolora.finish import finish
from backend.emolora.optimiser import make_optimiser, take_step
from backend.emolora.pair import PAIR_MARK, Pair, pair_steps
from backend.jobs import Progress, Result, TrainJob
from backend.models.loading import Models
from backend.preview.analogy import synthesise
from backend.progress import Meter, Show, Stage, unseen
from backend.results import Vouch, nobody
from backend.styles import check_target

__all__ = ["train"]

PAIR, BLOCKS, ONE, COMPLEMENT, TWO, FINISH = (
    "pair",
    "style blocks",
    "stage one",
    "complementary pairs",
    "stage two",
    "finish",
)


@dataclass(slots=True)
class _Run:
    """What one training knows as it goes."""

    job: TrainJob
    models: Models
    partial: Partial
    meter: Meter
    steps_one: int
    steps_two: int
    made: Pair | None = None
    show: Show = unseen
    losses: dict[str, list[float]] = field(default_factory=dict)

    def note(self, losses: dict[str, float]) -> str:
        """Keep a step's losses; a message about the recent ones."""
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)
        recent = {name: float(np.mean(values[-20:])) for name, values in self.losses.items()}
        return ", ".join(f"{name} {value:.4f}" for name, value in recent.items())


def train(
    job: TrainJob,
    models: Models,
    vouch: Vouch = nobody,
    made: Pair | None = None,
    show: Show = unseen,
    *,
    plot: bool = False,
) -> Generator[Progress, None, Result]:
    """Learn a style; yields after every step, so that closing the generator cancels it.

    A cancelled or interrupted training leaves `<out>.partial/`, from which the same job goes on
    and ends with the same weights as if it had run through.

    Args:
        made: the pair, if that is made already.
        plot: measure the blocks though they are named, so that the style has a plot of them.
        show: is given the pair's design, a complementary one, and the style's preview as it comes.

    Raises:
        InputError: the photo, the design, the mask or the blocks cannot be used.
        StyleError: `out` holds something that is not a style.
        ResourceError: `out` cannot be written.
    """
    out = Path(job.out)
    models = replace(models, profile=tasks.get(job.task).settings(models.profile))
    settings = models.profile.training
    steps_one = settings.steps_one if job.steps_one is None else job.steps_one
    steps_two = settings.steps_two if job.steps_two is None else job.steps_two
    check_target(out)
    chosen = block_choice.named(job.blocks, models)
    partial = Partial(out, job, models)
    plot = plot or job.soft or chosen is None
    analysis = block_choice.passes(models.profile.blocks) if plot else 0
    complements = complementary.passes(models) if steps_two else 0
    plan = [
        # As the starter runs on two cores; the meter scales all of it to what it sees.
        Stage(PAIR, 1, 12.0),
        Stage(BLOCKS, analysis, 0.4),
        Stage(ONE, steps_one, 0.4),
        Stage(COMPLEMENT, complements, 0.5),
        Stage(TWO, steps_two, 1.2),
        Stage(FINISH, 1, 12.0),
    ]
    run = _Run(job, models, partial, Meter(plan), steps_one, steps_two, made, show)
    adapter: Adapter | None = None
    try:
        both = yield from run.meter.within(PAIR, _pair(run))
        run.meter.preview = show(both.design)
        prompts = models.profile.prompts(job.subject)
        encoded = yield from run.meter.within(PAIR, encoding_steps(models, both, prompts))
        yield run.meter.tick(PAIR)
        blocks, table = chosen or (), None
        if plot:
            blocks, table = yield from _blocks(run, encoded, chosen)
        soft: dict[str, float] = {}
        if job.soft and table is not None:
            names = attention_blocks(models)
            soft = block_choice.soft_weights(table, names, models.profile.blocks, chosen)
            blocks = tuple(soft)
        adapter = Adapter(models, blocks, rank=settings.rank, seed=job.seed, soft=soft)
        yield from _stages(run, adapter, blocks, encoded, both)
        weights = adapter.style_weights()
        adapter.remove()
        adapter = None
        style = yield from run.meter.within(
            FINISH,
            finish(job, models, both, weights, blocks, table, run.losses, run.meter.seconds, show),
        )
        style = replace(style, block_weights=soft)
        yield run.meter.tick(FINISH)
        outputs = {"style": str(out)}
        if style.preview is not None:
            outputs["preview"] = str(out / "preview.png")
        seconds = run.meter.seconds
        result = Result(outputs=outputs, measures=dict(style.measures), seconds=seconds)
        style.save(out, lambda aside: vouch(result, aside))
        partial.remove()
        return result
    finally:
        if adapter is not None:
            adapter.remove()


def _pair(run: _Run) -> Generator[None, None, Pair]:
    """The pair, from the interrupted run if there is one."""
    job, made = run.job, run.made
    if not run.partial.has(PAIR_MARK):
        if made is None:
            made = yield from pair_steps(
                run.models,
                job.reference,
                design=job.design,
                mask=job.mask,
                subject=job.subject,
                seed=job.seed,
            )
        made.save(run.partial.folder)
    return Pair.load(run.partial.folder)


def _blocks(
    run: _Run, encoded: EncodedPair, chosen: tuple[str, ...] | None
) -> Generator[Progress, None, tuple[tuple[str, ...], NDArray[np.float64] | None]]:
    """The style blocks and their similarities, by the pair's window that shows most motif.

    Args:
        chosen: blocks that are named; None: those that the measure says.
    """
    known = run.partial.load_blocks()
    models = run.models
    if known is not None:
        run.meter.skip(BLOCKS, steps=block_choice.passes(models.profile.blocks))
        return known
    table: NDArray[np.float64] | None = None
    for table in block_choice.measure(
        models,
        encoded.design[:1],
        encoded.embroidery[:1],
        encoded.design_text,
        models.profile.blocks,
        None if encoded.controls is None else encoded.controls[:1],
    ):
        if table is None:
            yield run.meter.tick(BLOCKS)
    assert table is not None
    names = attention_blocks(models)
    found = chosen or block_choice.choose(table, names, models.profile.blocks)
    run.partial.save_blocks(found, table)
    return found, table


def _stages(
    run: _Run,
    adapter: Adapter,
    blocks: tuple[str, ...],
    encoded: EncodedPair,
    both: Pair,
) -> Generator[Progress, None, None]:
    """Both stages with the complementary data between them, going on from a checkpoint."""
    models, job, settings = run.models, run.job, run.models.profile.training
    optimiser = make_optimiser(adapter.parameters, settings)
    at, done = ONE, 0
    found = run.partial.load_state(adapter, optimiser)
    if found is not None:
        at, done, run.losses = found
        if at == TWO:
            run.meter.skip(ONE, steps=run.steps_one)
            run.meter.skip(COMPLEMENT, steps=complementary.passes(models))
        run.meter.skip(at, steps=done)

    for step in range(done if at == ONE else run.steps_one, run.steps_one):
        optimiser.zero_grad(set_to_none=True)
        chance = stage_one.draw(models, encoded, (job.seed, 1, step))
        losses = stage_one.accumulate(models, adapter, blocks, encoded, chance)
        take_step(models, adapter.parameters, optimiser)
        message = run.note(losses)
        if _is_due(step + 1, run.steps_one, settings.checkpoint_every):
            run.partial.save_state(ONE, step + 1, adapter, optimiser, run.losses)
        yield run.meter.tick(ONE, message=message)

    if run.steps_two == 0:
        return
    complements = complementary.load(run.partial.folder)
    if complements is None:
        box = window_boxes(both.mask, models.profile.window, 1)[0]
        shown = both.design[box[1] : box[3], box[0] : box[2]]
        run.meter.skip(COMPLEMENT, steps=complementary.passes_made(models, run.partial.folder))
        sew = partial(synthesise, both.embroidery, both.design, both.mask, seed=job.seed)
        for complements in complementary.make(
            models, adapter, blocks, encoded, shown, job.seed, run.partial.folder, sew
        ):
            if complements is None:
                yield run.meter.tick(COMPLEMENT)
        assert complements is not None
        complementary.save(complements, run.partial.folder)
        run.meter.preview = run.show(complements[0].design)
    generated = [complementary.encode(models, each) for each in complements]

    for step in range(done if at == TWO else 0, run.steps_two):
        optimiser.zero_grad(set_to_none=True)
        chance = stage_one.draw(models, encoded, (job.seed, 2, step))
        other = generated[step % len(generated)]
        losses = stage_two.accumulate(models, adapter, blocks, encoded, other, chance)
        take_step(models, adapter.parameters, optimiser)
        message = run.note(losses)
        if _is_due(step + 1, run.steps_two, settings.checkpoint_every):
            run.partial.save_state(TWO, step + 1, adapter, optimiser, run.losses)
        yield run.meter.tick(TWO, message=message)


def _is_due(done: int, steps: int, every: int) -> bool:
    return done % every == 0 or done == steps
