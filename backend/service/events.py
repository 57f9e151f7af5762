"""What happened to a job, one after the other, for clients that want to miss nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Any

from backend.jobs import JobState, Progress

__all__ = ["Event", "LogLine", "News"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a worker said of its work.

    Attributes:
        level: "info", "warning" or "error".
    """

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """A job's new state, its progress, or a line of its log.

    Attributes:
        n: its number in the job, counted from 1 without gaps, across restarts.
    """

    n: int
    state: JobState | None = None
    progress: Progress | None = None
    log: LogLine | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.state is not None:
            return {"n": self.n, "state": self.state}
        if self.log is not None:
            return {"n": self.n, "log": asdict(self.log)}
        assert self.progress is not None
        return {"n": self.n, "progress": asdict(self.progress)}

    def to_message(self) -> str:
        """As a server-sent event, whose id is its number."""
        data = self.to_dict()
        (name,) = data.keys() - {"n"}
        return f"id: {self.n}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


class News:
    """Wakes everybody who waits for the next change, in one event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set at the next change; take it before looking at what there is, and none is missed."""
        return self._next
