"""Starts a worker process and speaks with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from backend.service.locks import Lock

__all__ = ["WORKER", "Worker", "cause_of_death"]

WORKER = (sys.executable, "-m", "backend.service.worker")
LAST_PATIENCE = 0.5  # seconds between the end of a worker's output and its own end
_LINE_LIMIT = 2**20
_MESSAGES = {"begun", "progress", "log", "done", "error", "cancelled"}


class Worker:
    """One worker process, spoken to in JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str] = WORKER,
        lock: Lock | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Self:
        """A new worker; it holds `lock`, if given, until it ends.

        Args:
            variables: of its environment, beside this process's own.
        """
        inherited = (lock.descriptor,) if lock is not None and sys.platform != "win32" else ()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            pass_fds=inherited,
            env={**os.environ, **(variables or {})},
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it may be given work: once killed no more, though it may take time to die."""
        return self._process.returncode is None and not self._killed

    def send(self, message: dict[str, Any]) -> None:
        """A dead worker hears nothing; its end is seen by `receive`."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the worker has ended."""
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            message = json.loads(line) if line.endswith(b"\n") else None
        except (ConnectionError, ValueError):
            message = None
        if isinstance(message, dict) and len(_MESSAGES & message.keys()) == 1:
            return message
        # Silent or talking nonsense, it cannot be trusted with another job.
        await self._end(LAST_PATIENCE)
        return None

    def kill(self) -> None:
        if self.alive:
            self._killed = True
            try:
                self._process.kill()
            except ProcessLookupError:
                return

    async def stop(self, patience: float) -> None:
        """Close its stdin, wait `patience` seconds, then kill it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._end(patience)

    async def _end(self, patience: float) -> None:
        # To signal a process that is ending by itself would lose its exit code.
        try:
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def cause_of_death(self) -> str:
        """How it ended, in words."""
        return cause_of_death(self._process.returncode)


def cause_of_death(code: int | None) -> str:
    """What a process's exit code tells, in words."""
    if code is not None and code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
