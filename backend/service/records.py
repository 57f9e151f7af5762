"""`DATA/jobs`: what the service keeps about its jobs, for itself after a restart."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from backend.errors import InputError
from backend.service.database import Database
from backend.service.locks import Lock, private_lock

__all__ = ["Records"]

PATIENCE = 10.0  # seconds for the workers of an earlier service to end


class Records:
    """The database, the workers' receipts, and a lock that the workers inherit.

    A service that is killed leaves workers that live on for a moment. Only when the last of them
    is gone is what they did settled: the lock says when.

    Attributes:
        database: (once entered) where jobs are kept.
        lock: for the workers.

    Raises:
        InputError: (on entering) workers of an earlier service still run, or a newer version has
            written the database.
        ResourceError: (on entering) the folder or the database cannot be used.
    """

    database: Database
    lock: Lock

    def __init__(self, data: Path) -> None:
        self.folder = data / "jobs"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lock = private_lock(self.folder, "workers.lock", "jobs cannot be kept")
            stack.callback(self.lock.close)
            if not self.lock.take(PATIENCE):
                raise InputError(
                    f"{self.folder}: a worker of an earlier backend still runs.",
                    "Wait a moment, or end it, then start the backend again.",
                )
            if sys.platform == "win32":
                time.sleep(2.0)  # workers inherit no lock there: let them end
            self.database = Database(self.folder / "jobs.sqlite3")
            stack.callback(self.database.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def receipt(self, id: str) -> Path:
        """Where a worker says that it has finished a job."""
        return self.folder / f"{id}.receipt"

    def forget(self, id: str) -> None:
        """The job is settled: its receipt goes, whole or not."""
        for path in (self.receipt(id), self.receipt(id).with_suffix(".partial")):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def receipts(self) -> list[Path]:
        """All there are, whole or not."""
        return [*self.folder.glob("*.receipt"), *self.folder.glob("*.partial")]
