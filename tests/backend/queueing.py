"""A queue around workers that are a few lines of Python each, and jobs to give it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from backend.jobs import JobState, JobStatus, PreviewJob, TrainJob
from backend.service.queue import Queue
from backend.service.store import JobStore

Check = Callable[[Queue, JobStore], Awaitable[None]]
SECONDS = 60.0
FINAL = tuple(state for state in JobState if state.final)
PROGRESS = (
    "print(json.dumps({'progress': {'stage': 's', 'step': 1, 'steps': 2, 'seconds_left': 1.0}}), "
    "flush=True)"
)
DONE = "print(json.dumps({'done': {'outputs': {'pid': str(os.getpid())}}}), flush=True)"


def look(n: int) -> PreviewJob:
    return PreviewJob(reference="/r.png", input="/i.png", out=f"/nowhere/{n}.png")


def training(n: int) -> TrainJob:
    return TrainJob(reference="/r.png", out=f"/nowhere/style-{n}")


def worker(body: str, first: str = "", *, begins: bool = True) -> tuple[str, ...]:
    """What to do about each order.

    Args:
        first: what to do before the first.
        begins: whether it says that it begins them.
    """
    if begins:
        body = f"print(json.dumps({{'begun': True}}), flush=True)\n{body}"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    program = (
        "import json, os, sys, time\nfrom pathlib import Path\n"
        f"{first}\nfor line in sys.stdin:\n    order = json.loads(line)\n"
        f"    if 'job' not in order: continue\n{lines}\n"
    )
    return (sys.executable, "-c", program)


def with_queue(
    command: Sequence[str],
    check: Check,
    chosen: Sequence[str] = (),
    store: JobStore | None = None,
    **more: Any,
) -> None:
    store = store or JobStore()

    async def run() -> None:
        queue = Queue(store, command, devices=chosen, **more)
        work = asyncio.create_task(queue.run())
        try:
            async with asyncio.timeout(SECONDS):
                await check(queue, store)
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    asyncio.run(run())


async def until(store: JobStore, id: str, *states: JobState, progress: bool = False) -> JobStatus:
    """Wait for one of the states, and for some progress if that is asked for."""
    while True:
        status = store.status(id)
        if status.state in states and (status.progress is not None or not progress):
            return status
        await asyncio.sleep(0.01)
