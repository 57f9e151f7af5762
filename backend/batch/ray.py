"""Workers as actors of a Ray cluster, which share its machines' folders under the same paths.

Jobs and messages travel as plain dictionaries; how Ray packs them is its own affair.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import time
import traceback
from collections.abc import Iterator
from typing import Any

import backend
from backend.batch.cluster import Cluster
from backend.batch.workers import Lost, Message, Ready, read
from backend.errors import ResourceError, StitchworkError
from backend.jobs import Job, Progress, job_from_dict, job_to_dict

__all__ = ["Actor", "RayWorkers", "check_installed"]

PROGRESS_SECONDS = 0.5  # between two messages of a stage's progress
_POLL = 1.0


def check_installed() -> None:
    """See that there is a Ray to import, without importing it.

    Raises:
        ResourceError: there is none.
    """
    if importlib.util.find_spec("ray") is None:
        raise ResourceError(
            "--engine ray needs Ray, which is not installed.",
            'Install it: python -m pip install "ray>=2.60"',
        )


class Actor:
    """The worker itself, somewhere in the cluster; it keeps its models from job to job."""

    def __init__(self) -> None:
        from backend.engine import Engine

        self._engine = Engine()

    def hello(self) -> str:
        """The version of this program there."""
        return backend.__version__

    def run(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Do a job given in its JSON form; messages as those of `backend.service.worker`."""
        steps, stage, told = self._engine.run(job_from_dict(job)), "", 0.0
        try:
            while True:
                try:
                    progress = next(steps)
                except StopIteration as finished:
                    yield {"done": dataclasses.asdict(finished.value)}
                    return
                if progress.stage != stage or time.monotonic() - told > PROGRESS_SECONDS:
                    stage, told = progress.stage, time.monotonic()
                    yield {"progress": dataclasses.asdict(progress)}
        except StitchworkError as error:
            yield {"error": error.message, "remedy": error.remedy}
        except Exception as error:  # noqa: BLE001 - a defect fails its job, not the batch
            traceback.print_exc()
            yield {
                "error": f"Unexpected {type(error).__name__}: {error}",
                "remedy": "Please report this with the log of the Ray worker.",
            }
        finally:
            steps.close()


class RayWorkers:
    """See `backend.batch.workers.Workers`; an actor a GPU, or on processors where there is none.

    Actors that the cluster has no room for yet join when it has.

    Args:
        count: of actors; as many as the cluster has GPUs, or else machines, if 0.
    """

    def __init__(self, count: int = 0) -> None:
        self._cluster = Cluster(count)
        import ray  # only now: it reads its settings while it is imported

        self._ray = ray
        self.count = self._cluster.count
        # Never restarted by Ray: what becomes of a lost job is decided in one place.
        self._new = ray.remote(Actor).options(
            max_restarts=0, max_task_retries=0, **self._cluster.needs
        )
        self._actors: dict[int, Any] = {}
        self._awaited: dict[int, Any] = {}  # of each worker, what it will say next
        for number in range(self.count):
            self._start(number)

    def give(self, worker: int, job: Job) -> None:
        run = self._actors[worker].run.options(num_returns="streaming")
        self._awaited[worker] = run.remote(job_to_dict(job))

    def hear(self) -> tuple[int, Message]:
        errors = self._ray.exceptions
        while True:
            worker, said = self._next()
            try:
                if isinstance(said, self._ray.ObjectRef):
                    self._welcome(self._ray.get(said))
                    del self._awaited[worker]
                    return worker, Ready()
                message = read(self._ray.get(next(said)))
            except (errors.RayError, StopIteration) as error:
                self._ray.kill(self._actors[worker])
                self._start(worker)
                return worker, Lost(_cause(error))
            if message is not None:
                if not isinstance(message, Progress):
                    del self._awaited[worker]
                return worker, message

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._cluster.close()

    def _start(self, number: int) -> None:
        self._actors[number] = self._new.remote()
        self._awaited[number] = self._actors[number].hello.remote()

    def _next(self) -> tuple[int, Any]:
        """A worker that says something, and what it is."""
        waiting: list[Any] = []
        while not waiting:
            # With a time limit, so that Ctrl-C is noticed on every system.
            waiting, _ = self._ray.wait(list(self._awaited.values()), num_returns=1, timeout=_POLL)
        worker = next(number for number, each in self._awaited.items() if each is waiting[0])
        return worker, waiting[0]

    def _welcome(self, version: str) -> None:
        if version != backend.__version__:
            raise ResourceError(
                f"The cluster has version {version} of Stitchwork, this machine "
                f"{backend.__version__}.",
                "Install the same version on all its machines.",
            )


def _cause(error: Exception) -> str:
    """Ray's message in a line: its last one, which says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
