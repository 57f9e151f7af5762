"""Lets programs of the same user find the running service, and keeps a second one out."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backend.errors import InputError
from backend.service.locks import Lock, private_lock

__all__ = ["InfoFile"]

PATIENCE = 6.0  # seconds for an earlier service to end


class InfoFile:
    """`DATA/run/service.json`, readable by its owner alone, and the lock beside it.

    The lock is the system's own and ends with the process, however that ends: a file whose lock is
    free is stale. The file is removed when the service ends by itself.

    Args:
        data: the data folder; it gets one service at a time.

    Raises:
        InputError: (on entering) another service has this data folder.
        ResourceError: (on entering) the folder cannot be written to.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data / "run"
        self._data = data
        self._path = self.folder / "service.json"
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        kept = "the service's file cannot be kept"
        self._lock = private_lock(self.folder, "service.lock", kept)
        if not self._lock.take(PATIENCE):
            self._lock.close()
            raise InputError(
                f"{self._data}: another backend serves this data folder{self._holder()}.",
                "Use that one, or stop it first.",
            )
        self._path.unlink(missing_ok=True)  # a stale one
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.withdraw()
        if self._lock is not None:
            self._lock.close()

    def write(self, facts: dict[str, Any]) -> None:
        """Make the service known; a reader sees all of it or nothing.

        Raises:
            OSError: the disk is full, or worse.
        """
        aside = self._path.with_suffix(".partial")
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(facts, file)
        aside.replace(self._path)

    def withdraw(self) -> None:
        """Nobody is to join any more: the service is about to end."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _holder(self) -> str:
        try:
            return f" (process {int(json.loads(self._path.read_text())['pid'])})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
