"""Notices that nobody has asked for anything for long, and that no job waits or runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Idle"]

_EVERY = 60.0  # seconds, at most, between two looks


class Idle:
    """ASGI middleware behind the guard: what strangers send does not count.

    Args:
        busy: whether any job waits or runs.
    """

    def __init__(
        self,
        app: ASGIApp,
        busy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._busy, self._clock = app, busy, clock
        self._last = clock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._last = self._clock()
        await self._app(scope, receive, send)

    async def wait(self, seconds: float) -> None:
        """Until nothing has happened for so long."""
        while True:
            if self._busy():
                self._last = self._clock()
            left = self._last + seconds - self._clock()
            if left <= 0.0:
                return
            await asyncio.sleep(min(left, _EVERY))
