"""The service's routes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

import backend
from backend.errors import InputError, StitchworkError
from backend.jobs import PROTOCOL_VERSION, JobError, job_from_dict
from backend.models import profiles
from backend.service.answers import Answer, read_object
from backend.service.database import StoreError
from backend.service.openapi import openapi
from backend.service.queue import Queue
from backend.service.quota import Quota, QuotaError
from backend.service.security import MAX_BODY, Roots
from backend.service.store import JobStore

__all__ = ["Service"]

MAX_STREAMS = 16
STREAM_SILENCE = 15.0  # seconds after which a stream says that it is still there


class Service:
    """Answers requests about the jobs of one store.

    Args:
        stop: called when a client asks the service to end.
        join: called with the process that wants the service to stay as long as itself.
        leave: called with a process that wants it no more; returns whether the service stops.
        log: the service's log file, if it has one.
        quota: how much results may take; no limit if absent.
    """

    def __init__(
        self,
        store: JobStore,
        queue: Queue,
        roots: Roots,
        stop: Callable[[], None],
        join: Callable[[int], None],
        leave: Callable[[int], bool],
        log: Path | None = None,
        quota: Quota | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._roots = roots
        self._stop = stop
        self._join = join
        self._leave = leave
        self._log = log
        self._quota = quota or Quota(store)
        self._streams = 0

    def app(self) -> Starlette:
        """The ASGI application, still without its guard."""
        return Starlette(
            routes=[
                Route("/v1/hello", self.hello),
                Route("/v1/openapi.json", self.document),
                Route("/v1/jobs", self.submit, methods=["POST"]),
                Route("/v1/jobs", self.jobs),
                Route("/v1/jobs/{id}", self.job),
                Route("/v1/jobs/{id}/events", self.events),
                Route("/v1/jobs/{id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/jobs/{id}/files/{role}", self.file),
                Route("/v1/storage", self.storage),
                Route("/v1/clients/join", self.join, methods=["POST"]),
                Route("/v1/clients/leave", self.leave, methods=["POST"]),
                Route("/v1/shutdown", self.shutdown, methods=["POST"]),
            ],
            exception_handlers={
                HTTPException: _http_refusal,
                JobError: _job_refusal,
                StoreError: _storage_refusal,
                QuotaError: _storage_refusal,
                StitchworkError: _refusal,
            },
        )

    async def hello(self, request: Request) -> Response:
        return Answer(
            {
                "protocol": PROTOCOL_VERSION,
                "version": backend.__version__,
                "profiles": list(profiles.names()),
                "pid": os.getpid(),
                "log": None if self._log is None else str(self._log),
            }
        )

    async def document(self, request: Request) -> Response:
        return Answer(openapi())

    async def submit(self, request: Request) -> Response:
        job = self._roots.confine(job_from_dict(await read_object(request, MAX_BODY)))
        owner = request.query_params.get("client")
        if owner is not None and not (owner.isascii() and owner.isdigit() and len(owner) < 11):
            raise InputError(f"client: {owner!r} is no process number.", "Send your own.")
        key = request.query_params.get("key")
        if key is not None and not re.fullmatch(r"[\w.-]{1,64}", key, re.ASCII):
            raise InputError(f"key: {key!r} is no key.", "Send up to 64 letters and digits.")
        status = self._queue.submit(job, int(owner) if owner else None, key)
        return Answer(status.to_dict(), status_code=201)

    async def jobs(self, request: Request) -> Response:
        return Answer([status.to_dict() for status in self._store.all()])

    async def job(self, request: Request) -> Response:
        id, since = self._known(request), request.query_params.get("since")
        status = self._store.status(id).to_dict()
        if since is None:
            return Answer(status)
        after = _number(since)
        events = self._store.events(id, after)
        return Answer(
            {
                "job": status,
                "events": [each.to_dict() for each in events],
                "last": events[-1].n if events else after,
                "artefacts": [each.to_dict() for each in self._store.artefacts(id)],
            }
        )

    async def events(self, request: Request) -> Response:
        id = self._known(request)
        # A browser's or library's own reconnecting names the last event that it has seen.
        given = request.headers.get("last-event-id", request.query_params.get("since", "0"))
        after = _number(given)
        if self._streams >= MAX_STREAMS:
            return Answer.refusal(
                429, f"{MAX_STREAMS} streams of events are open.", "Close one, or poll with since."
            )
        return StreamingResponse(
            self._stream(id, after),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def _stream(self, id: str, after: int) -> AsyncIterator[str]:
        """The events of a job after one of them, as they come, until the job has ended."""
        self._streams += 1
        try:
            over = False
            while not over:
                news = self._store.news.next
                over = self._store.status(id).state.final
                for event in self._store.events(id, after):
                    after = event.n
                    yield event.to_message()
                if not over:
                    try:
                        await asyncio.wait_for(news.wait(), STREAM_SILENCE)
                    except TimeoutError:
                        yield ": still here\n\n"
        except StitchworkError:
            return  # the stream breaks off; to ask again says why
        finally:
            self._streams -= 1

    async def cancel(self, request: Request) -> Response:
        return Answer(self._queue.cancel(self._known(request)).to_dict())

    async def file(self, request: Request) -> Response:
        status, role = self._store.status(self._known(request)), request.path_params["role"]
        if role == "preview" and status.progress is not None and status.progress.preview:
            return self._glimpse(status.progress.preview)
        result = status.result
        if result is None or role not in result.outputs:
            raise HTTPException(404, f"The job has no file {role!r}.")
        path: Path = self._roots.resolve(result.outputs[role])
        if not path.is_file():
            raise HTTPException(404, f"The job's {role!r} is a folder, or gone.")
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})

    def _glimpse(self, place: str) -> Response:
        """A running job's newest picture; small, and gone with the job."""
        try:
            data = self._roots.resolve(place).read_bytes()
        except OSError:
            raise HTTPException(404, "There is no preview any more.") from None
        return Response(data, media_type="image/png", headers={"Cache-Control": "no-store"})

    async def storage(self, request: Request) -> Response:
        return Answer({"used": self._quota.used(), "quota": self._quota.limit})

    async def join(self, request: Request) -> Response:
        self._join(await _pid(request))
        return Answer({"joined": True})

    async def leave(self, request: Request) -> Response:
        return Answer({"stopping": self._leave(await _pid(request))})

    async def shutdown(self, request: Request) -> Response:
        self._stop()
        return Answer({"stopping": True}, status_code=202)

    def _known(self, request: Request) -> str:
        id: str = request.path_params["id"]
        try:
            self._store.status(id)
        except InputError as error:
            raise HTTPException(404, error.message) from None
        return id


async def _pid(request: Request) -> int:
    pid = (await read_object(request, MAX_BODY)).get("pid")
    if type(pid) is not int or not 0 < pid < 2**31:
        raise InputError(f"pid: {pid!r} is no process number.", "Send the number of a process.")
    return pid


def _number(text: str) -> int:
    """The number of an event; 0 comes before the first.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise InputError(f"since: {text!r} is no event's number.", "Send the last one you have.")
    return int(text)


async def _storage_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError | QuotaError)
    return Answer.refusal(507, error.message, error.remedy)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StitchworkError)
    return Answer.refusal(400, error.message, error.remedy)


async def _job_refusal(request: Request, error: Exception) -> Response:
    return Answer.refusal(400, str(error), "See `python -m backend --help` for a job's fields.")


async def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Answer.refusal(error.status_code, error.detail)
