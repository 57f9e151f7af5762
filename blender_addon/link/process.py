"""Starts and stops the backend process without ever waiting in the interface."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ..wording import do
from .client import Client, Endpoint, LinkError

__all__ = ["BackendProcess", "creation_options", "tail"]

START_SECONDS = 120.0
LOG_LIMIT_BYTES = 5 * 2**20

_left_to_others: list[subprocess.Popen[bytes]] = []


def creation_options() -> dict[str, int | bool]:
    """Keep Ctrl+C in Blender's terminal, and console windows, away from a child process."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def tail(path: Path, lines: int = 1) -> str:
    """The last non-empty lines of a log file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            last = collections.deque((each.strip() for each in file if each.strip()), lines)
    except OSError:
        return ""
    return "\n".join(last)


class BackendProcess:
    """A backend that was started here and ends with this process.

    Its standard input is a pipe that is never written to: the system closes it however Blender
    ends, and the backend stops. Standard output is read by a thread that only fills a queue.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start `command`; poll `announced` for its address.

        Raises:
            LinkError: the program cannot be started or the log not be written.
        """
        self.log = log
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._began = time.monotonic()
        self._endpoint: Endpoint | None = None
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_suffix(".old.log"))
            with log.open("ab") as errors:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=dict(variables) if variables is not None else None,
                    cwd=log.parent,
                    **creation_options(),  # type: ignore[call-overload]
                )
        except OSError as error:
            raise LinkError(
                f"The backend cannot be started: {error.strerror or error} ({command[0]}).",
                do("repair"),
            ) from error
        self._reader = threading.Thread(
            target=_read_lines, args=(self._process.stdout, self._lines), daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than in order, as when it has rested for long."""
        return self._process.poll() not in (None, 0)

    def announced(self) -> Endpoint | None:
        """The backend's address once it printed it, None before; never waits.

        Raises:
            LinkError: the backend ended, took too long, or speaks another protocol.
        """
        if self._endpoint is None and not self._lines.empty():
            self._endpoint = Endpoint.from_announcement(self._lines.get())
        if self._endpoint is None and not self.running:
            raise LinkError(
                f"The backend ended at once: {tail(self.log) or 'it gave no reason'}",
                f"Its log is {self.log}.",
            )
        if self._endpoint is None and time.monotonic() - self._began > START_SECONDS:
            raise LinkError(
                f"The backend did not start within {START_SECONDS:.0f} s.",
                f"Its log is {self.log}.",
            )
        return self._endpoint

    def stop(self, *, patience: float = 3.0) -> None:
        """Leave it and close its input; unless another Blender uses it, see that it ends.

        It ends by itself when nobody is left, and after `patience` seconds by force.
        """
        stopping = True
        if self.running and self._endpoint is not None:
            with contextlib.suppress(LinkError):
                stopping = Client(self._endpoint, timeout=0.5).leave(os.getpid())
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if not stopping:
            _left_to_others.append(self._process)
            return
        for end in (lambda: None, self._process.terminate, self._process.kill):
            end()
            try:
                self._process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(patience)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()


def _read_lines(stream: IO[bytes] | None, lines: queue.SimpleQueue[str]) -> None:
    """Hand over the first line and drain the rest, so that the backend never blocks on a pipe."""
    if stream is None:
        return
    first = True
    for raw in stream:
        if first:
            lines.put(raw.decode("utf-8", errors="replace"))
            first = False
