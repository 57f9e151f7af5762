"""The service's table of jobs, in memory."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from typing import Any

from backend.errors import InputError, ResourceError
from backend.jobs import Job, JobState, JobStatus

__all__ = ["JobStore"]


@dataclass(slots=True)
class _Entry:
    job: Job
    status: JobStatus


class JobStore:
    """Jobs and their states, in the order they came; the oldest finished ones are forgotten.

    Args:
        limit: how many jobs are remembered; as many may wait at once.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._entries: dict[str, _Entry] = {}

    def add(self, job: Job) -> JobStatus:
        """A new queued job.

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
        self._entries[status.id] = _Entry(job, status)
        return status

    def job(self, id: str) -> Job:
        return self._entry(id).job

    def status(self, id: str) -> JobStatus:
        """Raises InputError where no such job is known."""
        return self._entry(id).status

    def all(self) -> list[JobStatus]:
        return [entry.status for entry in self._entries.values()]

    def next_queued(self) -> str | None:
        """Id of the job that has waited longest."""
        queued = (e.status.id for e in self._entries.values() if e.status.state is JobState.QUEUED)
        return next(queued, None)

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
