"""Image input: embroiders artwork of any size in a trained style (paper, section 3.4).

SDEdit (Meng et al., 2022) with ControlNet-Canny and ControlNet-Tile, in overlapping windows. It
starts from the bare design, or (hybrid) from the instant preview, whose thread it harmonises.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from backend import tasks
from backend.emolora.adapter import with_style
from backend.errors import InputError
from backend.imaging.artwork import covered, sewable
from backend.imaging.lines import drawing, soft_edges
from backend.jobs import Progress, RestyleJob
from backend.models.loading import Models
from backend.models.settings import KindSettings
from backend.preview.analogy import synthesise
from backend.progress import Meter, Show, Stage, unseen
from backend.restyle import autoencode
from backend.restyle.conditions import Conditions
from backend.restyle.correction import Correction, in_strips
from backend.restyle.denoise import Scheduler, Words, batch_size, denoise, invert, make_scheduler
from backend.restyle.windows import Windows, noise_field
from backend.styles import Style

__all__ = ["counted", "make_words", "passes", "restyle", "windows_over"]

T = TypeVar("T")

# Rows that are finished at a time.
ROWS = 256
# Colours coarser than this share of the window are the design's, finer is the thread's.
COARSE = 1.0 / 24.0


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a job comes to once the profile has filled its gaps."""

    kind: KindSettings
    colours: Correction | Literal["none"]
    steps: int
    strength: float
    guidance: float
    from_preview: bool
    from_colour: bool
    inverted: bool

    @classmethod
    def of(cls, models: Models, style: Style, job: RestyleJob) -> _Settings:
        inference = models.profile.inference
        kind = models.profile.kind(style.kind if job.embroidery == "auto" else job.embroidery)
        start = inference.start if job.start == "auto" else job.start
        colours = kind.colour_correction if job.colours == "auto" else job.colours
        fewer = inference.preview_steps if start == "preview" else 0
        usual = inference.preview_strength if start == "preview" else kind.strength
        return cls(
            kind=kind,
            colours=cast(Literal["none"] | Correction, colours),
            steps=job.steps or fewer or inference.steps,
            strength=usual if job.strength is None else job.strength,
            guidance=inference.guidance if job.guidance is None else job.guidance,
            from_preview=start == "preview",
            from_colour=start == "colour",
            inverted=start == "preview" and inference.preview_inverted,
        )

    @property
    def todo(self) -> int:
        """Steps that `strength` leaves; at least one, so that the trained style has its say."""
        return min(self.steps, max(1, int(self.steps * self.strength)))


def passes(models: Models, style: Style, job: RestyleJob) -> int:
    """How often the UNet looks at each cell of the picture, at least."""
    settings = _Settings.of(models, style, job)
    denoising = settings.todo * (2 if settings.guidance > 1.0 else 1)
    return denoising + (settings.todo if settings.inverted else 0)


def make_words(models: Models, style: Style, prompts: tuple[str, str], guidance: float) -> Words:
    """Encode design and embroidery prompt; routed as in training where the profile says so."""
    inference = models.profile.inference
    design, embroidery = prompts
    return Words(
        style=models.encode_prompts([embroidery]),
        plain=models.encode_prompts([design]) if inference.routing else None,
        negative=models.encode_prompts([inference.negative]) if guidance > 1.0 else None,
        blocks=style.blocks,
    )


