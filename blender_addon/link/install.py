"""Builds the backend's own virtual environment from the wheel and lock file in the extension."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .client import LinkError
from .locate import INSTALLED_MARK, environment_python
from .process import creation_options

__all__ = ["Installer", "bundled_files"]

# On Linux torch brings the libraries of NVIDIA's GPUs, and pip unpacks them beside its download.
NEEDED_BYTES = (9 if sys.platform == "linux" else 4) * 2**30
PACKAGES = re.compile(r"^[A-Za-z0-9._-]+==", re.MULTILINE)
NAMED = re.compile(r"\s*(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")
DOWNLOAD = re.compile(r"\s*Downloading ([A-Za-z0-9._]+?)-\d\S* \(([\d.]+ [kMG]B)\)")
UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "name resolution",
    "Max retries",
    "Retrying (Retry",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
)
MISFIT = ("No matching distribution", "requires a different Python", "not a supported wheel")


def bundled_files(dist: Path) -> tuple[Path, Path]:
    """The backend's wheel and lock file in the extension's `dist` folder.

    Raises:
        LinkError: this add-on runs from source and brings none.
    """
    wheels, lock = sorted(dist.glob("stitchwork_backend-*.whl")), dist / "backend.lock"
    if not wheels or not lock.is_file():
        raise LinkError(
            "This copy of the add-on does not bring the backend.",
            "Choose the backend's Python above, or install the packaged extension.",
        )
    return wheels[-1], lock


@dataclass(slots=True)
class Installer:
    """Runs the installation as child processes; `step` looks at them and never waits.

    Attributes:
        target: folder of the virtual environment; an incomplete one has no mark and is not used.
        progress: share done, 0..1, by the packages that pip has named.
        message: the last thing that was done, in words.
    """

    target: Path
    wheel: Path
    lock: Path
    python: str = sys.executable
    progress: float = 0.0
    message: str = "Making a virtual environment"
    done: bool = False
    _commands: list[list[str]] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    _reader: threading.Thread | None = None
    _last: list[str] = field(default_factory=list)
    _seen: int = 0
    _unpacking: int = 0
    _packages: int = 1

    def begin(self) -> None:
        """Clear an older environment and start.

        Raises:
            LinkError: no room, no permission, or files are missing.
        """
        try:
            self._packages = max(len(PACKAGES.findall(self.lock.read_text(encoding="utf-8"))), 1)
            self.target.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.target.parent).free
            if free < NEEDED_BYTES:
                raise LinkError(
                    f"{self.target.parent} has {free / 2**30:.1f} GiB free, "
                    f"{NEEDED_BYTES / 2**30:.0f} are needed.",
                    "Make room, then press Install again.",
                )
            if self.target.exists():
                shutil.rmtree(self.target)
        except OSError as error:
            raise LinkError(
                f"{error.filename or self.target} cannot be used ({error.strerror}).",
                "Check the disk and its permissions, then press Install again.",
            ) from error
        python = str(environment_python(self.target))
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        self._commands = [
            [self.python, "-m", "venv", str(self.target)],
            [*pip, "--progress-bar", "off", "-r", str(self.lock)],
            [*pip, "--no-deps", str(self.wheel)],
            [python, "-m", "backend", "--version"],
        ]
        self._next()

    def step(self) -> bool:
        """Look once; True while there is more to do.

        Raises:
            LinkError: a command failed; its last words are in the message.
        """
        while not self._lines.empty():
            self._hear(self._lines.get())
        if self._process is None or self._process.poll() is None:
            self._watch_unpacking()
            return self._process is not None
        if self._reader is not None:
            self._reader.join(0.2)
            if self._reader.is_alive() or not self._lines.empty():
                return True
        code = self._process.returncode
        self._close()
        if code:
            raise _failure(self._last)
        if self._commands:
            self._next()
            return True
        mark = {"wheel": self.wheel.name, "python": self.python}
        (self.target / INSTALLED_MARK).write_text(json.dumps(mark), encoding="utf-8")
        self.progress, self.message, self.done = 1.0, "The backend is installed", True
        return False

    def cancel(self) -> None:
        """End the running command; the environment stays unmarked, so it is not used."""
        self._commands.clear()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def _next(self) -> None:
        settings = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONHOME", "PYTHONPATH")
        }
        try:
            self._process = subprocess.Popen(
                self._commands.pop(0),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**settings, "PYTHONUNBUFFERED": "1"},
                **creation_options(),  # type: ignore[call-overload]
            )
        except OSError as error:
            raise LinkError(
                f"Python cannot be started: {error.strerror} ({self.python}).",
                "Choose the Python of an environment with the backend in the preferences instead.",
            ) from error
        self._reader = threading.Thread(
            target=_pass_on, args=(self._process.stdout, self._lines), daemon=True
        )
        self._reader.start()

    def _hear(self, line: str) -> None:
        self._last = [*self._last[-19:], line]
        if name := NAMED.match(line):
            self._seen += 1
            self._packages = max(self._packages, self._seen)
            self.progress = max(self.progress, 0.05 + 0.45 * self._seen / self._packages)
            self.message = f"Fetching {name[1]}"
        elif download := DOWNLOAD.match(line):
            self.message = f"Fetching {download[1]} ({download[2]})"
        elif line.startswith("Installing collected packages:") and not self._unpacking:
            self._unpacking = line.count(",") + 1
            self._watch_unpacking()

    def _watch_unpacking(self) -> None:
        """pip says nothing while it unpacks; what lies there tells how far it is."""
        if not self._unpacking or self.progress >= 0.99:
            return
        there = sum(1 for _ in self.target.glob("**/site-packages/*.dist-info"))
        share = min(there / self._unpacking, 1.0)
        self.progress = max(self.progress, 0.5 + 0.48 * share)
        self.message = f"Unpacking packages ({min(there, self._unpacking)} of {self._unpacking})"

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _pass_on(stream: IO[bytes] | None, lines: queue.SimpleQueue[str]) -> None:
    for raw in stream or ():
        lines.put(raw.decode("utf-8", errors="replace").rstrip())


def _failure(last: Sequence[str]) -> LinkError:
    """What went wrong, read from the last lines of venv or pip."""
    text = "\n".join(last)
    if "ensurepip" in text:
        return LinkError(
            "Blender's Python cannot make virtual environments.",
            "Install your system's python3-venv, or choose a backend's Python in the preferences.",
        )
    if "No space left" in text:
        return LinkError("The disk is full.", "Make room, then press Install again.")
    if any(word in text for word in UNREACHABLE):
        return LinkError(
            "The package index cannot be reached.",
            "Check the network connection, then press Install again.",
        )
    if any(word in text for word in MISFIT):
        wanted = re.search(r"No matching distribution found for (\S+)", text)
        version = ".".join(map(str, sys.version_info[:2]))
        return LinkError(
            f"Not all packages exist for this Blender's Python {version} on this system"
            f"{f' ({wanted[1]})' if wanted else ''}.",
            "Choose the Python of an environment that has the backend in the preferences, "
            "or use a Blender from blender.org.",
        )
    errors = [line for line in last if line.upper().startswith("ERROR")] or [*last, "no reason"]
    return LinkError(f"The installation failed: {errors[-1][:200]}", "Press Install to try again.")
