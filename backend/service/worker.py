"""The process that does the work: JSON lines in on stdin, JSON lines out on stdout.

    in   {"run": ID, "job": {…}, "receipt": PATH}   {"cancel": ID}
    out  {"begun": true}   {"progress": {…}}   {"log": {"level": …, "text": …}}
         {"done": {…}, "artefacts": […]}   {"cancelled": true}
         {"error": …, "remedy": …, "trace": …}

A worker that ends before it says that a job has begun has done nothing about it.

Before a job's result is put in its place, its receipt says what it is, if it has one: so the next
service knows it if this one ends before it has heard the last word.

It stops when stdin closes, that is, when the service ends in whatever way.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from backend.engine import Engine
from backend.errors import StitchworkError
from backend.jobs import Job, Result, job_from_dict
from backend.service.artefacts import Artefact, measure, sync
from backend.service.glimpse import Glimpse
from backend.service.receipts import Receipt

__all__ = ["main"]

_log = logging.getLogger(__name__)

LAST_WORDS = 1.5  # seconds between the end of stdin and a hard exit


@dataclass(frozen=True, slots=True)
class _Order:
    id: str
    job: Job
    receipt: Path | None


class _Inbox:
    """Reads requests in a thread, so that a cancel is seen while a job runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._cancelled: set[str] = set()
        self._closed = threading.Event()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> _Order | None:
        """Waits for the next job; None when there will be no more."""
        return self._orders.get()

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
                    receipt = request.get("receipt")
                    job = job_from_dict(request["job"])
                    self._orders.put(_Order(request["run"], job, receipt and Path(receipt)))
        self._closed.set()
        self._orders.put(None)
        time.sleep(LAST_WORDS)
        os._exit(1)


def _run(engine: Engine, order: _Order, inbox: _Inbox) -> dict[str, Any]:
    """Runs one job, prints its progress, returns the last message about it."""
    made: list[Artefact] = []

    def vouch(result: Result, aside: Path) -> None:
        made[:] = measure(result, Path(order.job.out), aside)
        sync([aside])
        if order.receipt is not None:
            _leave(Receipt(result, made), order.receipt)

    glimpse = Glimpse(order.job.out)
    steps, stage = engine.run(order.job, vouch, glimpse.show), ""
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as finished:
                seconds = finished.value.seconds
                parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
                _log.info("finished: %s", parts)
                return _finished(finished.value, made)
            if progress.stage != stage:
                stage = progress.stage
                _log.info("%s: %d steps", stage, progress.steps)
            if inbox.cancelled(order.id):
                return {"cancelled": True}
            _say({"progress": dataclasses.asdict(progress)})
    except StitchworkError as error:
        return {"error": error.message, "remedy": error.remedy}
    except BrokenPipeError:
        raise  # the service is gone, and with it whoever would hear of this job
    except Exception as error:  # noqa: BLE001 - a defect fails its job, not the service
        traceback.print_exc()
        return {
            "error": f"Unexpected {type(error).__name__}: {error}",
            "remedy": "Please report this with the log of the backend.",
            "trace": traceback.format_exc(),
        }
    finally:
        steps.close()
        glimpse.close()


def _finished(result: Result, artefacts: list[Artefact]) -> dict[str, Any]:
    """The last message about a job whose result is in its place, once it will stay there."""
    try:
        sync(each.path for each in artefacts)
    except OSError as error:
        return {
            "error": f"{error.filename or 'The result'}: it is not safely on the disk "
            f"({error.strerror or error}).",
            "remedy": "Check the disk and its free space, then run the job again.",
        }
    return {
        "done": dataclasses.asdict(result),
        "artefacts": [each.to_dict() for each in artefacts],
    }


def _leave(receipt: Receipt, path: Path) -> None:
    try:
        receipt.write(path)
    except OSError as error:
        # It would only be missed if the worker or the service ended within the next moment.
        print(f"{path}: cannot be written ({error})", file=sys.stderr)


_channel: TextIO
_saying = threading.Lock()


def _say(message: dict[str, Any]) -> None:
    with _saying:
        _channel.write(json.dumps(message) + "\n")
        _channel.flush()


class _Lines(logging.Handler):
    """Passes on what this program and its libraries log, for the job's clients."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _say({"log": {"level": record.levelname.lower(), "text": record.getMessage()[:10_000]}})
        except (OSError, TypeError, ValueError):
            return  # a badly formed line, or nobody is left to hear it: no reason to end a job


def main() -> None:
    """Serve requests until stdin closes."""
    global _channel
    # What libraries print must not get between the messages.
    _channel = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    # These reach a terminal's or session's processes all at once; the service decides what stops.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # on Windows some are missing
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Lines(), screen])
    logging.getLogger("backend").setLevel(logging.INFO)
    _log.setLevel(logging.INFO)  # its name differs where this module is the program
    logging.captureWarnings(True)
    inbox, engine = _Inbox(sys.stdin), Engine()
    while (order := inbox.next()) is not None:
        _say({"begun": True})
        _say(_run(engine, order, inbox))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)
