"""The add-on's one connection: which backend, which jobs, and what they came to.

Knows nothing of Blender. `step` takes one short look and never waits, so the panel's timer and the
headless loop drive the same object.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from .client import Client, Endpoint, LinkError, UnreachableError
from .jobs import Job, JobState, JobStatus, Progress, Result
from .joining import find_running
from .locate import Backend
from .process import BackendProcess

__all__ = ["Outcome", "Phase", "Session", "Task"]

# The service answers within milliseconds, but a machine deep in training may leave it no time.
PATIENCE_SECONDS = 120.0
# A backend that ended by itself is started again after a pause, which doubles, a few times.
BACK_OFF_SECONDS = 1.0
RESTARTS = 3
STEADY_SECONDS = 600.0  # one that lived this long has not ended for the same reason


class EndedError(LinkError):
    """The backend has ended by itself."""


class Phase(StrEnum):
    """Where the backend stands, as the panel shows it."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(slots=True)
class Task:
    """A job and what follows it.

    Attributes:
        title: in a designer's words, such as "Training the style".
        finish: takes the result, uses it, and says in words what it did.
        caution: what the user should know before the work begins; "" if nothing.
    """

    title: str
    job: Job
    finish: Callable[[Result], str]
    caution: str = ""
    id: str = ""
    status: JobStatus | None = None
    cancelled: bool = False

    @property
    def progress(self) -> Progress | None:
        return self.status.progress if self.status else None

    @property
    def waiting(self) -> bool:
        """Not begun: the backend is starting, or works on an earlier job."""
        return self.status is None or self.status.state is JobState.QUEUED


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: with a result, with an error, or cancelled (neither)."""

    task: Task
    result: Result | None = None
    error: LinkError | None = None


@dataclass(slots=True)
class Session:
    """At most one backend, and the tasks given to it in order.

    Attributes:
        restarts: how often in a row the backend has ended by itself and was started again.
    """

    tasks: list[Task] = field(default_factory=list)
    version: str = ""
    origin: str = ""
    failure: LinkError | None = None
    roots: list[Path] = field(default_factory=list)
    restarts: int = 0
    _process: BackendProcess | None = None
    _client: Client | None = None
    _silent_since: float | None = None
    _data: Path | None = None  # of the backend that was joined, or started where others may join
    _kept: bool = False  # whether jobs outlast the backend
    _log: Path | None = None
    _start: Callable[[], None] | None = None  # the backend, once more
    _began: float = 0.0
    _restart_at: float | None = None

    @property
    def phase(self) -> Phase:
        if self._restart_at is not None:
            return Phase.STARTING
        if self._process is not None and not self._process.running:
            rested = self._client is not None and not self.tasks and not self._process.failed
            return Phase.OFF if rested else Phase.FAILED
        if self._client is not None:
            return Phase.READY
        if self._process is not None:
            return Phase.STARTING
        return Phase.FAILED if self.failure else Phase.OFF

    @property
    def ready(self) -> bool:
        """Whether there is a backend, or will be, as far as can be told without asking it."""
        deserted = self._process is None and self._client is not None and self._gone()
        return self.phase in (Phase.READY, Phase.STARTING) and not deserted

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to watch."""
        return bool(self.tasks) or self.phase is Phase.STARTING

    @property
    def owned(self) -> bool:
        """Whether the backend was started here (and so ends here)."""
        return self._process is not None

    @property
    def silence(self) -> float:
        """Seconds for which the backend has not answered; 0 while it does."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def start(
        self,
        backend: Backend,
        *,
        roots: list[Path],
        parent: int,
        log: Path,
        data: Path | None = None,
    ) -> None:
        """Start a backend unless one is starting or ready; `step` sees it become ready.

        Args:
            data: folder that has one backend for all programs of the user. If one runs there it is
                joined; if that may not work in `roots`, this session gets one for itself.

        Raises:
            LinkError: it cannot be started, or the running one does not fit this add-on.
        """
        if self.ready:
            return
        self.stop()
        self.failure = None
        self.restarts = 0
        self._launch(backend, roots, parent, log, data)
        self._start = lambda: self._launch(backend, roots, parent, log, data)

    def _launch(
        self, backend: Backend, roots: list[Path], parent: int, log: Path, data: Path | None
    ) -> None:
        self.origin, self.roots, self._data, self._log = backend.origin, roots, data, log
        self._kept = data is not None
        self._began = time.monotonic()
        if self._join():
            return
        alone = data is not None and find_running(data) is not None
        self._kept = self._kept and not alone
        self._process = BackendProcess(
            backend.command(roots, parent, None if alone else data),
            log=log,
            variables=backend.variables(),
        )

    def _join(self) -> bool:
        """Join the backend that runs at the data folder, if one does and may work here."""
        running = find_running(self._data) if self._data is not None else None
        if running is None or not running.allows(self.roots):
            return False
        client = Client(running.endpoint)
        version = client.hello().version
        client.join(os.getpid())
        self._client, self.version = client, version
        self.origin, self.roots = "one that runs already", list(running.roots)
        return True

    def attach(self, endpoint: Endpoint) -> None:
        """Use a backend that runs already; raises a LinkError when it does not fit."""
        client = Client(endpoint)
        hello = client.hello()
        self.stop()
        self.failure = None
        self._client, self.version, self.origin = client, hello.version, endpoint.url
        self.roots = []

    def stop(self) -> None:
        """Leave the backend; one that the add-on started ends when nobody is left."""
        self._start = self._restart_at = None
        self._leave()

    def _leave(self) -> None:
        process, client, joined = self._process, self._client, self._data is not None
        self._process = self._client = self._silent_since = self._data = None
        if process is not None:
            process.stop()
        elif client is not None and joined:
            with suppress(LinkError):
                client.leave(os.getpid())

    def submit(self, task: Task) -> None:
        """Queue a task; it is sent as soon as the backend is ready.

        Raises:
            LinkError: no backend is running, or it refuses the job.
        """
        if self.phase is Phase.READY:
            self._send(task)
        elif self.phase is not Phase.STARTING:
            raise LinkError("The backend is not running.", "Start it first.")
        self.tasks.append(task)

    def cancel(self, task: Task) -> None:
        """Ask for the end of a task; `step` reports it when the backend has obeyed."""
        task.cancelled = True
        if task.id and self._client is not None:
            task.status = self._client.cancel(task.id)

    def step(self) -> list[Outcome]:
        """Look once at the backend and at each task; returns those that ended."""
        if self._restart_at is not None:
            return self._restart()
        if self._process is None and self._client is None:
            stopped, self.tasks = self.tasks, []
            return [Outcome(task) for task in stopped]
        try:
            if self._process is not None and not self._begin():
                return []
            outcomes = self._look()
            self._silent_since = None
        except UnreachableError as error:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
            if self._gone():
                return self._recover(self._ended())
            return [] if self.silence < PATIENCE_SECONDS else self._give_up(error)
        except EndedError as error:
            return self._recover(error)
        except LinkError as error:
            # One that was started again and does not come up has crashed once more.
            return self._recover(error) if self.restarts and self._gone() else self._give_up(error)
        if any(outcome.result is not None for outcome in outcomes):
            self.restarts = 0
        return outcomes

    def _recover(self, error: LinkError) -> list[Outcome]:
        """Have a backend that has ended started again, in a while, and its tasks go on."""
        if time.monotonic() - self._began > STEADY_SECONDS:
            self.restarts = 0
        if self._start is None:
            return self._give_up(error)
        if self.restarts >= RESTARTS:
            times = f"The backend ended {self.restarts + 1} times in a row: it is left off."
            return self._give_up(LinkError(times, error.remedy))
        self._leave()
        for task in self.tasks:
            if not self._kept:  # its jobs have ended with it
                task.id, task.status = "", None
        self._restart_at = time.monotonic() + BACK_OFF_SECONDS * 2.0**self.restarts
        self.restarts += 1
        return []

    def _restart(self) -> list[Outcome]:
        if self._restart_at is None or self._start is None or time.monotonic() < self._restart_at:
            return []
        self._restart_at = None
        try:
            self._start()
        except LinkError as error:
            return self._give_up(error)
        return []

    def _begin(self) -> bool:
        """Shake hands once the started backend has announced itself; True when it is ready."""
        if self._process is None:
            return False
        if not self._process.running and self._client is not None:
            raise self._ended()
        if self._client is None:
            try:
                endpoint = self._process.announced()
            except LinkError:
                if not self._join():  # another Blender was quicker
                    raise
                self._process.stop()
                self._process = None
                return True
            if endpoint is None:
                return False
            client = Client(endpoint)
            self.version = client.hello().version
            self._client = client
        return True

    def _gone(self) -> bool:
        """Whether the backend has ended, rather than being slow to answer."""
        if self._process is not None:
            return not self._process.running
        try:
            return self._data is not None and find_running(self._data) is None
        except LinkError:
            return True

    def _ended(self) -> EndedError:
        return EndedError(
            "The backend ended in mid-job.", f"Run the step again; its log is {self.log}."
        )

    @property
    def log(self) -> Path | None:
        return self._log

    def _look(self) -> list[Outcome]:
        outcomes = []
        for task in list(self.tasks):
            try:
                outcome = self._look_at(task)
            except UnreachableError:
                raise
            except LinkError as error:
                outcome = Outcome(task, error=error)
            if outcome is not None:
                self.tasks.remove(task)
                outcomes.append(outcome)
        return outcomes

    def _look_at(self, task: Task) -> Outcome | None:
        if self._client is None or not task.id:
            if task.cancelled:
                return Outcome(task)
            self._send(task)
            return None
        task.status = status = self._client.status(task.id)
        if status.state is JobState.DONE:
            # A job that was done before the wish to cancel arrived still counts as cancelled.
            return Outcome(task, result=None if task.cancelled else status.result or Result())
        if status.state is JobState.FAILED:
            return Outcome(task, error=LinkError(status.error or "The job failed.", status.remedy))
        if status.state is JobState.CANCELLED:
            return Outcome(task)
        if task.cancelled and self.restarts:  # the wish may have been lost with the old backend
            task.status = self._client.cancel(task.id)
        return None

    def _send(self, task: Task) -> None:
        if self._client is not None:
            known = self._process is not None or self._data is not None
            task.status = self._client.submit(task.job, os.getpid() if known else None)
            task.id = task.status.id

    def _give_up(self, error: LinkError) -> list[Outcome]:
        self.failure = error
        self.stop()
        outcomes = [Outcome(task, error=error) for task in self.tasks]
        self.tasks.clear()
        return outcomes
