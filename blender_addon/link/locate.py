"""Where the backend is: which Python runs it, and from which folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..wording import do
from .client import LinkError

__all__ = ["VARIABLE", "Backend", "checkout_folder", "environment_python", "find_backend"]

VARIABLE = "STITCHWORK_BACKEND_PYTHON"
INSTALLED_MARK = "installed.json"
IDLE_HOURS = "12"  # it starts again when it is wanted


@dataclass(frozen=True, slots=True)
class Backend:
    """A Python that has the backend's packages, and the folder to start it in.

    Attributes:
        python: the interpreter.
        folder: source checkout that holds `backend/`, or None when it is installed as a package.
        origin: how it was found, in words.
        quota_gb: most gigabytes that results may take; 0: as many as the disk has.
    """

    python: Path
    folder: Path | None
    origin: str
    quota_gb: float = 0.0

    def command(self, roots: list[Path], parent: int, data: Path | None = None) -> list[str]:
        """The command that serves jobs whose paths lie under `roots`.

        Args:
            data: folder by which other Blenders find the service; None: they do not.
        """
        command = [str(self.python), "-m", "backend", "serve", "--parent", str(parent)]
        command += ["--idle-hours", IDLE_HOURS]
        for root in roots:
            command += ["--root", str(root)]
        if self.quota_gb > 0.0:
            command += ["--quota-gb", f"{self.quota_gb:g}"]
        return command if data is None else [*command, "--data", str(data)]

    def variables(self) -> dict[str, str]:
        """Environment of the backend: Blender's own Python settings must not reach it."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", VARIABLE)
        }
        if self.folder is not None:
            inherited["PYTHONPATH"] = str(self.folder)
        return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"}


def checkout_folder() -> Path | None:
    """The source checkout that this add-on runs from, if it has the backend beside it."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "backend" / "__main__.py").is_file() else None


def environment_python(folder: Path) -> Path:
    """The interpreter of the virtual environment `folder`."""
    if sys.platform == "win32":
        return folder / "Scripts" / "python.exe"
    return folder / "bin" / "python"


def find_backend(chosen: str, installed: Path) -> Backend:
    """The backend to start.

    In this order: the environment variable, the preference, the checkout's own environment, the
    environment that Install built.

    Args:
        chosen: the preference: a Python, a virtual environment's folder, or empty.
        installed: folder of the environment that Install builds.

    Raises:
        LinkError: none is there, or the chosen one does not exist.
    """
    checkout = checkout_folder()
    for value, origin in (
        (os.environ.get(VARIABLE, ""), f"the variable {VARIABLE}"),
        (chosen, "the preferences"),
    ):
        if value:
            path = Path(value).expanduser()
            python = environment_python(path) if path.is_dir() else path
            if not python.is_file():
                raise LinkError(
                    f"{value} (from {origin}) is no Python and no virtual environment.",
                    do("backend_python"),
                )
            # Not resolved: a virtual environment's Python is a link that must be started as such.
            return Backend(python.absolute(), checkout, origin)
    if checkout is not None:
        python = environment_python(checkout / ".venvs" / "backend")
        if python.is_file():
            return Backend(python, checkout, "the source checkout")
    python = environment_python(installed)
    if python.is_file() and (installed / INSTALLED_MARK).is_file():
        return Backend(python, None, "Install")
    raise LinkError("The backend is not installed.", do("install"))
