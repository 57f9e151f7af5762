"""Runs the queued jobs of some kinds one after another in a worker process."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from backend.checks import remove_leftovers
from backend.jobs import Job, JobStatus, Progress, Result, job_to_dict
from backend.service.artefacts import Artefact
from backend.service.database import StoreError
from backend.service.events import LogLine
from backend.service.process import Worker
from backend.service.quota import QuotaError
from backend.service.receipts import Receipt
from backend.service.records import Records
from backend.service.redaction import Redactor
from backend.service.store import JobStore

__all__ = ["CANCEL_PATIENCE", "Lane"]

_log = logging.getLogger(__name__)

CANCEL_PATIENCE = 1.0  # seconds a worker may take to stop a job by itself
OUTLIVING = 1.0  # seconds after a worker's death: a service that still lives did not die with it
STOP_PATIENCE = 1.0
MOST_LINES = 500  # of a job's log, each time it runs
BACK_OFF = 0.5  # seconds after a worker's first crash; twice that after each further one
LONGEST_BACK_OFF = 60.0
MOST_CRASHES = 5  # in a row; then nothing more is tried by itself
RETRY_SECONDS = 2.0  # until a job table that could not be written is tried again


class Lane:
    """One worker at a time, which keeps its models from job to job.

    Everything happens in one event loop, so the store needs no locks.

    Args:
        kinds: the kinds of job that this lane takes from the store, in their order.
        command: starts a worker.
        idle: seconds without a job after which the worker is ended, so that its memory is free.
        moved_on: called when a job has ended: others may have waited for it.
        records: where workers say that they have finished; None if nothing outlives the service.
        admit: raises a QuotaError where there is no room for what a job makes.
        redact: makes lines of a worker's log fit for clients.
        variables: of the worker's environment, such as which GPU is its own.
        hopeless: whether no lane for these kinds has a worker that lives; asked when this one's
            has crashed too often.
    """

    def __init__(
        self,
        store: JobStore,
        kinds: Collection[str],
        command: Sequence[str],
        idle: float,
        moved_on: Callable[[], None],
        records: Records | None = None,
        admit: Callable[[Job], None] = lambda _: None,
        redact: Callable[[str], str] = Redactor(),  # noqa: B008 - it never changes
        variables: Mapping[str, str] | None = None,
        hopeless: Callable[[Collection[str]], bool] = lambda _: True,
    ) -> None:
        self._store = store
        self.kinds = kinds
        self._command = command
        self._idle = idle
        self._moved_on = moved_on
        self._records = records
        self._admit = admit
        self._redact = redact
        self._variables = variables
        self._hopeless = hopeless
        self._crashes = 0  # in a row
        self._not_before = 0.0  # of the event loop's clock: when a worker may be started again
        self._lines = 0  # of the running job's log
        self._worker: Worker | None = None
        self._running: str | None = None
        self._given = False  # whether the worker has heard of the running job
        self._begun = False  # whether it has begun it
        self._spared: str | None = None  # the job that went back to the queue, not begun
        self._cancelling = False
        self._ultimatum: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do."""
        self._news.set()

    @property
    def broken(self) -> bool:
        """Whether its worker has crashed too often to be tried any more, but for a new job."""
        return self._crashes >= MOST_CRASHES

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
        try:
            return self._store.cancelling(id, dataclasses.replace(progress, message="cancelling"))
        except StoreError as error:
            # It ends all the same, unless the service ends first.
            _log.warning("job %s: %s", id, error)
            return status

    def _pass_on_cancel(self, id: str) -> None:
        assert self._worker is not None
        self._worker.send({"cancel": id})
        loop = asyncio.get_running_loop()
        self._ultimatum = loop.call_later(CANCEL_PATIENCE, self._worker.kill)

    async def run(self) -> None:
        """Work until cancelled; then the worker is stopped too, and its job is for next time."""
        try:
            while True:
                self._news.clear()
                if self._store.next_queued(self.kinds) is None:
                    await self._rest()
                    continue
                # Jobs wait meanwhile, and can be cancelled or taken by another lane.
                await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())
                self._running = self._store.next_queued(self.kinds)
                if self._running is None:
                    continue
                try:
                    self._admit(self._store.job(self._running))
                    self._store.start(self._running)
                except QuotaError as error:
                    await self._conclude(
                        self._running, {"error": error.message, "remedy": error.remedy}
                    )
                    self._running = None
                    self._moved_on()
                    continue
                except StoreError as error:
                    _log.error("no job can be started: %s", error)
                    self._running = None
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._work(self._running)
                self._running = None
                if self.broken and self._hopeless(self.kinds):
                    await self._give_up()
                self._moved_on()
        finally:
            await self._dismiss()
            if self._running is not None:
                _tidy(self._store, self._running)

    async def _rest(self) -> None:
        if self._worker is not None:
            try:
                # Not wait_for: in Python 3.11 it may swallow the service's end.
                async with asyncio.timeout(self._idle):
                    await self._news.wait()
            except TimeoutError:
                await self._dismiss()
            return
        await self._news.wait()

    async def _dismiss(self) -> None:
        if self._worker is not None:
            await self._worker.stop(STOP_PATIENCE)
            self._worker = None

    async def _give_up(self) -> None:
        """Fail what waits for a worker that does not live; what comes later is tried once."""
        for id in self._store.queued(self.kinds):
            await self._conclude(
                id,
                {
                    "error": f"The worker process crashed {self._crashes} times in a row: "
                    "no more jobs are tried.",
                    "remedy": "`python -m backend doctor` and the log say more; then run the job "
                    "again.",
                },
            )

    def _count(self, crashed: bool) -> None:
        """After a job: whether its worker has lived, and when the next may be started."""
        self._crashes = self._crashes + 1 if crashed else 0
        pause = min(BACK_OFF * 2.0 ** (self._crashes - 1), LONGEST_BACK_OFF) if crashed else 0.0
        self._not_before = asyncio.get_running_loop().time() + (
            LONGEST_BACK_OFF if self.broken else pause
        )

    async def _work(self, id: str) -> None:
        self._lines, self._begun = 0, False
        try:
            try:
                last = await self._last_word(id)
                self._count(crashed=last is None and not self._cancelling)
            except OSError as error:
                self._count(crashed=True)
                last = {
                    "error": f"The worker process cannot be started ({error.strerror or error}).",
                    "remedy": "Close other programs, or restart the backend.",
                }
            self._let_go()
            if last is None:
                last = self._finished(id)
                _tidy(self._store, id, finished=last is not None)
            if last is None:
                if not self._cancelling:
                    # What kills both may kill the worker first: then the job is for next time.
                    await asyncio.sleep(OUTLIVING)
                last = self._cause(id)
            await self._conclude(id, last)
        finally:
            self._let_go()
            self._cancelling = False

    async def _last_word(self, id: str) -> dict[str, Any] | None:
        """What the worker says at the job's end; None if it dies without a word."""
        if self._worker is None or not self._worker.alive:
            await self._dismiss()
            lock = self._records.lock if self._records else None
            self._worker = await Worker.start(self._command, lock, self._variables)
        order = {"run": id, "job": job_to_dict(self._store.job(id))}
        if self._records is not None:
            order["receipt"] = str(self._records.receipt(id))
        self._worker.send(order)
        self._given = True
        if self._cancelling:
            self._pass_on_cancel(id)
        while True:
            message = await self._worker.receive()
            if message is not None and "log" in message:
                self._hear(id, message["log"])
                continue
            if message is not None:
                self._begun = True
            if message is not None and "begun" in message:
                continue
            if message is None or "progress" not in message:
                return message
            if self._cancelling:
                message["progress"]["message"] = "cancelling"
            try:
                self._store.progress(id, Progress(**message["progress"]))
            except StoreError as error:
                _log.warning("job %s: its progress is not noted: %s", id, error)

    def _hear(self, id: str, line: dict[str, Any]) -> None:
        """Note a line of the worker's log; of a flood only the beginning."""
        self._lines += 1
        if self._lines > MOST_LINES:
            return
        text = self._redact(str(line.get("text")))
        if self._lines == MOST_LINES:
            text = "more was said; the rest is left out"
        level = {"warning": "warning", "error": "error"}.get(str(line.get("level")), "info")
        try:
            self._store.log(id, LogLine(level, text))
        except StoreError as error:
            _log.warning("job %s: a line of its log is not noted: %s", id, error)

    def _let_go(self) -> None:
        """The worker has nothing more to do with the job."""
        self._given = False
        if self._ultimatum is not None:
            self._ultimatum.cancel()
            self._ultimatum = None

    async def _conclude(self, id: str, last: dict[str, Any]) -> None:
        """Note how the job ended, as soon as that is possible."""
        while True:
            try:
                status = self._note(id, last)
                break
            except StoreError as error:
                _log.error("job %s: its end is not noted: %s", id, error)
                await asyncio.sleep(RETRY_SECONDS)
        _log.info("job %s (%s) is %s %s", id, status.kind, status.state, status.error)
        if "trace" in last:
            _log.error("%s", last["trace"])
        if self._records is not None:
            self._records.forget(id)

    def _note(self, id: str, last: dict[str, Any]) -> JobStatus:
        match last:
            case {"done": result}:
                artefacts = [Artefact.from_dict(each) for each in last.get("artefacts", ())]
                return self._store.done(id, Result(**result), artefacts)
            case {"error": error, "remedy": remedy}:
                return self._store.failed(id, error, remedy)
            case {"again": True} if not self._cancelling:
                return self._store.requeue(id)
        return self._store.cancelled(id)

    def _finished(self, id: str) -> dict[str, Any] | None:
        """The last word of a worker that had finished, but died before it could say so."""
        receipt = Receipt.settled(self._records.receipt(id)) if self._records else None
        if receipt is None:
            return None
        artefacts = [each.to_dict() for each in receipt.artefacts]
        return {"done": dataclasses.asdict(receipt.result), "artefacts": artefacts}

    def _cause(self, id: str) -> dict[str, Any]:
        """The last word in place of a worker that has none."""
        if self._cancelling:
            return {"cancelled": True}
        assert self._worker is not None
        cause = self._worker.cause_of_death()
        if not self._begun:
            # Something else has ended it, unless the next one ends in the same way.
            if id != self._spared:
                self._spared = id
                _log.warning("job %s: its worker ended before it began (%s)", id, cause)
                return {"again": True}
            return {
                "error": f"Two worker processes ended before they began this job ({cause}).",
                "remedy": "`python -m backend doctor` and the log say more; then run the job "
                "again.",
            }
        return {
            "error": f"The worker process ended unexpectedly ({cause}).",
            "remedy": "Memory may have run out: close other programs or use a smaller image, "
            "then run the job again; training goes on from its last checkpoint.",
        }


def _tidy(store: JobStore, id: str, *, finished: bool = False) -> None:
    """Remove what a killed worker left aside."""
    try:
        remove_leftovers(store.job(id), finished=finished)
    except OSError as error:
        _log.warning("job %s: temporary files stay: %s", id, error)
