"""Connections that say nothing take nobody's place."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HEAD_SECONDS", "MAX_CONNECTIONS", "Connection"]

MAX_CONNECTIONS = 128  # some systems give a process 256 files, connections included
HEAD_SECONDS = 10.0  # for a request to come, or the next one


class Connection(H11Protocol):
    """HTTP as uvicorn speaks it, where any program of this machine may connect without a token.

    Where there are too many connections, the one that has waited for a request for longest makes
    room: whoever opens thousands, or sends requests by the byte, shuts nobody out.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [each for each in self.connections if isinstance(each, Connection)]
            waiting = [each for each in waiting if each is not self and not each.busy]
            min(waiting, key=lambda each: each.since, default=self)._drop()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def handle_events(self) -> None:
        super().handle_events()
        if self.busy:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self.since = self.loop.time()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._drop)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop(self) -> None:
        self.connections.discard(self)  # now: many may come before the loop says that it is lost
        self.transport.abort()
