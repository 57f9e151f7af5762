"""Text input: embroiders a motif from words (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from backend import tasks
from backend.emolora.adapter import with_style
from backend.jobs import GenerateJob, Progress
from backend.models.composer import with_composer
from backend.models.loading import Models
from backend.models.motif_words import motif_words
from backend.models.prediction import Controls
from backend.progress import Meter, Show, Stage, outcome, unseen
from backend.restyle import autoencode
from backend.restyle.composed import embroider_words
from backend.restyle.cutout import cut_out
from backend.restyle.denoise import batch_size, denoise, make_scheduler
from backend.restyle.image import counted, make_words
from backend.restyle.windows import Windows, noise_field, plan
from backend.styles import Style

__all__ = ["generate", "prompts_of"]

# Share of the schedule that is redone when a motif drawn in one window is brought to full size.
ENLARGING_STRENGTH = 0.6


def prompts_of(style: Style, prompt: str) -> tuple[str, str]:
    """Design and embroidery prompt; the trigger is added where the user left it out."""
    words = " ".join(prompt.split())
    trigger = style.prompts.trigger
    plain = " ".join(words.replace(trigger, " ").split())
    return plain, words if trigger in words else f"{plain} {trigger}"


def _no_controls(spots: object) -> Controls | None:
    return None


def generate(
    models: Models, style: Style, job: GenerateJob, show: Show = unseen
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Embroider what a prompt says.

    The motif is composed within one window; a larger image is that enlarged and embroidered
    again in overlapping windows, so that words do not repeat from window to window. A base with a
    composer draws flat instead, and embroiders that as image input.

    Args:
        show: is given a rough look at each step of composing, then the motif.

    Returns:
        (H, W, 3) float32 in [0, 1]; (H, W, 4) if the job leaves the ground out.

    Raises:
        InputError: the base does not know the words, or no motif can be told from its ground.
    """
    models = replace(models, profile=tasks.get(style.task).settings(models.profile))
    if models.composer is not None:
        subject = motif_words(models.composer).recognised(prompts_of(style, job.prompt)[0])
        composer = with_composer(models, models.composer)
        image = yield from embroider_words(models, composer, style, subject, job, show)
        return image
    image = yield from _drawn(models, style, job, show)
    return cut_out(image, job.prompt) if job.ground == "none" else image


def _drawn(
    models: Models, style: Style, job: GenerateJob, show: Show
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Compose and embroider at once, (H, W, 3)."""
    side, factor = models.profile.window, models.factor
    height, width = job.height or side, job.width or side
    inference = models.profile.inference
    steps = job.steps or inference.steps
    guidance = inference.guidance if job.guidance is None else job.guidance
    cells = side // factor
    first = Windows.over(np.ones((cells, cells), dtype=bool), cells, inference.overlap)
    rows, columns = (max(cells, -(-length // factor)) for length in (height, width))
    full = Windows.over(np.ones((rows, columns), dtype=bool), cells, inference.overlap)
    larger = len(full.last.spots) > 1
    again = max(1, int(steps * ENLARGING_STRENGTH)) if larger else 0
    pace = 0.2 if guidance > 1.0 else 0.1
    calls = full.calls(again, batch_size(models))
    coded = len(full.encoded.spots)
    meter = Meter(
        [
            Stage("composing", steps, pace),
            Stage("encoding", coded if larger else 0, 0.15),
            Stage("embroidering", calls, pace * batch_size(models)),
            Stage("decoding", coded + 1 if larger else 1, 0.25),
        ]
    )
    words = make_words(models, style, prompts_of(style, job.prompt), guidance)
    scheduler = make_scheduler(models, steps, job.sampler)
    channels = int(models.unet.config.in_channels)
    latents = noise_field(job.seed, channels, cells, cells) * float(scheduler.init_noise_sigma)
    times = [int(t) for t in scheduler.timesteps]

    def seen(clean: torch.Tensor) -> None:
        if look is not None:
            meter.preview = show(look(clean))

    look = None if show is unseen else _rough_look(models, style)
    with with_style(models, dict(style.weights), strength=job.style_strength):
        latents = yield from counted(
            denoise(
                *(models, latents, first.of(steps), scheduler, times, words, guidance),
                *(_no_controls, None if show is unseen else seen),
            ),
            meter,
            "composing",
        )
        if not larger:
            image = yield from counted(
                autoencode.decode(models, latents, first.decoded), meter, "decoding"
            )
            return _fitted(image, height, width)
        small = yield from counted(
            autoencode.decode(models, latents, first.decoded), meter, "decoding"
        )
        plane = _fitted(small, height, width)
        meter.preview = show(plane)
        plane = autoencode.pad(plane, side, factor)
        clean = yield from counted(
            autoencode.encode(models, plane, full.encoded), meter, "encoding"
        )
        scheduler = make_scheduler(models, steps, job.sampler)
        times = times[steps - again :]
        noise = noise_field(job.seed, *clean.shape)
        latents = scheduler.add_noise(clean, noise, torch.tensor([times[0]]))
        latents = yield from counted(
            denoise(
                models, latents, full.of(again), scheduler, times, words, guidance, _no_controls
            ),
            meter,
            "embroidering",
        )
    image = yield from counted(autoencode.decode(models, latents, full.decoded), meter, "decoding")
    return image[:height, :width]


def _rough_look(models: Models, style: Style) -> Callable[[torch.Tensor], NDArray[np.float32]]:
    """What latents look like, going by the style's reference and its own."""
    side, factor = models.profile.window, models.factor
    known = autoencode.pad(style.reference, side, factor)[:side, :side]
    cells = plan(side // factor, side // factor, side // factor, 0.0)
    return autoencode.roughly(known, outcome(autoencode.encode(models, known, cells)))


def _fitted(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The square image cut to the wanted proportions and scaled to (height, width)."""
    side = len(image)
    scale = max(height, width) / side
    tall, wide = max(1, round(height / scale)), max(1, round(width / scale))
    top, left = (side - tall) // 2, (side - wide) // 2
    part = np.ascontiguousarray(image[top : top + tall, left : left + wide])
    how = cv2.INTER_CUBIC if scale > 1.0 else cv2.INTER_AREA
    return np.clip(cv2.resize(part, (width, height), interpolation=how), 0.0, 1.0)
