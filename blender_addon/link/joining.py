"""Finds a backend that already serves the add-on's data folder, such as another Blender's."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from .client import Endpoint, LinkError

__all__ = ["Running", "find_running"]


@dataclass(frozen=True, slots=True)
class Running:
    """A backend that runs already.

    Attributes:
        roots: the folders in which its jobs may read and write.
    """

    endpoint: Endpoint
    roots: tuple[Path, ...]

    def allows(self, roots: list[Path]) -> bool:
        """Whether it may work in all these folders."""
        return all(
            any(wanted.resolve().is_relative_to(root) for root in self.roots) for wanted in roots
        )


def find_running(data: Path) -> Running | None:
    """The backend that serves the folder `data`; None where none does.

    Its info file counts only while the backend holds the lock beside it: the system frees that
    lock when a process ends, so the file of one that was killed is stale, whichever process has
    its number now.

    Raises:
        LinkError: one runs, but does not fit this add-on; says which side to update.
    """
    path = data / "run" / "service.json"
    try:
        if not _private(path) or _free(path.with_suffix(".lock")):
            return None
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    endpoint = Endpoint.from_announcement(text)
    roots = json.loads(text).get("roots")
    if not isinstance(roots, list):
        raise LinkError(f"{path} is not understood.", "Stop the other backend, then try again.")
    return Running(endpoint, tuple(Path(str(root)) for root in roots))


def _private(path: Path) -> bool:
    """Whether the file is this user's, and nobody else can read or write it."""
    if sys.platform == "win32":
        return True  # the user's own profile folder is closed to others
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _free(lock: Path) -> bool:
    """Whether no process holds the lock."""
    descriptor = os.open(lock, os.O_RDWR)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
