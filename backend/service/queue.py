"""Shares the queued jobs out to lanes: for long ones as many as wanted, and one for first looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from backend.jobs import JOB_TYPES, Job, JobState, JobStatus, PreviewJob
from backend.service.devices import places
from backend.service.lane import Lane
from backend.service.process import WORKER
from backend.service.quota import Quota
from backend.service.records import Records
from backend.service.redaction import Redactor
from backend.service.store import JobStore

__all__ = ["Queue"]

QUICK = frozenset({PreviewJob.kind})  # seconds of work, and no model to load
LONG = frozenset(JOB_TYPES) - QUICK
IDLE_SECONDS = {QUICK: 60.0, LONG: 900.0}  # a model is worth keeping for longer


class Queue:
    """Takes jobs from the store in their order, the quick ones beside the long ones.

    Args:
        records: what outlives this service, if anything does.
        quota: how much results may take, if there is a limit.
        redact: makes lines of workers' logs fit for clients; without, no path is.
        devices: GPUs that get workers of their own, as `devices.devices` names them; without,
            workers take what they find.
        workers: for long jobs, on each GPU, or altogether.
        command: starts a worker.
        idle: seconds after which a worker without a job is ended; by kind of job if absent.
    """

    def __init__(
        self,
        store: JobStore,
        command: Sequence[str] = WORKER,
        idle: float | None = None,
        records: Records | None = None,
        quota: Quota | None = None,
        redact: Callable[[str], str] = Redactor(),  # noqa: B008 - it never changes
        devices: Sequence[str] = (),
        workers: int = 1,
    ) -> None:
        self._store = store
        self._admit = (quota or Quota(store)).check
        # A first look does not use a GPU.
        variables: dict[frozenset[str], list[dict[str, str]]]
        variables = {QUICK: [{}], LONG: places(workers * max(1, len(devices)), devices)}
        self._lanes = [
            Lane(
                store,
                kinds,
                command,
                seconds if idle is None else idle,
                self._wake,
                records,
                self._admit,
                redact,
                place,
                self._hopeless,
            )
            for kinds, seconds in IDLE_SECONDS.items()
            for place in variables[kinds]
        ]

    def submit(self, job: Job, owner: int | None = None, key: str | None = None) -> JobStatus:
        """Queue a job.

        Args:
            owner: the process that waits for it; see `abandon`.
            key: the client's name for this request; see `JobStore.add`.

        Raises:
            QuotaError: there is no room for what it makes.
        """
        status = self._store.add(job, owner, key, self._admit)
        self._wake()
        return status

    def cancel(self, id: str) -> JobStatus:
        """A waiting job is cancelled now, a running one within two seconds."""
        status = self._store.status(id)
        if status.state is JobState.QUEUED:
            status = self._store.cancelled(id)
            self._wake()
            return status
        for lane in self._lanes:
            if lane.runs(id):
                return lane.cancel(id)
        return status

    def abandon(self, owner: int) -> None:
        """Cancel what a process that has gone was waiting for."""
        for id in self._store.unfinished(owner):
            self.cancel(id)

    async def run(self) -> None:
        """Work until cancelled; then the workers are stopped too."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run())

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.wake()

    def _hopeless(self, kinds: Collection[str]) -> bool:
        return all(lane.broken for lane in self._lanes if lane.kinds == kinds)
