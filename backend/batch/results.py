"""What a batch has done, as results.json and results.csv beside its pictures.

A picture counts as done if results.json has it under the hash of all that it was made from, and if
the file still has the hash that it had then. Nothing else is asked, neither names nor times.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Self

import backend
from backend.errors import InputError, ResourceError
from backend.models import profiles
from backend.service.locks import Lock
from backend.styles import WEIGHTS, read_description

__all__ = ["Results", "digest", "file_hash", "hashed", "model_hash", "style_hash"]

SCHEMA = 1
_SAMPLE = 2**20
_JSON, _CSV, _LOCK = "results.json", "results.csv", ".lock"
_PATIENCE = 5.0
_COLUMNS = ("row", "input", "style", "state", "picture", "seconds", "error", "prompt")
# Of a style's description, what tells of its making but not of what it does.
_TOLD = {"name", "created", "designed", "licence_note", "measures", "seconds", "versions"}


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes; empty if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def model_hash(base: str | None, profile: str) -> str:
    """Of a base model's weights; of its name if it does not lie in a folder or file.

    Samples both ends of every file, so that a large model takes no longer than a small one.
    """
    folder = Path(base) if base is not None else profiles.get(profile).folder
    if folder is None or not folder.exists():
        return digest([base, profile])
    files = sorted(folder.rglob("*.safetensors"))
    if folder.is_file():
        folder, files = folder.parent, [folder]
    sampled = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        sampled.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as stream:
            sampled.update(stream.read(_SAMPLE))
            stream.seek(max(0, size - _SAMPLE))
            sampled.update(stream.read())
    return sampled.hexdigest()


def style_hash(folder: str | Path) -> str:
    """Of all in a style that its embroideries depend on.

    Raises:
        StyleError: it is damaged.
    """
    folder = Path(folder)
    data = read_description(folder)
    files = (WEIGHTS, "reference.png", "design.png", "mask.png")
    return digest(
        {
            "description": {name: value for name, value in data.items() if name not in _TOLD},
            "files": {name: file_hash(folder / name) for name in files},
        }
    )


@dataclass(slots=True)
class Results:
    """The record of a batch's folder.

    Attributes:
        pictures: hash of what a picture is made from → {"path", "sha256", "seconds"}.
        styles: hash of what a style is trained from → {"path", "hash", "seconds"}.
        rows: of the last manifest, as they stand.
        lock: on the folder, from when it is opened until it is closed.
    """

    folder: Path
    manifest: str
    lock: Lock
    pictures: dict[str, dict[str, Any]] = field(default_factory=dict)
    styles: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, manifest: Path) -> Self:
        """The record in a folder, or a new one.

        Raises:
            InputError: the folder holds something else, its record is damaged, or another batch
                is at work there.
            ResourceError: it cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _JSON).exists() and {each.name for each in folder.iterdir()} - {_LOCK}:
                raise InputError(
                    f"{folder}: this folder holds something that is not a batch's.",
                    "Give --out a new folder.",
                )
            results = cls(folder, str(manifest.resolve()), Lock(folder / _LOCK))
        except OSError as error:
            raise _cannot_write(folder, error) from error
        with ExitStack() as unless_opened:
            unless_opened.callback(results.close)
            # Workers of a batch that was killed may take a moment to end.
            if not results.lock.take(_PATIENCE):
                raise InputError(
                    f"{folder}: another batch is at work there.", "Wait for it, or end it."
                )
            results._read()
            unless_opened.pop_all()
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have the folder."""
        self.lock.close()

    def _read(self) -> None:
        path = self.folder / _JSON
        if not path.exists():
            return
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            self.pictures, self.styles = data["pictures"], data["styles"]
            known = data["schema"] == SCHEMA and all(
                isinstance(each, dict)
                for part in (self.pictures, self.styles)
                for each in part.values()
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path) from error
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        if not known:
            raise _damaged(path)

    def has_picture(self, key: str) -> bool:
        """Whether a picture is there as it was made."""
        made = self.pictures.get(key, {})
        path, wanted = made.get("path"), made.get("sha256")
        return isinstance(path, str) and bool(wanted) and file_hash(self.folder / path) == wanted

    def save(self) -> None:
        """Write both files, each in one step.

        Raises:
            ResourceError: they cannot be written.
        """
        states = [each["state"] for each in self.rows]
        data = {
            "schema": SCHEMA,
            "version": backend.__version__,
            "manifest": self.manifest,
            "counts": {state: states.count(state) for state in sorted(set(states))},
            "rows": self.rows,
            "styles": self.styles,
            "pictures": self.pictures,
        }
        table = StringIO()
        writer = csv.DictWriter(table, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        try:
            _write(self.folder / _JSON, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
            _write(self.folder / _CSV, table.getvalue())
        except OSError as error:
            raise _cannot_write(self.folder, error) from error


def hashed(fields: Mapping[str, Any], paths: set[str], of: Callable[[str], str]) -> dict[str, Any]:
    """A job's fields with the hashes of files for their paths; `model_hash` stands for the base."""
    kept = {name: value for name, value in fields.items() if name != "base"}
    return {name: of(value) if name in paths else value for name, value in kept.items()}


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: this record of a batch is damaged.", "Give --out a new folder.")


def _cannot_write(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{error.filename or folder}: {error.strerror or error}.",
        "Choose a folder that may be written to, on a disk with free space.",
    )
