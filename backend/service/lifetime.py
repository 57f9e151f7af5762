"""Notices when the programs that use the service are gone."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable

from backend.errors import ResourceError

__all__ = ["Clients", "process_exists", "wait_for_exit", "watch_parent", "watch_stdin"]

POLL_SECONDS = 0.5
MAX_CLIENTS = 32


class Clients:
    """Who keeps the service alive: the program that started it, and those that joined it.

    Args:
        stop: called when the last one has left.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self._present: set[int] = set()

    def join(self, pid: int, watch: Callable[[int], object]) -> None:
        """Count process `pid`; `watch` sees to it that `leave` is called when it has ended.

        Raises:
            ResourceError: there are too many.
        """
        if pid in self._present:
            return
        if len(self._present) >= MAX_CLIENTS:
            raise ResourceError(
                f"{MAX_CLIENTS} programs use this service already.", "Close some of them."
            )
        self._present.add(pid)
        watch(pid)

    def leave(self, pid: int) -> bool:
        """Process `pid` needs the service no more; returns whether the service stops."""
        self._present.discard(pid)
        if not self._present:
            self._stop()
        return not self._present


def watch_stdin(gone: Callable[[], object]) -> None:
    """Call `gone` from a thread when the pipe that is stdin closes.

    A terminal, a file and /dev/null are not watched: they say nothing about a parent.
    """
    try:
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        _watch(lambda: _drain(descriptor), gone)


def watch_parent(pid: int, gone: Callable[[], object]) -> None:
    """Call `gone` from a thread when process `pid` has ended."""
    _watch(lambda: wait_for_exit(pid), gone)


def _watch(wait: Callable[[], object], gone: Callable[[], object]) -> None:
    def run() -> None:
        wait()
        gone()

    threading.Thread(target=run, daemon=True).start()


def _drain(descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass


def wait_for_exit(pid: int) -> None:
    """Block until process `pid` has ended; a zombie has."""
    if sys.platform == "win32":
        _wait_windows(pid)
    elif hasattr(os, "pidfd_open"):
        _wait_linux(pid)
    else:
        while process_exists(pid):
            time.sleep(POLL_SECONDS)


def process_exists(pid: int) -> bool:
    """POSIX only: whether signals could be sent to `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _wait_linux(pid: int) -> None:
    # A descriptor stays with its process, where a number may be given to another one.
    try:
        descriptor = os.pidfd_open(pid)  # type: ignore[attr-defined, unused-ignore]
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def _wait_windows(pid: int) -> None:
    import ctypes

    synchronize, infinite = 0x00100000, 0xFFFFFFFF
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    handle = kernel.OpenProcess(synchronize, False, pid)
    if handle:
        kernel.WaitForSingleObject(handle, infinite)
        kernel.CloseHandle(handle)
