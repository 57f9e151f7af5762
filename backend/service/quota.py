"""How much disk the results of jobs may take, and which could go where that is too much.

What counts: the files of finished jobs, as far as they are still there, and the checkpoints of
trainings. Nothing is ever deleted by itself; `python -m backend clean` does, when it is told to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from backend.checks import needed_bytes
from backend.errors import ResourceError
from backend.jobs import Job, JobState, TrainJob
from backend.service.sharing import touches
from backend.service.store import JobStore, Outputs

__all__ = ["GB", "Quota", "QuotaError", "gigabytes", "removable", "remove", "size_of"]

GB = 10**9
_QUOTA = "the quota (serve --quota-gb; in Blender: Stitchwork's preferences)."
_DELETE = (
    "Delete pictures or styles that you no longer need, have the oldest removed with "
    "`python -m backend clean`, or"
)


class QuotaError(ResourceError):
    """The results of jobs may take no more disk."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The bytes that results may take; None: as many as the disk has."""

    store: JobStore
    limit: int | None = None

    def used(self) -> int:
        """Bytes that are kept now; what the user has deleted or moved does not count.

        Raises:
            StoreError: the job table cannot be read.
        """
        files = {each.path for done in self.store.outputs() for each in done.artefacts}
        for out in self.store.unmade(TrainJob.kind):
            partial = f"{out}.partial"
            if os.path.isdir(partial):
                files |= {str(each) for each in Path(partial).rglob("*")}
        return sum(map(_size, files))

    def check(self, job: Job) -> None:
        """See that there is room for a job, beside those that run.

        Raises:
            QuotaError: with what to do about it.
        """
        if self.limit is None:
            return
        needed = sum(map(needed_bytes, [job, *self.store.jobs(JobState.RUNNING)]))
        used = self.used()
        if used + needed > self.limit:
            raise QuotaError(
                f"Results take {gigabytes(used)} of disk and the job may need {gigabytes(needed)} "
                f"more; the quota is {gigabytes(self.limit)}.",
                f"{_DELETE} raise {_QUOTA}" if used else f"Raise {_QUOTA}",
            )


def removable(store: JobStore, *, styles: bool) -> list[Outputs]:
    """Results that could go, the oldest first.

    Left out is what was changed since, what a later job has written anew, and what a job that is
    not finished uses.

    Args:
        styles: trained styles too.

    Raises:
        StoreError: the job table cannot be read.
    """
    unfinished = store.jobs(JobState.QUEUED, JobState.RUNNING)
    found: list[Outputs] = []
    later: set[str] = set()
    for done in reversed(store.outputs()):
        paths = {each.path for each in done.artefacts}
        if (
            paths
            and not paths & later
            and (styles or done.kind != TrainJob.kind)
            and not any(touches(path, job) for path in done.paths for job in unfinished)
            and all(each.intact for each in done.artefacts)
        ):
            found.append(done)
        later |= paths
    return found[::-1]


def size_of(done: Outputs) -> int:
    """Bytes of a result."""
    return sum(each.size for each in done.artefacts)


def remove(done: Outputs) -> None:
    """Delete a result for good; a folder that holds more than that stays, with the rest.

    Raises:
        OSError: a file may not be deleted.
    """
    for each in done.artefacts:
        Path(each.path).unlink(missing_ok=True)
    for path in map(Path, done.paths):
        if path.is_dir():
            inside = sorted((each for each in path.rglob("*") if each.is_dir()), reverse=True)
            for folder in [*inside, path]:
                if not any(folder.iterdir()):
                    folder.rmdir()


def gigabytes(count: int) -> str:
    """Bytes in words."""
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / 10**6:.0f} MB"


def _size(path: str) -> int:
    try:
        found = Path(path)
        return found.stat().st_size if found.is_file() else 0
    except (OSError, ValueError):
        return 0
