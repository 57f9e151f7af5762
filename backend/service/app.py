"""The service's routes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

import backend
from backend.errors import InputError, StitchworkError
from backend.jobs import PROTOCOL_VERSION, JobError, job_from_dict
from backend.models import profiles
from backend.service.answers import Answer, read_object
from backend.service.queue import Queue
from backend.service.security import MAX_BODY, Roots
from backend.service.store import JobStore

__all__ = ["Service"]


class Service:
    """Answers requests about the jobs of one store.

    Args:
        stop: called when a client asks the service to end.
        join: called with the process that wants the service to stay as long as itself.
        leave: called with a process that wants it no more; returns whether the service stops.
    """

    def __init__(
        self,
        store: JobStore,
        queue: Queue,
        roots: Roots,
        stop: Callable[[], None],
        join: Callable[[int], None],
        leave: Callable[[int], bool],
    ) -> None:
        self._store = store
        self._queue = queue
        self._roots = roots
        self._stop = stop
        self._join = join
        self._leave = leave

    def app(self) -> Starlette:
        """The ASGI application, still without its guard."""
        return Starlette(
            routes=[
                Route("/v1/hello", self.hello),
                Route("/v1/jobs", self.submit, methods=["POST"]),
                Route("/v1/jobs", self.jobs),
                Route("/v1/jobs/{id}", self.job),
                Route("/v1/jobs/{id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/jobs/{id}/files/{role}", self.file),
                Route("/v1/clients/join", self.join, methods=["POST"]),
                Route("/v1/clients/leave", self.leave, methods=["POST"]),
                Route("/v1/shutdown", self.shutdown, methods=["POST"]),
            ],
            exception_handlers={
                HTTPException: _http_refusal,
                JobError: _job_refusal,
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
            }
        )

    async def submit(self, request: Request) -> Response:
        job = self._roots.confine(job_from_dict(await read_object(request, MAX_BODY)))
        owner = request.query_params.get("client")
        if owner is not None and not (owner.isascii() and owner.isdigit() and len(owner) < 11):
            raise InputError(f"client: {owner!r} is no process number.", "Send your own.")
        status = self._queue.submit(job, int(owner) if owner else None)
        return Answer(status.to_dict(), status_code=201)

    async def jobs(self, request: Request) -> Response:
        return Answer([status.to_dict() for status in self._store.all()])

    async def job(self, request: Request) -> Response:
        return Answer(self._store.status(self._known(request)).to_dict())

    async def cancel(self, request: Request) -> Response:
        return Answer(self._queue.cancel(self._known(request)).to_dict())

    async def file(self, request: Request) -> Response:
        result = self._store.status(self._known(request)).result
        role = request.path_params["role"]
        if result is None or role not in result.outputs:
            raise HTTPException(404, f"The job has no file {role!r}.")
        path: Path = self._roots.resolve(result.outputs[role])
        if not path.is_file():
            raise HTTPException(404, f"The job's {role!r} is a folder, or gone.")
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})

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


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StitchworkError)
    return Answer.refusal(400, error.message, error.remedy)


async def _job_refusal(request: Request, error: Exception) -> Response:
    return Answer.refusal(400, str(error), "See `python -m backend --help` for a job's fields.")


async def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Answer.refusal(error.status_code, error.detail)
