"""Starts the service, announces it, and stops it when nobody needs it any more."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

import backend
from backend.jobs import PROTOCOL_VERSION, JobState
from backend.service.app import Service
from backend.service.connections import Connection
from backend.service.database import StoreError
from backend.service.devices import devices
from backend.service.idle import Idle
from backend.service.info import InfoFile
from backend.service.lifetime import Clients, watch_parent, watch_stdin
from backend.service.log import log_to
from backend.service.queue import Queue
from backend.service.quota import Quota
from backend.service.records import Records
from backend.service.recovery import recover
from backend.service.redaction import Redactor
from backend.service.security import Guard, Roots
from backend.service.store import JobStore

__all__ = ["serve", "web_server"]

_log = logging.getLogger(__name__)

LAST_MOMENT = 2.5  # seconds an orderly end may take; a worker ends within 1.5 more, at the latest


def serve(
    folders: Sequence[Path],
    parent: int | None = None,
    data: Path | None = None,
    quota: int | None = None,
    workers: int = 1,
    idle: float | None = None,
) -> None:
    """Run the service until it is asked to stop, or nobody is left who uses it.

    Whoever starts it is gone when stdin closes or process `parent` ends; others may have joined.
    Prints one JSON line, {"port", "token", "pid", "protocol", "version", "roots"}, when it can be
    reached.

    Args:
        folders: the folders that jobs may read and write.
        data: folder for the jobs, which then outlast the service, its log, and the info file,
            which says the same to other programs of this user; it can have one service only.
        quota: bytes that results may take; None: as many as the disk has.
        workers: processes for long jobs, on each of several GPUs, or altogether.
        idle: seconds without a request or a job after which it stops, whoever may still be there;
            None: never.

    Raises:
        InputError: one of `folders` is no folder, or `data` has a service already, or a newer
            version's jobs.
        ResourceError: `data` cannot be written to, or its job table is damaged.
    """
    with ExitStack() as stack:
        if data is None:
            store = JobStore()
            asyncio.run(_serve(store, Roots(folders), parent, Quota(store, quota), workers, idle))
            return
        data = data.absolute()
        info = stack.enter_context(InfoFile(data))
        log = stack.enter_context(log_to(data / "logs"))
        records = stack.enter_context(Records(data))
        roots = Roots(folders, closed=[info.folder, records.folder, log.parent])
        store = JobStore(records.database)
        recover(store, records)
        limit = Quota(store, quota)
        asyncio.run(_serve(store, roots, parent, limit, workers, idle, info, records, log))


async def _serve(
    store: JobStore,
    roots: Roots,
    parent: int | None,
    quota: Quota,
    workers: int,
    idle: float | None,
    info: InfoFile | None = None,
    records: Records | None = None,
    log: Path | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    port, token = listener.getsockname()[1], secrets.token_urlsafe(32)
    queue = Queue(
        store,
        records=records,
        quota=quota,
        redact=Redactor(roots.names, [token]),
        devices=devices(),
        workers=workers,
    )
    server: uvicorn.Server
    work: asyncio.Task[None] | None = None

    def stop() -> None:
        if info is not None:
            info.withdraw()
        if not server.should_exit:
            _end_after(LAST_MOMENT)
        server.should_exit = True
        stop_work()

    def stop_work() -> None:
        # At once: the web server may still wait for clients. And once: workers are being stopped.
        if work is not None and not work.cancelling():
            work.cancel()

    clients = Clients(stop)

    def abandon(owner: int) -> None:
        try:
            queue.abandon(owner)
        except StoreError as error:
            _log.error("the jobs of process %d are not cancelled: %s", owner, error)

    def leave(pid: int) -> bool:
        stopping = clients.leave(pid)
        abandon(pid)
        return stopping

    def abandoned(owner: int) -> None:
        loop.call_soon_threadsafe(abandon, owner)

    def left(pid: int) -> None:
        loop.call_soon_threadsafe(leave, pid)

    def join(pid: int) -> None:
        clients.join(pid, lambda pid: watch_parent(pid, lambda: left(pid)))

    async def rest(seconds: float) -> None:
        await watched.wait(seconds)
        _log.info("nothing was asked for %g s: the service stops", seconds)
        stop()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        nonlocal work
        work = asyncio.create_task(queue.run())
        # A service that takes jobs and never runs them would be worse than none.
        work.add_done_callback(lambda _: stop())
        announcement = announce(port=port, token=token, roots=roots.names)
        if info is not None:
            info.write(announcement)
        resting = None if idle is None else asyncio.create_task(rest(idle))
        yield
        if resting is not None:
            resting.cancel()
        stop_work()
        with suppress(asyncio.CancelledError):
            await work

    app = Service(store, queue, roots, stop, join, leave, log, quota).app()
    app.router.lifespan_context = lifespan
    watched = Idle(app, lambda: bool(store.jobs(JobState.QUEUED, JobState.RUNNING)))
    server = web_server(Guard(watched, token=token, port=port))
    starter = parent or 0
    clients.join(starter, lambda _: watch_stdin(lambda: left(starter)))
    if parent is not None:
        watch_parent(parent, lambda: left(starter))
    for owner in store.owners():  # of an earlier service's jobs; most have gone
        watch_parent(owner, partial(abandoned, owner))
    with listener:
        await server.serve(sockets=[listener])


def _end_after(seconds: float) -> None:
    """End this process, however far it is: as a kill, which loses nothing and leaves nothing."""

    def end() -> None:
        _log.warning("the service did not end in order within %g s", seconds)
        os._exit(0)

    last = threading.Timer(seconds, end)
    last.daemon = True
    last.start()


def web_server(app: ASGIApp) -> uvicorn.Server:
    """The web server in front of an application, with the limits that a local service needs."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )


def announce(**reach: Any) -> dict[str, Any]:
    """Print how to reach the service, and return it."""
    about = {"pid": os.getpid(), "protocol": PROTOCOL_VERSION, "version": backend.__version__}
    print(json.dumps(reach | about), flush=True)
    return reach | about
