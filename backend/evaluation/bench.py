"""How long the work takes on this machine: the preview, some training, and restyling by size."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.engine import Engine
from backend.imaging.files import write_png
from backend.jobs import Job, PreviewJob, Progress, RestyleJob, TrainJob

__all__ = ["Timing", "artwork", "bench", "to_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall seconds of one kind of work; `unit` says of how much."""

    work: str
    unit: str
    seconds: float


def bench(
    profile: str, sizes: Sequence[int], steps: int, base: str | None = None
) -> Generator[Progress, None, list[Timing]]:
    """Time every kind of job on drawn pictures; nothing is left behind.

    Args:
        sizes: sides of the square images to embroider, pixels.
        steps: stage-one steps to time; stage two is left out, a step takes some three times as
            long.
        base: hub id or folder in place of the profile's base model.
    """
    engine, timings = Engine(), []
    with tempfile.TemporaryDirectory(prefix="stitchwork-bench-") as name:
        folder = Path(name)
        write_png(folder / "reference.png", _reference())
        style = str(folder / "style")
        train = TrainJob(
            reference=str(folder / "reference.png"),
            out=style,
            profile=profile,
            base=base,
            steps_one=steps,
            steps_two=0,
            blocks="paper",
        )
        seconds = yield from _timed(engine, train)
        timings.append(
            Timing(work="training", unit="a stage-one step", seconds=seconds["stage one"] / steps)
        )
        timings.append(Timing(work="loading", unit="the models", seconds=seconds["loading"]))
        for size in sizes:
            write_png(folder / "art.png", artwork(size))
            art, out = str(folder / "art.png"), str(folder / "out.png")
            jobs: tuple[Job, ...] = (
                PreviewJob(reference=train.reference, input=art, out=out),
                RestyleJob(style=style, input=art, out=out, base=base),
            )
            for job in jobs:
                seconds = yield from _timed(engine, job)
                unit = f"{size} × {size} px"
                timings.append(Timing(work=job.kind, unit=unit, seconds=sum(seconds.values())))
    return timings


def to_text(timings: Sequence[Timing]) -> str:
    """A table for the terminal."""
    rows = [f"{each.work:<10}{each.unit:<20}{each.seconds:>9.2f} s" for each in timings]
    return "\n".join([f"{platform.system()} {platform.machine()}", *rows])


def _timed(engine: Engine, job: Job) -> Generator[Progress, None, dict[str, float]]:
    began = time.perf_counter()
    result = yield from engine.run(job)
    return result.seconds or {job.kind: time.perf_counter() - began}


def _reference(side: int = 384) -> NDArray[np.float32]:
    """A disc of slanted thread on plain cloth, (side, side, 3)."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    inside = np.hypot(x - side / 2, y - side / 2) < 0.4 * side
    thread = 0.75 + 0.25 * np.sin((x + 0.5 * y) * 2 * np.pi / 7.0)
    colour = thread[..., None] * np.array((0.8, 0.2, 0.25), dtype=np.float32)
    cloth = np.array((0.8, 0.78, 0.74)) + 0.02 * np.sin(2.1 * y)[..., None]
    return np.where(inside[..., None], colour, cloth).astype(np.float32)


def artwork(side: int) -> NDArray[np.float32]:
    """A blue ring on white, (side, side, 3)."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    radius = np.hypot(x - side / 2, y - side / 2) / side
    ring = (radius > 0.15) & (radius < 0.45)
    return np.where(ring[..., None], (0.15, 0.3, 0.7), 1.0).astype(np.float32)
