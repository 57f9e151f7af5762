"""Stand-ins for what does a batch's jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from restyling import collect
from running import save
from shelving import style

from backend.batch.work import Outcome, run_batch
from backend.batch.workers import Failed, Message, Ready
from backend.errors import StitchworkError
from backend.jobs import GenerateJob, Job, Progress, RestyleJob, Result, TrainJob

__all__ = ["Engine", "Inline", "do"]

Steps = Generator[Progress, None, Result]


class Inline:
    """One worker in this very process."""

    count = 1

    def __init__(self, run: Callable[[Job], Steps]) -> None:
        self._run = run
        self._steps: Steps | None = None

    def give(self, worker: int, job: Job) -> None:
        self._steps = self._run(job)

    def hear(self) -> tuple[int, Message]:
        if self._steps is None:
            return 0, Ready()
        try:
            return 0, next(self._steps)
        except StopIteration as finished:
            result: Result = finished.value
            return 0, result
        except StitchworkError as error:
            return 0, Failed(str(error))
        except Exception as error:  # noqa: BLE001 - as a worker does
            return 0, Failed(f"Unexpected {type(error).__name__}: {error}")

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()


class Engine:
    """Does jobs as the real one would, without a model; remembers them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.refuse: dict[str, Exception] = {}

    def open(self, _: object = None) -> Inline:
        return Inline(self.run)

    def run(self, job: Job) -> Generator[Progress, None, Result]:
        self.jobs.append(job)
        yield Progress(stage="doing", step=0, steps=1, seconds_left=1.0)
        source = next(
            getattr(job, name) for name in ("reference", "input", "prompt") if hasattr(job, name)
        )
        for part, error in self.refuse.items():
            if part in source:
                raise error
        if isinstance(job, TrainJob):
            style(Path(job.out).name).save(job.out)
            return Result(outputs={"style": job.out})
        assert isinstance(job, RestyleJob | GenerateJob)
        Path(job.out).parent.mkdir(parents=True, exist_ok=True)
        save(Path(job.out), np.full((8, 8, 3), job.seed % 256, dtype=np.uint8))
        return Result(outputs={"image": job.out})

    def kinds(self) -> list[str]:
        kinds = [job.kind for job in self.jobs]
        self.jobs.clear()
        return kinds


def do(manifest: Path, out: Path, engine: Engine) -> tuple[Outcome, dict[str, Any]]:
    outcome = collect(run_batch(manifest, out, engine.open))[1]
    return outcome, json.loads((out / "results.json").read_text())
