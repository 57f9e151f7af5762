"""The process that does the work: JSON lines in on stdin, JSON lines out on stdout.

    in   {"run": ID, "job": {…}}   {"cancel": ID}
    out  {"progress": {…}}   {"done": {…}}   {"cancelled": true}   {"error": …, "remedy": …}

It stops when stdin closes, that is, when the service ends in whatever way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from backend.engine import Engine
from backend.errors import StitchworkError
from backend.jobs import Job, job_from_dict

__all__ = ["main"]

LAST_WORDS = 1.5  # seconds between the end of stdin and a hard exit


class _Inbox:
    """Reads requests in a thread, so that a cancel is seen while a job runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._cancelled: set[str] = set()
        self._closed = threading.Event()
        self._jobs: queue.SimpleQueue[tuple[str, Job] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> tuple[str, Job] | None:
        """Waits for the next job; None when there will be no more."""
        return self._jobs.get()

    def cancelled(self, id: str) -> bool:
        return id in self._cancelled or self._closed.is_set()

    def _read(self) -> None:
        # A service that is killed may leave half a line.
        with suppress(ValueError):
            for line in self._stream:
                request = json.loads(line)
                if "cancel" in request:
                    self._cancelled.add(request["cancel"])
                else:
                    self._jobs.put((request["run"], job_from_dict(request["job"])))
        self._closed.set()
        self._jobs.put(None)
        time.sleep(LAST_WORDS)
        os._exit(1)


def _run(engine: Engine, job: Job, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Runs one job, prints its progress, returns the last message about it."""
    steps = engine.run(job)
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as finished:
                return {"done": dataclasses.asdict(finished.value)}
            if cancelled():
                return {"cancelled": True}
            _say({"progress": dataclasses.asdict(progress)})
    except StitchworkError as error:
        return {"error": error.message, "remedy": error.remedy}
    except Exception as error:  # noqa: BLE001 - a defect fails its job, not the service
        traceback.print_exc()
        return {
            "error": f"Unexpected {type(error).__name__}: {error}",
            "remedy": "Please report this with the log of the backend.",
        }
    finally:
        steps.close()


_channel: TextIO


def _say(message: dict[str, Any]) -> None:
    _channel.write(json.dumps(message) + "\n")
    _channel.flush()


def main() -> None:
    """Serve requests until stdin closes."""
    global _channel
    # What libraries print must not get between the messages.
    _channel = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    # Ctrl-C reaches the whole terminal group; the service decides what stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, engine = _Inbox(sys.stdin), Engine()
    while (request := inbox.next()) is not None:
        id, job = request
        _say(_run(engine, job, lambda id=id: inbox.cancelled(id)))  # type: ignore[misc]


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)
