"""What a finished job left on disk, by content: what says that a result is whole."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from backend.jobs import Result

__all__ = ["Artefact", "measure", "sync"]


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file of a result; a folder among the outputs gives one for every file in it.

    Attributes:
        role: the output's name, such as "image" or "style".
    """

    role: str
    path: str
    size: int
    sha256: str

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(str(data["role"]), str(data["path"]), int(data["size"]), str(data["sha256"]))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def intact(self) -> bool:
        """Whether the file is there as it was."""
        try:
            return Path(self.path).stat().st_size == self.size and _digest(self.path) == self.sha256
        except OSError:
            return False


def measure(result: Result, out: Path | None = None, aside: Path | None = None) -> list[Artefact]:
    """What a result's files hold.

    Args:
        out, aside: if given, what is to be `out` still lies `aside`.

    Raises:
        OSError: one is missing, or cannot be read.
    """
    found: dict[str, Artefact] = {}
    for role, output in result.outputs.items():
        place = Path(output)
        here = aside / place.relative_to(out) if out and aside else place
        for path in _files(here):
            name = str(place / path.relative_to(here))
            size, digest = path.stat().st_size, _digest(path)
            found.setdefault(name, Artefact(role, name, size, digest))
    return list(found.values())


def sync(paths: Iterable[str | Path]) -> None:
    """See to it that files and folders, and their names, outlast a power cut.

    Raises:
        OSError: the disk fails.
    """
    folders: set[Path] = set()
    for path in (file for each in paths for file in _files(Path(each))):
        _sync(path)
        folders |= {path.parent, path.parent.parent}
    for folder in folders:
        _sync(folder)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for each in sorted(path.rglob("*")):
            if each.is_file():
                yield each
    else:
        yield path


def _digest(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    if sys.platform == "win32":
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
