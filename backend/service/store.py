"""The service's table of jobs, in memory."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from backend.errors import InputError, ResourceError
from backend.jobs import Job, JobState, JobStatus

__all__ = ["JobStore"]


@dataclass(slots=True)
class _Entry:
    job: Job
    status: JobStatus
    owner: int | None


class JobStore:
    """Jobs and their states, in the order they came; the oldest finished ones are forgotten.

    Args:
        limit: how many jobs are remembered; as many may wait at once.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._entries: dict[str, _Entry] = {}

    def add(self, job: Job, owner: int | None = None) -> JobStatus:
        """A new queued job.

        Args:
            owner: the process that waits for it.

        Raises:
            ResourceError: the table is full of jobs that are not finished.
        """
        if len(self._entries) >= self._limit:
            oldest = next((key for key, e in self._entries.items() if e.status.state.final), None)
            if oldest is None:
                raise ResourceError(
                    f"{self._limit} jobs are waiting already.", "Wait for some, or cancel them."
                )
            del self._entries[oldest]
        status = JobStatus(id=secrets.token_hex(8), kind=job.kind, state=JobState.QUEUED)
        self._entries[status.id] = _Entry(job, status, owner)
        return status

    def job(self, id: str) -> Job:
        return self._entry(id).job

    def status(self, id: str) -> JobStatus:
        """Raises InputError where no such job is known."""
        return self._entry(id).status

    def all(self) -> list[JobStatus]:
        return [entry.status for entry in self._entries.values()]

    def next_queued(self, kinds: Collection[str]) -> str | None:
        """Id of the job of these kinds that has waited longest.

        Jobs that share a file keep their order: none starts before an earlier one has ended that
        writes what it uses, or uses what it writes.
        """
        earlier: list[Job] = []
        for entry in self._entries.values():
            if entry.status.state.final:
                continue
            if (
                entry.status.state is JobState.QUEUED
                and entry.job.kind in kinds
                and not any(_share_files(entry.job, other) for other in earlier)
            ):
                return entry.status.id
            earlier.append(entry.job)
        return None

    def unfinished(self, owner: int) -> list[str]:
        """Ids of the jobs that a process waits for."""
        entries = self._entries.values()
        return [e.status.id for e in entries if e.owner == owner and not e.status.state.final]

    def update(self, id: str, **changes: Any) -> JobStatus:
        """Change a job that is not finished; a finished one stays as it is."""
        entry = self._entry(id)
        if not entry.status.state.final:
            entry.status = dataclasses.replace(entry.status, **changes)
        return entry.status

    def _entry(self, id: str) -> _Entry:
        try:
            return self._entries[id]
        except KeyError:
            raise InputError(f"Job {id!r} is not known.", "List the jobs with /v1/jobs.") from None


def _share_files(one: Job, other: Job) -> bool:
    """Whether one of them writes a file, or a folder around it, that the other uses."""
    return _touches(one.out, other) or _touches(other.out, one)


def _touches(written: str, job: Job) -> bool:
    place = PurePath(written)
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        if (field.metadata.get("path") or field.name == "base") and value is not None:
            used = PurePath(value)
            if place == used or place in used.parents or used in place.parents:
                return True
    return False
