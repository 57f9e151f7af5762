"""The pair of a job where Stable Diffusion 3 draws its design: made before the base is loaded."""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch

from backend import tasks
from backend.emolora.checkpoint import kept_pair
from backend.emolora.designs import Picture, by_designer, draws
from backend.emolora.pair import Pair, pair_drawn
from backend.emolora.sd3 import drawing_passes
from backend.errors import InputError
from backend.jobs import NOTE, AnalyseJob, Progress, TrainJob
from backend.models.designer import Designer, find
from backend.models.profiles import Profile
from backend.progress import Meter, Stage

__all__ = ["designed"]

_PAIR, _DRAWING = "pair", "drawing the design"
Fit = Callable[[], tuple[Profile, torch.device]]


def designed(
    job: TrainJob | AnalyseJob, profile: Profile, fit: Fit
) -> Generator[Progress, None, tuple[Designer | None, Pair | None]]:
    """Who draws a job's designs, and its pair if that is not the base model.

    Says who it is where that may be another than the user thinks.

    Args:
        fit: makes room on the device; the profile as it fits there, and the device.

    Returns:
        None, None where the base model draws, or nobody.

    Raises:
        InputError, ProfileError: as `find`.
    """
    designer, note = find(profile, job.designer)
    profile = tasks.get(job.task).settings(profile)
    given = job.design is not None
    # Complementary pairs need designs, too, of which none is given.
    if not draws(profile) or (given and isinstance(job, AnalyseJob)):
        return None, None
    if note:
        yield Progress(stage=NOTE, step=0, steps=1, message=note)
    if designer is None or given:
        return designer, None
    made = None
    if isinstance(job, TrainJob):
        made = _kept(job, profile)
    if made is None:
        profile, device = fit()
        made = yield from _pair(job, tasks.get(job.task).settings(profile), designer, device)
    return designer, made


def _kept(job: TrainJob, profile: Profile) -> Pair | None:
    """The pair of an unfinished run of the same job."""
    folder = kept_pair(job, profile)
    try:
        return None if folder is None else Pair.load(folder)
    except (InputError, OSError, ValueError, KeyError):
        return None


def _pair(
    job: TrainJob | AnalyseJob, profile: Profile, designer: Designer, device: torch.device
) -> Generator[Progress, None, Pair]:
    meter = Meter([Stage(_PAIR, 1, 4.0), Stage(_DRAWING, drawing_passes(profile), 1.0)])
    stage = _PAIR
    draw = by_designer(designer, profile, device, job.subject, job.seed)

    def watched(embroidery: Picture, flat: Picture) -> Generator[None, None, Picture]:
        nonlocal stage
        stage = _DRAWING
        drawn = yield from draw(embroidery, flat)
        return drawn

    steps = pair_drawn(
        profile, job.reference, watched, drawer="designer", mask=job.mask, seed=job.seed
    )
    try:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: Pair = end.value
                return made
            yield meter.tick(stage, steps=int(stage == _DRAWING))
    finally:
        steps.close()
