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
from .pip_words import PipRun
from .process import creation_options
from .torch_build import TorchBuild, choose, has_nvidia

__all__ = ["Installer", "bundled_files"]

PACKAGES = re.compile(r"^[A-Za-z0-9._-]+==", re.MULTILINE)
CUDA = "cuda.lock"  # beside the lock file
# The oldest that the lock file's packages are made for; and venv needs ensurepip for its pip.
PROBE = (
    "import sys, ensurepip, venv\n"
    "if sys.version_info < (3, 11): sys.exit('%d.%d is too old' % sys.version_info[:2])"
)
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
# Words of pip, which checks every file: one has been exchanged, or is for a Python without a hash.
OTHER_FILE = "DO NOT MATCH THE HASHES"
WITHOUT_REMEDY = ("No space left", OTHER_FILE)  # another build of torch does not help
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


@dataclass(frozen=True, slots=True)
class _Step:
    """A command of the installation.

    Attributes:
        until: the whole's share when it has ended.
        packages: how many pip is asked for; 0: it is not pip.
        torch: what it fetches, of which there is another build; None: it must not fail.
    """

    says: str
    until: float
    command: list[str]
    packages: int = 0
    torch: TorchBuild | None = None


@dataclass(slots=True)
class Installer:
    """Runs the installation as child processes; `step` looks at them and never waits.

    Attributes:
        target: folder of the virtual environment; an incomplete one has no mark and is not used.
        python: makes the environment.
        progress: share done, 0..1, by what pip has fetched and unpacked.
        message: what is being done, in words.
        note: what a user should know at the end.
    """

    target: Path
    wheel: Path
    lock: Path
    python: str = sys.executable
    nvidia: bool = field(default_factory=has_nvidia)
    progress: float = 0.0
    message: str = "Looking at Python"
    note: str = ""
    done: bool = False
    _steps: list[_Step] = field(default_factory=list)
    _step: _Step | None = None
    _from: float = 0.0
    _pip: PipRun | None = None
    _process: subprocess.Popen[bytes] | None = None
    _lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    _reader: threading.Thread | None = None
    _last: list[str] = field(default_factory=list)

    @property
    def downloads(self) -> Path:
        """pip's temporary folder: on the disk whose room was looked at, which /tmp may not be."""
        return self.target.with_name(f"{self.target.name}-downloads")

    def begin(self) -> None:
        """Clear an older environment and start.

        Raises:
            LinkError: no room, no permission, or files are missing.
        """
        try:
            lock = self.lock.read_text(encoding="utf-8")
            torch = choose(lock, self.nvidia)
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._require_room(torch.needed)
            for folder in (self.target, self.downloads):
                if folder.exists():
                    shutil.rmtree(folder)
            self.downloads.mkdir()
            if torch.requirement:
                self._torch_lock.write_text(torch.requirement, encoding="utf-8")
            self._steps = self._plan(torch)
        except OSError as error:
            raise LinkError(
                f"{error.filename or self.target} cannot be used ({error.strerror}).",
                "Check the disk and its permissions, then press Install again.",
            ) from error
        self._next()

    @property
    def _torch_lock(self) -> Path:
        return self.downloads / "torch.lock"

    def _plan(self, torch: TorchBuild) -> list[_Step]:
        python, pip = str(environment_python(self.target)), self._pip_install()
        plan = [
            _Step("Looking at Python", 0.01, [self.python, "-c", PROBE]),
            _Step("Making an environment", 0.04, [self.python, "-m", "venv", str(self.target)]),
        ]
        if torch.requirement:
            # Another index: a firewall that hides it should be noticed soon.
            own = [*pip, "--retries", "2", "--timeout", "20", *torch.arguments]
            own += ["--require-hashes", "-r", str(self._torch_lock)]
            says = f"Asking for torch for {torch.name}"
            plan.append(_Step(says, 0.4, own, 1, torch))
        return [
            *plan,
            self._rest(torch),
            _Step("Adding the backend", 0.98, [*pip, "--no-deps", str(self.wheel)]),
            _Step("Trying the backend", 1.0, [python, "-m", "backend", "--version"]),
        ]

    def _pip_install(self) -> list[str]:
        pip = [str(environment_python(self.target)), "-m", "pip", "install", "--no-input"]
        return [*pip, "--disable-pip-version-check", "--progress-bar", "off"]

    def _rest(self, torch: TorchBuild) -> _Step:
        """All packages of the lock file, but for a torch that is already there."""
        locks = [self.lock, *([self.lock.with_name(CUDA)] if torch.libraries else [])]
        packages = sum(len(PACKAGES.findall(each.read_text(encoding="utf-8"))) for each in locks)
        command = [*self._pip_install(), "--require-hashes"]
        for each in locks:
            command += ["-r", str(each)]
        return _Step("Asking the package index", 0.96, command, packages=max(packages, 1))

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if free < needed:
            raise LinkError(
                f"{self.target.parent} has {free / 2**30:.1f} GiB free, "
                f"{needed / 2**30:.0f} are needed.",
                "Make room, then press Install again.",
            )

    def step(self) -> bool:
        """Look once; True while there is more to do.

        Raises:
            LinkError: a command failed; its last words are in the message.
        """
        while not self._lines.empty():
            self._hear(self._lines.get())
        if self._process is None or self._process.poll() is None:
            self._show()
            return self._process is not None
        if self._reader is not None:
            self._reader.join(0.2)
            if self._reader.is_alive() or not self._lines.empty():
                return True
        code = self._process.returncode
        self._close()
        if code:
            self._do_without()
        if self._steps:
            self._next()
            return True
        mark = {"wheel": self.wheel.name, "python": self.python}
        (self.target / INSTALLED_MARK).write_text(json.dumps(mark), encoding="utf-8")
        self._clear()
        self.progress, self.message, self.done = 1.0, "The backend is installed", True
        return False

    def cancel(self) -> None:
        """End the running command; the environment stays unmarked, so it is not used."""
        self._steps.clear()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()
        self._clear()

    def _next(self) -> None:
        if self._step is not None:
            self._from = self._step.until
        self._step = step = self._steps.pop(0)
        self._pip = PipRun(step.packages, message=step.says) if step.packages else None
        self._last.clear()
        self._show()
        settings = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONHOME", "PYTHONPATH")
        }
        folder = str(self.downloads)
        settings |= {"TMPDIR": folder, "TEMP": folder, "TMP": folder, "PYTHONUNBUFFERED": "1"}
        try:
            self._process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=settings,
                **creation_options(),  # type: ignore[call-overload]
            )
        except OSError as error:
            self._clear()
            raise LinkError(
                f"Python cannot be started: {error.strerror} ({self.python}).",
                "Choose another under Python for Install in Stitchwork's preferences.",
            ) from error
        self._reader = threading.Thread(
            target=_pass_on, args=(self._process.stdout, self._lines), daemon=True
        )
        self._reader.start()

    def _hear(self, line: str) -> None:
        self._last = [*self._last[-99:], line]
        if self._pip is not None:
            self._pip.hear(line)

    def _show(self) -> None:
        """Bring progress and message up to what the present step has done."""
        if self._step is None:
            return
        self.message, share = self._step.says, 0.0
        if self._pip is not None:
            self._pip.look(self.downloads, self.target)
            self.message, share = self._pip.message, self._pip.share
        reached = self._from + (self._step.until - self._from) * share
        self.progress = max(self.progress, reached)

    def _do_without(self) -> None:
        """The step failed: go on if that may be, and say what it means.

        Raises:
            LinkError: it may not.
        """
        torch = self._step.torch if self._step is not None else None
        usual = torch.otherwise if torch is not None else None
        if torch is None or usual is None or _has(self._last, WITHOUT_REMEDY):
            self._clear()
            raise _failure(self._last)
        try:
            self._require_room(usual.needed)
        except LinkError:
            self._clear()
            raise
        self._steps[0] = self._rest(usual)
        self.note = f"PyTorch's own index could not be reached: {torch.means}."

    def _clear(self) -> None:
        shutil.rmtree(self.downloads, ignore_errors=True)

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _pass_on(stream: IO[bytes] | None, lines: queue.SimpleQueue[str]) -> None:
    for raw in stream or ():
        lines.put(raw.decode("utf-8", errors="replace").rstrip())


