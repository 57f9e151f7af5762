"""Runs one job as any client does: in a service of its own, over HTTP, until the job has ended.

So work is in a process apart: it can be cancelled within two seconds wherever it is, and if it dies
that is told in words. If this program dies, the service hears it and ends what it had begun.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ResourceError, StitchworkError
from backend.jobs import Job, JobState, JobStatus, Progress, Result, job_to_dict

__all__ = ["run"]

_EVERY = 0.1  # seconds between two looks
_ANSWER_SECONDS = 60.0
_CANCEL_SECONDS = 5.0  # it takes two
_END_SECONDS = 10.0
_GONE = "The service that did the work has ended unexpectedly."
_AGAIN = "Run it again; training goes on from its last checkpoint."


def run(job: Job) -> Generator[Progress, None, Result]:
    """Do a job; closing the generator cancels it and leaves no half-written output.

    Raises:
        StitchworkError: with a remedy, for whatever the user can put right.
    """
    job = _with_whole_base(job)
    with _service(job) as service:
        found = JobStatus.from_dict(service.ask("POST", "/v1/jobs", job_to_dict(job)))
        place, last = f"/v1/jobs/{found.id}", 0
        try:
            while not found.state.final:
                news = service.ask("GET", f"{place}?since={last}")
                last = news["last"]
                for event in news["events"]:
                    if "progress" in event:
                        yield Progress(**event["progress"])
                found = JobStatus.from_dict(news["job"])
                if not found.state.final:
                    time.sleep(_EVERY)
        finally:
            if not found.state.final:
                service.cancel(place)
    if found.state is not JobState.DONE or found.result is None:
        raise StitchworkError(found.error or "The job was cancelled.", found.remedy)
    return found.result


@dataclass(frozen=True, slots=True)
class _Service:
    """A running service, spoken to with a connection for each request."""

    port: int
    token: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Its answer.

        Raises:
            StitchworkError: its refusal.
            ResourceError: nobody answers.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ResourceError(_GONE, _AGAIN) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise StitchworkError(said["error"], said["remedy"])
        return said

    def cancel(self, place: str) -> None:
        """End the job, and wait until it has tidied up."""
        with suppress(StitchworkError):
            self.ask("POST", f"{place}/cancel", {})
            end = time.monotonic() + _CANCEL_SECONDS
            while time.monotonic() < end:
                if JobState(self.ask("GET", place)["state"]).final:
                    return
                time.sleep(_EVERY)


@contextmanager
def _service(job: Job) -> Iterator[_Service]:
    """A service that may use what the job names, and nothing else, for the while."""
    command = [sys.executable, "-m", "backend", "serve"]
    for folder in sorted(_roots(job)):
        command += ["--root", folder]
    try:
        # A session of its own: Ctrl-C is for this program, which then cancels.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # so on Windows
            env={**os.environ, "PYTHONPATH": _path_of_this()},
        )
    except OSError as error:
        raise ResourceError(
            f"The service that does the work cannot be started ({error.strerror or error}).",
            "Close other programs, then run it again.",
        ) from error
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        try:
            try:
                said = json.loads(process.stdout.readline())
            except ValueError as error:
                raise ResourceError(_GONE, "`python -m backend doctor` may say why.") from error
            yield _Service(said["port"], said["token"])
        finally:
            with suppress(OSError):
                process.stdin.close()  # it ends then
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _path_of_this() -> str:
    """PYTHONPATH with this very package first, wherever it was found."""
    here = str(Path(__file__).parents[2])
    given = os.environ.get("PYTHONPATH")
    return here if not given else os.pathsep.join((here, given))


def _with_whole_base(job: Job) -> Job:
    """A base model in a folder or file is named by its absolute path; others are hub ids."""
    base = getattr(job, "base", None)
    if base is None or not os.path.exists(base):
        return job
    return dataclasses.replace(job, **{"base": os.path.abspath(base)})


def _roots(job: Job) -> set[str]:
    """The folders in which everything lies that a job names, as far as they are there."""
    named = [getattr(job, each.name) for each in dataclasses.fields(job) if each.metadata["path"]]
    base = getattr(job, "base", None)
    if base is not None and os.path.isabs(base):
        named.append(base)
    found = set()
    for each in filter(None, named):
        with suppress(OSError, ValueError):  # no path at all: the service says so
            # Of what is a link, where it leads to.
            found |= {_existing(Path(place).parent) for place in (each, os.path.realpath(each))}
    return found or {os.getcwd()}


def _existing(folder: Path) -> str:
    """The nearest folder there is."""
    while not os.path.isdir(folder):
        folder = folder.parent
    return str(folder)