def restyle(
    models: Models,
    style: Style,
    rgba: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    job: RestyleJob,
    show: Show = unseen,
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Embroider `rgba` in a style.

    Args:
        models: the style's base.
        rgba: (H, W, 4) in [0, 1], any size; alpha is kept.
        mask: (H, W), 1 where to embroider, between for a soft edge; None: wherever alpha is not 0.
        job: strength, kind, start, steps, guidance, style strength and seed are read.
        show: is given the instant preview if work starts from it, else a rough look at each step.

    Returns:
        (H, W, 4); pixels where the mask or alpha is 0 are bit-identical to the input's.

    Raises:
        InputError: nothing to embroider.
    """
    models = replace(models, profile=tasks.get(style.task).settings(models.profile))
    if style.task == "embroidery":
        design, cover = sewable(rgba, mask, style.thread_width_px)
    else:
        design, cover = covered(rgba, mask)
    inside = cover > 0.0
    if not inside.any():
        raise InputError(
            f"{job.input}: the mask and the image's transparency leave nothing to embroider.",
            "Give a mask that is white where to embroider.",
        )
    settings = _Settings.of(models, style, job)
    height, width = inside.shape
    if models.profile.inference.reads == "drawing":
        design = drawing(design)
    elif models.profile.inference.reads == "edges":
        design = soft_edges(design, models.profile.window)
    windows = windows_over(models, inside)
    begin, timesteps, meter = _schedule(models, settings, windows, job.sampler)
    yield meter.tick("preparing", steps=0)

    start = design
    if settings.from_preview:
        start = synthesise(style.reference, style.design, style.mask, design, cover, seed=job.seed)
        meter.preview = show(start)
    elif settings.from_colour:
        weights = style.mask.ravel() + 1e-6  # a mask may be empty
        colour = np.average(style.reference.reshape(-1, 3), axis=0, weights=weights)
        start = np.broadcast_to(colour.astype(np.float32), design.shape)
    yield meter.tick("preparing")
    side = models.profile.window
    conditions = Conditions(models, autoencode.pad(design, side, models.factor), settings.kind)
    del design  # large pictures: nothing is kept that is not needed any more
    plane = autoencode.pad(start, side, models.factor)
    start = plane[:height, :width]
    latents = yield from counted(
        autoencode.encode(models, plane, windows.encoded), meter, "encoding"
    )
    rough = show is not unseen and not settings.from_preview
    look = autoencode.roughly(plane, latents) if rough else None

    def seen(clean: torch.Tensor) -> None:
        if look is not None:
            tall, wide = (-(-each // models.factor) for each in inside.shape)
            meter.preview = show(look(clean)[:tall, :wide])

    # The autoencoder smears fine thread; what it loses of the preview is given back.
    smeared = latents if settings.from_preview else None
    words = make_words(models, style, models.profile.prompts(), settings.guidance)
    if settings.inverted:
        grids = windows.of(len(timesteps), ends=False)
        latents = yield from counted(
            invert(models, latents, grids, timesteps, words, conditions), meter, "inverting"
        )
    else:
        noise = noise_field(job.seed, *latents.shape)
        latents = begin.add_noise(latents, noise, torch.tensor([int(timesteps[0])]))
    grids = windows.of(len(timesteps))
    with with_style(models, dict(style.weights), strength=job.style_strength):
        latents = yield from counted(
            denoise(
                models,
                latents,
                grids,
                begin,
                timesteps,
                words,
                settings.guidance,
                conditions,
                seen if rough else None,
            ),
            meter,
            "embroidering",
        )
    del conditions
    sewn = yield from counted(
        autoencode.decode(models, latents, windows.decoded, smeared), meter, "decoding"
    )
    sewn = sewn[:height, :width]
    if settings.from_preview:
        sewn += start
    np.clip(sewn, 0.0, 1.0, out=sewn)
    if settings.colours != "none":
        in_strips(sewn, start, settings.colours, COARSE * models.profile.window, inside)
    del start
    blended = rgba.copy()
    for top in range(0, height, ROWS):
        rows = np.s_[top : top + ROWS]
        soft = cover[rows][..., None]
        mixed = rgba[rows][..., :3] * (1.0 - soft) + sewn[rows] * soft
        np.copyto(blended[rows][..., :3], mixed, where=inside[rows][..., None])
    yield meter.tick("finishing")
    return blended


def windows_over(models: Models, inside: NDArray[np.bool_]) -> Windows:
    """Windows over the padded image, those that touch what is to be embroidered."""
    factor, side = models.factor, models.profile.window // models.factor
    rows, columns = (max(side, -(-length // factor)) for length in inside.shape)
    needed = np.zeros((rows, columns), dtype=bool)
    tall, wide = inside.shape
    whole = np.zeros((-(-tall // factor) * factor, -(-wide // factor) * factor), dtype=bool)
    whole[:tall, :wide] = inside
    cells = whole.reshape(len(whole) // factor, factor, -1, factor).any(axis=(1, 3))
    needed[: cells.shape[0], : cells.shape[1]] = cells
    return Windows.over(needed, side, models.profile.inference.overlap)


def _schedule(
    models: Models, settings: _Settings, windows: Windows, sampler: str
) -> tuple[Scheduler, list[int], Meter]:
    """Scheduler, the timesteps that `strength` leaves to do, and the plan of progress."""
    scheduler = make_scheduler(models, settings.steps, sampler)
    todo = settings.todo
    timesteps = [int(t) for t in scheduler.timesteps[settings.steps - todo :]]
    size = batch_size(models)
    inverting = windows.calls(todo, size, ends=False) if settings.inverted else 0
    batch = min(size, len(windows.last.spots))
    passes = 2.0 if settings.guidance > 1.0 else 1.0
    coded = len(windows.encoded.spots)
    decoded = len(windows.decoded.spots) * (2 if settings.from_preview else 1)
    stages = [
        Stage("preparing", 1, 4.0 if settings.from_preview else 0.1),
        Stage("encoding", coded, 0.2),
        Stage("inverting", inverting, 0.1 * batch),
        Stage("embroidering", windows.calls(todo, size), 0.1 * passes * batch),
        Stage("decoding", decoded, 0.25),
        Stage("finishing", 1, 0.2),
    ]
    return scheduler, timesteps, Meter(stages)


def counted(
    work: Generator[None, None, T], meter: Meter, stage: str
) -> Generator[Progress, None, T]:
    """Turn every bare step of `work` into progress."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            value: T = finished.value
            return value
        yield meter.tick(stage)
