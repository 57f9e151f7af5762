"""A job's base model as it fits on this machine: its precision, memory mode and device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backend.jobs import AnalyseJob, GenerateJob, ModelJob, RestyleJob, TrainJob
from backend.models import memory, profiles
from backend.models.profiles import Profile

if TYPE_CHECKING:
    import torch

__all__ = ["fitted", "model_key", "wanted"]


def wanted(name: str, job: ModelJob, *, learns: bool = False) -> Profile:
    """The profile in the job's precision; `learns`: as it trains, unless the job says how."""
    profile = memory.with_precision(profiles.get(name), job.precision)
    if learns and job.precision == "auto":
        profile = replace(profile, cpu_dtype=profile.cpu_training)
    return profile


def fitted(profile: Profile, job: ModelJob) -> tuple[Profile, torch.device]:
    """The profile in the memory mode that fits, and where it will compute.

    Raises:
        ProfileError: there is no such base model.
        ResourceError: it will not fit; with the memory it needs, and what helps.
    """
    from backend.models.loading import default_device, precision
    from backend.models.residence import place_of
    from backend.models.sources import Source

    Source.of(profile, job.base, job.base_config, offline=job.offline)
    device = default_device()
    mode = memory.fitting(
        profile,
        job.memory,
        "restyle" if isinstance(job, RestyleJob | GenerateJob) else "train",
        place_of(device),
        str(precision(profile, device)).removeprefix("torch."),
        job.base,
    )
    return profile if mode is None else memory.applied(profile, mode), device


def model_key(profile: Profile, job: ModelJob) -> tuple[object, ...]:
    """What a loaded base model may be used again for."""
    learns = isinstance(job, TrainJob | AnalyseJob)
    return profile, job.base, job.base_config, job.memory, learns