def _has(last: Sequence[str], words: Sequence[str]) -> bool:
    return any(word in line for line in last for word in words)


def _failure(last: Sequence[str]) -> LinkError:
    """What went wrong, read from the last lines of venv or pip."""
    text = "\n".join(last)
    if "ensurepip" in text or "No module named 'venv'" in text:
        return LinkError(
            "This Python cannot make virtual environments: its ensurepip is missing.",
            "On Debian or Ubuntu run “sudo apt install python3-venv” and press Install again, or "
            "choose another Python under Python for Install.",
        )
    if "is too old" in text:
        return LinkError(
            f"Python 3.11 or later is needed; {text.strip()}.",
            "Choose another under Python for Install in Stitchwork's preferences.",
        )
    if "No space left" in text:
        return LinkError("The disk is full.", "Make room, then press Install again.")
    if OTHER_FILE in text:
        got = re.search(r"^\s+(\S+) from ", text, re.MULTILINE)
        return LinkError(
            f"{got[1] if got else 'A package'} is not a file that Stitchwork was made with.",
            "Choose Python 3.11, 3.12 or 3.13 under Python for Install. If that is so already, the "
            "package index gives out something else: try another network.",
        )
    if _has(last, UNREACHABLE):
        return LinkError(
            "The package index cannot be reached.",
            "Check the network connection, then press Install again.",
        )
    if _has(last, MISFIT):
        wanted = re.search(r"No matching distribution found for (\S+)", text)
        return LinkError(
            "Not all packages exist for this Python on this system"
            f"{f' ({wanted[1]})' if wanted else ''}.",
            "Choose Python 3.11, 3.12 or 3.13 under Python for Install, "
            "or use a Blender from blender.org.",
        )
    errors = [line for line in last if line.upper().startswith("ERROR")] or [*last, "no reason"]
    return LinkError(f"The installation failed: {errors[-1][:200]}", "Press Install to try again.")
