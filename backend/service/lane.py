"""Runs the queued jobs of some kinds one after another in a worker process."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from backend.checks import remove_leftovers
from backend.jobs import JobState, JobStatus, Progress, Result, job_to_dict
from backend.service.process import Worker
from backend.service.store import JobStore

__all__ = ["CANCEL_PATIENCE", "Lane"]

CANCEL_PATIENCE = 1.2  # seconds a worker may take to stop a job by itself
STOP_PATIENCE = 1.0


class Lane:
    """One worker at a time, which keeps its models from job to job.

    Everything happens in one event loop, so the store needs no locks.

    Args:
        kinds: the kinds of job that this lane takes from the store, in their order.
        command: starts a worker.
        idle: seconds without a job after which the worker is ended, so that its memory is free.
        moved_on: called when a job has ended: others may have waited for it.
    """

    def __init__(
        self,
        store: JobStore,
        kinds: Collection[str],
        command: Sequence[str],
        idle: float,
        moved_on: Callable[[], None],
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._command = command
        self._idle = idle
        self._moved_on = moved_on
        self._worker: Worker | None = None
        self._running: str | None = None
        self._given = False  # whether the worker has heard of the running job
        self._cancelling = False
        self._ultimatum: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do."""
        self._news.set()

    def runs(self, id: str) -> bool:
        return id == self._running

    def cancel(self, id: str) -> JobStatus:
        """End the running job within two seconds."""
        status = self._store.status(id)
        if self._cancelling:
            return status
        self._cancelling = True
        if self._given:
            self._pass_on_cancel(id)
        progress = status.progress or Progress(stage="starting", step=0, steps=1)
        return self._store.update(id, progress=dataclasses.replace(progress, message="cancelling"))

    def _pass_on_cancel(self, id: str) -> None:
        assert self._worker is not None
        self._worker.send({"cancel": id})
        loop = asyncio.get_running_loop()
        self._ultimatum = loop.call_later(CANCEL_PATIENCE, self._worker.kill)

    async def run(self) -> None:
        """Work until cancelled; then the worker is stopped too."""
        try:
            while True:
                self._news.clear()
                self._running = self._store.next_queued(self._kinds)
                if self._running is None:
                    await self._rest()
                else:
                    await self._work(self._running)
                    self._running = None
                    self._moved_on()
        finally:
            await self._dismiss()

    async def _rest(self) -> None:
        if self._worker is not None:
            try:
                await asyncio.wait_for(self._news.wait(), self._idle)
            except TimeoutError:
                await self._dismiss()
            return
        await self._news.wait()

    async def _dismiss(self) -> None:
        if self._worker is not None:
            await self._worker.stop(STOP_PATIENCE)
            self._worker = None

    async def _work(self, id: str) -> None:
        self._store.update(id, state=JobState.RUNNING)
        job = self._store.job(id)
        try:
            if self._worker is None or not self._worker.alive:
                self._worker = await Worker.start(self._command)
            self._worker.send({"run": id, "job": job_to_dict(job)})
            self._given = True
            if self._cancelling:
                self._pass_on_cancel(id)
            while not self._store.status(id).state.final:
                message = await self._worker.receive()
                self._store.update(id, **self._change(message))
                if message is None:
                    remove_leftovers(job)
        except OSError as error:
            self._store.update(
                id,
                state=JobState.FAILED,
                error=f"The worker process cannot be started ({error.strerror or error}).",
                remedy="Close other programs, or restart the backend.",
            )
        finally:
            self._given = self._cancelling = False
            if self._ultimatum is not None:
                self._ultimatum.cancel()
                self._ultimatum = None

    def _change(self, message: dict[str, Any] | None) -> dict[str, Any]:
        """What a message of the worker changes in its job's status."""
        match message:
            case {"progress": progress}:
                if self._cancelling:
                    progress["message"] = "cancelling"
                return {"progress": Progress(**progress)}
            case {"done": result}:
                return {"state": JobState.DONE, "result": Result(**result)}
            case {"error": error, "remedy": remedy}:
                return {"state": JobState.FAILED, "error": error, "remedy": remedy}
            case {"cancelled": True}:
                return {"state": JobState.CANCELLED}
        assert self._worker is not None
        if self._cancelling:
            return {"state": JobState.CANCELLED}
        return {
            "state": JobState.FAILED,
            "error": f"The worker process ended unexpectedly ({self._worker.cause_of_death()}).",
            "remedy": "Memory may have run out: close other programs or use a smaller image, "
            "then run the job again; training goes on from its last checkpoint.",
        }
