"""Starts the service, announces it, and stops it when nobody needs it any more."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

import backend
from backend.jobs import PROTOCOL_VERSION
from backend.service.app import Service
from backend.service.lifetime import watch_parent, watch_stdin
from backend.service.queue import Queue
from backend.service.security import Guard, Roots
from backend.service.store import JobStore

__all__ = ["serve"]


def serve(folders: Sequence[Path], parent: int | None = None) -> None:
    """Run the service until it is asked to stop, stdin closes or process `parent` ends.

    Prints one JSON line, {"port", "token", "pid", "protocol", "version"}, when it can be reached.

    Args:
        folders: the folders that jobs may read and write.

    Raises:
        InputError: one of `folders` is no folder.
    """
    asyncio.run(_serve(Roots(folders), parent))


async def _serve(roots: Roots, parent: int | None) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    port, token = listener.getsockname()[1], secrets.token_urlsafe(32)
    store = JobStore()
    queue = Queue(store)
    server: uvicorn.Server

    def stop() -> None:
        server.should_exit = True

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        work = asyncio.create_task(queue.run())
        # A service that takes jobs and never runs them would be worse than none.
        work.add_done_callback(lambda _: stop())
        announce(port=port, token=token)
        yield
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    app = Service(store, queue, roots, stop).app()
    app.router.lifespan_context = lifespan
    server = uvicorn.Server(
        uvicorn.Config(
            Guard(app, token=token, port=port),
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=1,
        )
    )
    watch_stdin(lambda: loop.call_soon_threadsafe(stop))
    if parent is not None:
        watch_parent(parent, lambda: loop.call_soon_threadsafe(stop))
    with listener:
        await server.serve(sockets=[listener])


def announce(**reach: Any) -> None:
    """Print how to reach the service."""
    about = {"pid": os.getpid(), "protocol": PROTOCOL_VERSION, "version": backend.__version__}
    print(json.dumps(reach | about), flush=True)
