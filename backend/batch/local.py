"""Workers as processes on this machine, the same program that the service starts."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from backend.batch.workers import Lost, Message, Ready, read
from backend.errors import ResourceError
from backend.jobs import Job, job_to_dict
from backend.service.devices import devices, places
from backend.service.locks import Lock
from backend.service.process import WORKER, cause_of_death

__all__ = ["LocalWorkers"]

PATIENCE = 4.0  # seconds that workers get to stop by themselves; they take at most 3.5
_POLL = 0.5


class LocalWorkers:
    """See `backend.batch.workers.Workers`.

    Args:
        count: of processes; one a GPU, or one, if 0.
        lock: held by the workers until they end.
        command: starts a worker.
    """

    def __init__(
        self, count: int = 0, lock: Lock | None = None, command: Sequence[str] = WORKER
    ) -> None:
        gpus = devices()
        self.count = count or len(gpus) or 1
        self._variables = places(self.count, gpus)
        self._lock, self._command = lock, command
        self._news: queue.SimpleQueue[tuple[int, Message]] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._closing = False
        for number in range(self.count):
            self._start(number)

    def give(self, worker: int, job: Job) -> None:
        """A dead worker takes nothing: its end is heard instead."""
        order = {"run": "", "job": job_to_dict(job)}
        stream = self._processes[worker].stdin
        assert stream is not None
        try:
            stream.write(json.dumps(order) + "\n")
            stream.flush()
        except (OSError, ValueError):  # the reader is gone, or `_listen` has closed the stream
            return

    def hear(self) -> tuple[int, Message]:
        while True:
            try:
                # With a time limit, so that Ctrl-C is noticed on every system.
                worker, message = self._news.get(timeout=_POLL)
            except queue.Empty:
                continue
            if isinstance(message, Lost):
                self._start(worker)
            return worker, message

    def close(self) -> None:
        self._closing = True
        for process in self._processes.values():
            _close(process.stdin)
        for process in self._processes.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, number: int) -> None:
        inherited = (self._lock.descriptor,) if self._lock and sys.platform != "win32" else ()
        try:
            process = subprocess.Popen(
                [*self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, **self._variables[number]},
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C is for this process, which then ends them
            )
        except OSError as error:
            raise ResourceError(
                f"A worker process cannot be started ({error.strerror or error}).",
                "Close other programs, or use fewer workers.",
            ) from error
        self._processes[number] = process
        self._news.put((number, Ready()))
        threading.Thread(target=self._listen, args=(number, process), daemon=True).start()

    def _listen(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            try:
                for line in process.stdout:
                    message = read(json.loads(line))
                    if message is not None:
                        self._news.put((number, message))
            except (ValueError, TypeError):
                process.kill()  # talking nonsense, it cannot be trusted with another job
        code = process.wait()
        if not self._closing:
            _close(process.stdin)
            self._news.put((number, Lost(cause_of_death(code))))


def _close(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        return  # what was still to be written has no reader
