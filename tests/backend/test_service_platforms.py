"""What differs on macOS and Windows, by imitation: waiting for a process, locks, the disk."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.service import lifetime
from backend.service.artefacts import sync
from backend.service.lifetime import wait_for_exit
from backend.service.locks import Lock


def test_macos_polls_for_the_end_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(lifetime, "POLL_SECONDS", 0.01)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        waiting = threading.Thread(target=wait_for_exit, args=(process.pid,), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        process.kill()
        process.wait()
        waiting.join(20)
        assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("handle", "calls"), [(5, ["open 7", "wait 5", "close 5"]), (0, ["open 7"])]
)
def test_windows_waits_for_a_handle(
    monkeypatch: pytest.MonkeyPatch, handle: int, calls: list[str]
) -> None:
    seen: list[str] = []

    def opened(access: int, inherited: bool, pid: int) -> int:
        assert access == 0x00100000
        seen.append(f"open {pid}")
        return handle

    kernel = SimpleNamespace(
        OpenProcess=opened,
        WaitForSingleObject=lambda handle, milliseconds: seen.append(f"wait {handle}"),
        CloseHandle=lambda handle: seen.append(f"close {handle}"),
    )
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    wait_for_exit(7)
    assert seen == calls


def test_windows_locks_one_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        if held:
            raise OSError("it is held")
        held.append(descriptor)

    msvcrt: Any = SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    monkeypatch.setattr(sys, "platform", "win32")
    assert first.take(0.0)
    assert held == [first.descriptor]
    assert not second.take(0.0)
    for each in (first, second):
        each.close()


def test_windows_syncs_files_and_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picture.png").write_bytes(b"a picture")
    seen: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(sys, "platform", "win32")
    sync([tmp_path / "picture.png"])
    assert seen == [str(tmp_path / "picture.png")]
