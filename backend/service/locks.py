"""A lock that the system frees when the processes that hold it have ended, however they ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from backend.errors import ResourceError

__all__ = ["Lock", "private_lock"]

_POLL = 0.1


class Lock:
    """The lock on a file of its own, taken by one program at a time.

    Args:
        path: the file; it is made, readable by its owner alone, and never deleted.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, patience: float) -> bool:
        """Wait up to `patience` seconds for it; whether it was taken.

        Where descriptors can be inherited, a child that was given this one holds the lock as well.
        """
        end = time.monotonic() + patience
        while not self._try():
            if time.monotonic() > end:
                return False
            time.sleep(_POLL)
        return True

    def close(self) -> None:
        os.close(self.descriptor)

    def _try(self) -> bool:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(self.descriptor, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def private_lock(folder: Path, name: str, kept: str) -> Lock:
    """The lock `name` in a folder that only its owner may enter; the folder is made.

    Args:
        kept: what the folder is for, with its verb, as in "jobs cannot be kept".

    Raises:
        ResourceError: the folder cannot be written to.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        return Lock(folder / name)
    except OSError as error:
        raise ResourceError(
            f"{folder}: {kept} there ({error.strerror}).",
            "Give --data a folder that may be written to.",
        ) from error
