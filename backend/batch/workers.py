"""What does a batch's jobs: some workers that each run one job at a time, and what they say.

The driver (`backend.batch.work`) decides who does what and alone writes the record; an engine only
starts workers, hands jobs over and passes on what is heard. Engines are imported when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from backend.jobs import Job, Progress, Result
from backend.service.locks import Lock

__all__ = ["ENGINES", "Failed", "Lost", "Message", "Open", "Ready", "Workers", "opener", "read"]

ENGINES = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has started and can be given its first job."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The job cannot be done; the worker is free again."""

    error: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker has ended, and with it its job if it had one; another is being started."""

    cause: str


Message = Ready | Progress | Result | Failed | Lost


class Workers(Protocol):
    """Workers by number, 0 … count - 1; each keeps its models from job to job."""

    @property
    def count(self) -> int: ...

    def give(self, worker: int, job: Job) -> None:
        """Let a worker that is free begin a job."""

    def hear(self) -> tuple[int, Message]:
        """Wait for what a worker says next; a `Result` or `Failed` means that it is free.

        Raises:
            StitchworkError: there will be no more workers.
        """

    def close(self) -> None:
        """End all workers, whatever they do; what they left aside is the caller's to remove."""


Open = Callable[[Lock], Workers]  # starts the workers; where they can, they hold the lock as well


def opener(engine: str, count: int = 0) -> Open:
    """What starts the workers of an engine, one of ENGINES.

    Args:
        count: how many; as many as the engine finds fit if 0.

    Raises:
        ResourceError: the engine is not installed.
    """
    if engine == "ray":
        from backend.batch import ray

        ray.check_installed()
        return lambda _: ray.RayWorkers(count)
    from backend.batch import local

    return lambda lock: local.LocalWorkers(count, lock)


def read(message: dict[str, Any] | None) -> Message | None:
    """A message in its JSON form, as `backend.service.worker` lists them; None if of no interest.

    Raises:
        ValueError: it is none of these.
    """
    match message:
        case {"progress": dict(fields)}:
            return Progress(**fields)
        case {"done": dict(fields)}:
            return Result(**fields)
        case {"error": str(error), "remedy": str(remedy)}:
            return Failed(f"{error} {remedy}".strip())
        case {"cancelled": True}:
            return Failed("It was cancelled.")
        case {"log": _} | {"begun": True}:
            return None
    raise ValueError(f"a worker said {message!r}")
