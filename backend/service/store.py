"""The service's table of jobs: every change is one transaction, and a finished job stays."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from backend.errors import InputError, ResourceError
from backend.jobs import (
    Job,
    JobError,
    JobState,
    JobStatus,
    Progress,
    Result,
    job_from_dict,
    job_to_dict,
)
from backend.service.artefacts import Artefact
from backend.service.database import Database
from backend.service.events import Event, LogLine, News
from backend.service.sharing import share_files

__all__ = ["EVENTS_KEPT", "JobStore", "Outputs"]

EVENTS_KEPT = 2000  # of progress and log lines, for each job: the newest
_TRIM_EVERY = 500
_NEXT = {
    JobState.QUEUED: {JobState.RUNNING, JobState.FAILED, JobState.CANCELLED},
    JobState.RUNNING: {JobState.QUEUED, JobState.DONE, JobState.FAILED, JobState.CANCELLED},
}
_STATUS = (
    "SELECT id, kind, state, result, error, remedy, (SELECT progress FROM events "
    "WHERE job = seq AND progress IS NOT NULL ORDER BY n DESC LIMIT 1) FROM jobs"
)
_UNFINISHED = "state IN ('queued', 'running')"


class Outputs(NamedTuple):
    """What a job that is done has left behind."""

    id: str
    kind: str
    paths: tuple[str, ...]  # files and folders, as its result names them
    artefacts: tuple[Artefact, ...]


class JobStore:
    """Jobs and their states, in the order they came; the oldest finished ones are forgotten.

    Every method raises a StoreError where the disk fails; then nothing has changed.

    Args:
        database: where they are kept; in memory if absent.
        limit: how many jobs are remembered; as many may wait at once.
    """

    def __init__(self, database: Database | None = None, limit: int = 1000) -> None:
        self.news = News()
        self._database = database or Database()
        self._limit = limit
        self._unfinished: dict[str, tuple[Job, JobState]] = {}
        self._read_unfinished()
        self._inherited = set(self._unfinished)  # from an earlier service

    def _read_unfinished(self) -> None:
        query = f"SELECT id, job, state FROM jobs WHERE {_UNFINISHED} ORDER BY seq"
        for id, text, state in self._database.rows(query):
            try:
                self._unfinished[id] = job_from_dict(json.loads(text)), JobState(state)
            except (JobError, ValueError) as error:
                self._change(
                    id,
                    JobState.FAILED,
                    error=f"Another version of the backend has queued this job. {error}",
                    remedy="Start the job again.",
                )

    def add(
        self,
        job: Job,
        owner: int | None = None,
        key: str | None = None,
        admit: Callable[[Job], None] | None = None,
    ) -> JobStatus:
        """A new queued job.

        Args:
            owner: the process that waits for it.
            key: the client's own name for this request: given again, it adds nothing.
            admit: may refuse a job that is not known already, by an error.

        Raises:
            InputError: the key belongs to another job.
            ResourceError: the table is full of jobs that are not finished.
        """
        text = json.dumps(job_to_dict(job), sort_keys=True)
        known = self._inherit(job, owner) if key is None else self._known(text, key)
        if known is not None:
            return known
        if admit is not None:
            admit(job)
        if len(self._unfinished) >= self._limit:
            raise ResourceError(
                f"{self._limit} jobs are waiting already.", "Wait for some, or cancel them."
            )
        id = secrets.token_hex(8)
        with self._database.writing():
            self._database.execute(
                f"DELETE FROM jobs WHERE NOT {_UNFINISHED} AND seq IN (SELECT seq FROM jobs "
                f"WHERE NOT {_UNFINISHED} ORDER BY seq "
                "LIMIT max(0, (SELECT count(*) FROM jobs) - ?))",
                self._limit - 1,
            )
            self._database.execute(
                "INSERT INTO jobs (id, kind, job, state, owner, key) VALUES (?, ?, ?, ?, ?, ?)",
                *(id, job.kind, text, JobState.QUEUED, owner, key),
            )
            self._note(id, JobState.QUEUED)
        self._unfinished[id] = job, JobState.QUEUED
        self.news.tell()
        return self.status(id)

    def _known(self, text: str, key: str) -> JobStatus | None:
        """The job that was made by the same request."""
        for id, known in self._database.rows("SELECT id, job FROM jobs WHERE key = ?", key):
            if known != text:
                raise InputError(f"key: {key!r} belongs to another job.", "Send a fresh key.")
            return self.status(id)
        return None

    def _inherit(self, job: Job, owner: int | None) -> JobStatus | None:
        """The same job, if it waits or runs since an earlier service: its client asks again."""
        for id in self._inherited & self._unfinished.keys():
            if self._unfinished[id][0] == job:
                with self._database.writing():
                    self._database.execute("UPDATE jobs SET owner = ? WHERE id = ?", owner, id)
                self._inherited.discard(id)
                return self.status(id)
        return None

    def job(self, id: str) -> Job:
        """A job that is not finished."""
        return self._unfinished[id][0]

    def jobs(self, *states: JobState) -> list[Job]:
        """The jobs that wait, run, or either, in their order."""
        return [job for job, state in self._unfinished.values() if state in states]

    def status(self, id: str) -> JobStatus:
        """Raises InputError where no such job is known."""
        for row in self._database.rows(f"{_STATUS} WHERE id = ?", id):
            return self._status(row)
        raise InputError(f"Job {id!r} is not known.", "List the jobs with /v1/jobs.")

    def all(self) -> list[JobStatus]:
        return [self._status(row) for row in self._database.rows(f"{_STATUS} ORDER BY seq")]

    def artefacts(self, id: str) -> list[Artefact]:
        """The files of a job that is done."""
        query = (
            "SELECT role, CAST(path AS BLOB), size, sha256 FROM artefacts "
            "WHERE job = (SELECT seq FROM jobs WHERE id = ?) ORDER BY path"
        )
        return [
            Artefact(role, path.decode("utf-8", "surrogatepass"), size, sha256)
            for role, path, size, sha256 in self._database.rows(query, id)
        ]

    def outputs(self) -> list[Outputs]:
        """Of all jobs that are done, in the order they came."""
        query = f"SELECT id, kind, result FROM jobs WHERE state = '{JobState.DONE}' ORDER BY seq"
        return [
            Outputs(id, kind, tuple(json.loads(result)["outputs"].values()), (*self.artefacts(id),))
            for id, kind, result in self._database.rows(query)
        ]

    def unmade(self, kind: str) -> list[str]:
        """What the jobs of a kind that are not done, and may never be, were to make."""
        query = f"SELECT job FROM jobs WHERE state != '{JobState.DONE}' AND kind = ?"
        return [json.loads(job)["out"] for (job,) in self._database.rows(query, kind)]

    def events(self, id: str, since: int) -> list[Event]:
        """What happened to a job after its event number `since`."""
        query = (
            "SELECT n, state, progress, log FROM events "
            "WHERE job = (SELECT seq FROM jobs WHERE id = ?) AND n > ? ORDER BY n"
        )
        return [
            Event(
                n,
                JobState(state) if state else None,
                _progress(progress) if progress else None,
                LogLine(**json.loads(log)) if log else None,
            )
            for n, state, progress, log in self._database.rows(query, id, since)
        ]

    def next_queued(self, kinds: Collection[str]) -> str | None:
        """Id of the job of these kinds that has waited longest.

        Jobs that share a file keep their order: none starts before an earlier one has ended that
        writes what it uses, or uses what it writes.
        """
        earlier: list[Job] = []
        for id, (job, state) in self._unfinished.items():
            if (
                state is JobState.QUEUED
                and job.kind in kinds
                and not any(share_files(job, other) for other in earlier)
            ):
                return id
            earlier.append(job)
        return None

    def queued(self, kinds: Collection[str]) -> list[str]:
        """Ids of all jobs of these kinds that wait."""
        return [
            id
            for id, (job, state) in self._unfinished.items()
            if state is JobState.QUEUED and job.kind in kinds
        ]

    def unfinished(self, owner: int) -> list[str]:
        """Ids of the jobs that a process waits for."""
        query = f"SELECT id FROM jobs WHERE {_UNFINISHED} AND owner = ? ORDER BY seq"
        return [id for (id,) in self._database.rows(query, owner)]

    def owners(self) -> list[int]:
        """The processes that wait for jobs."""
        query = f"SELECT DISTINCT owner FROM jobs WHERE {_UNFINISHED} AND owner IS NOT NULL"
        return [owner for (owner,) in self._database.rows(query)]

    def interrupted(self) -> list[tuple[str, bool]]:
        """Jobs that run, by their state, and whether they were being cancelled."""
        query = "SELECT id, cancelling FROM jobs WHERE state = 'running' ORDER BY seq"
        return [(id, bool(cancelling)) for id, cancelling in self._database.rows(query)]

    def start(self, id: str) -> JobStatus:
        return self._change(id, JobState.RUNNING)

    def requeue(self, id: str) -> JobStatus:
        """A running job whose service has ended waits again, in its old place."""
        return self._change(id, JobState.QUEUED)

    def done(self, id: str, result: Result, artefacts: Sequence[Artefact]) -> JobStatus:
        return self._change(id, JobState.DONE, result=result, artefacts=artefacts)

    def failed(self, id: str, error: str, remedy: str) -> JobStatus:
        return self._change(id, JobState.FAILED, error=error, remedy=remedy)

    def cancelled(self, id: str) -> JobStatus:
        return self._change(id, JobState.CANCELLED)

    def cancelling(self, id: str, progress: Progress) -> JobStatus:
        """A running job is to end: so it does, even if the service ends before it."""
        if id in self._unfinished:
            with self._database.writing():
                self._database.execute("UPDATE jobs SET cancelling = 1 WHERE id = ?", id)
                self._note(id, progress=progress)
            self.news.tell()
        return self.status(id)

    def progress(self, id: str, progress: Progress) -> None:
        """What a power cut may take: the newest of these."""
        if id in self._unfinished:
            with self._database.writing(durable=False):
                self._note(id, progress=progress)
            self.news.tell()

    def log(self, id: str, line: LogLine) -> None:
        """As `progress`, with a line of the job's log."""
        if id in self._unfinished:
            with self._database.writing(durable=False):
                self._note(id, log=line)
            self.news.tell()

    def problems(self) -> list[str]:
        """What is wrong with the table, in its structure and its content; nothing, as a rule."""
        found = self._database.problems()
        double = "SELECT job FROM events WHERE state = 'done' GROUP BY job HAVING count(*) > 1"
        found += [f"job {seq} was done twice" for (seq,) in self._database.rows(double)]
        last = (
            "SELECT id FROM jobs WHERE state != (SELECT state FROM events "
            "WHERE job = seq AND state IS NOT NULL ORDER BY n DESC LIMIT 1)"
        )
        found += [f"job {id}: its last event is wrong" for (id,) in self._database.rows(last)]
        query = (
            "SELECT id FROM jobs WHERE NOT json_valid(job) OR NOT json_valid(coalesce(result, 1))"
        )
        return found + [f"job {id} is unreadable" for (id,) in self._database.rows(query)]

    def _change(
        self,
        id: str,
        state: JobState,
        *,
        result: Result | None = None,
        artefacts: Sequence[Artefact] = (),
        error: str = "",
        remedy: str = "",
    ) -> JobStatus:
        """Move a job that is not finished to another state; a finished one stays as it is."""
        before = self.status(id)
        if before.state.final:
            return before
        assert state in _NEXT[before.state], (before.state, state)
        text = None if result is None else json.dumps(asdict(result))
        with self._database.writing():
            self._database.execute(
                "UPDATE jobs SET state = ?, result = ?, error = ?, remedy = ? WHERE id = ?",
                *(state, text, _plain(error), _plain(remedy), id),
            )
            for each in artefacts:
                self._database.execute(
                    "INSERT INTO artefacts SELECT seq, ?, ?, ?, ? FROM jobs WHERE id = ?",
                    # File names may hold what is no text.
                    *(each.role, each.path.encode("utf-8", "surrogatepass")),
                    *(each.size, each.sha256, id),
                )
            self._note(id, state)
        if state.final:
            self._unfinished.pop(id, None)
        else:
            self._unfinished[id] = self._unfinished[id][0], state
        self.news.tell()
        return self.status(id)

    def _note(
        self,
        id: str,
        state: JobState | None = None,
        progress: Progress | None = None,
        log: LogLine | None = None,
    ) -> None:
        """Add an event, inside the transaction of what it tells of."""
        ((seq, n),) = self._database.rows(
            "SELECT seq, 1 + coalesce((SELECT max(n) FROM events WHERE job = seq), 0) "
            "FROM jobs WHERE id = ?",
            id,
        )
        texts = [None if each is None else json.dumps(asdict(each)) for each in (progress, log)]
        self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", seq, n, state, *texts)
        if n % _TRIM_EVERY == 0:
            self._database.execute(
                "DELETE FROM events WHERE job = ? AND n <= ? AND state IS NULL",
                *(seq, n - EVENTS_KEPT),
            )

    def _status(self, row: tuple[Any, ...]) -> JobStatus:
        id, kind, state, result, error, remedy, text = row
        progress = _progress(text) if text else None
        if progress is not None and JobState(state).final:
            progress = replace(progress, preview=None)  # it goes when the job ends
        return JobStatus(
            id=id,
            kind=kind,
            state=JobState(state),
            progress=progress,
            result=None if result is None else Result(**json.loads(result)),
            error=error,
            remedy=remedy,
        )


def _progress(text: str) -> Progress:
    return Progress(**json.loads(text))


def _plain(text: str) -> str:
    """With what is no text, such as half a surrogate pair of a file's name, written out."""
    return text.encode("utf-8", "backslashreplace").decode()
