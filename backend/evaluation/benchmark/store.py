"""What of a benchmark is done: a JSON file a result, each under the hash of what it came from."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from backend.errors import InputError, ResourceError

__all__ = ["JUDGES", "MAKERS", "Store", "digest", "sources"]

MARK = "benchmark.json"

MAKERS = (
    "emolora",
    "imaging",
    "models",
    "preview",
    "restyle",
    "tasks.py",
    "evaluation/benchmark/making.py",
)
"""Folders and files of the package that styles and pictures come of."""
JUDGES = ("evaluation/measures.py", "evaluation/truth.py", "evaluation/benchmark/scoring.py")
"""What measures them."""

_PACKAGE = Path(__file__).resolve().parents[2]


def digest(value: Any) -> str:
    """Short SHA-256 of a value's JSON form, or of bytes."""
    if not isinstance(value, bytes):
        value = json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(value).hexdigest()[:16]


@cache
def sources(*names: str) -> str:
    """Digest of the Python files in folders, or of the one file, of this package.

    What was made by other code is not what this code makes.
    """
    files = [each for name in names for each in sorted(_found(_PACKAGE / name))]
    return digest([(str(each.relative_to(_PACKAGE)), digest(each.read_bytes())) for each in files])


def _found(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("*.py"))


class Store:
    """The benchmark's folder; results that were made of something else count as missing.

    Raises:
        InputError: the folder holds something else.
        ResourceError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
                raise InputError(
                    f"{folder}: this folder holds something that is not a benchmark.",
                    "Give --out a new folder.",
                )
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARK).touch()
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def get(self, name: str, key: str) -> dict[str, Any] | None:
        """What was put under this name with this key; None if nothing was, or it is damaged."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            data: dict[str, Any] = found["data"]
            return data if found["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, name: str, key: str, data: dict[str, Any]) -> None:
        """Keep a result, in one step."""
        self.write(f"{name}.json", json.dumps({"key": key, "data": data}, indent=1))

    def write(self, name: str, text: str) -> None:
        """Write a text file of the folder, in one step."""
        path = self.folder / name
        aside = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _cannot_write(path, error) from error

    def place(self, name: str) -> Path:
        """A path in the folder, whose parent exists."""
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(path, error) from error
        return path


def _cannot_write(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{path}: nothing can be written there ({error.strerror or error}).",
        "Choose a folder that may be written to, on a disk with free space.",
    )
