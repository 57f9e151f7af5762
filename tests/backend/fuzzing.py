"""What every target of the fuzzer is: a door for bytes, sound inputs, and words to make others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from backend.jobs import JOB_TYPES

__all__ = ["ODD_WORDS", "Target", "job"]

ODD_WORDS = ("\\u0000", "\\ud800", "NaN", "1e999", "../", "~", "a" * 300, "null", "[[", "é")


class Target:
    """A door for bytes.

    Args:
        folder: an empty one, to work in.
    """

    name: ClassVar[str]
    largest: ClassVar[int] = 4096  # bytes worth trying

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def seeds(self) -> Mapping[str, bytes]:
        """Sound inputs, by a name each."""
        raise AssertionError("every target has its own")

    def words(self) -> tuple[str, ...]:
        """What inputs of this kind are made of."""
        return ODD_WORDS

    def close(self) -> None:
        """What it has open."""

    def __call__(self, data: bytes) -> bool:
        """Whether the bytes were taken; False if they were refused in words.

        Any exception is a finding.
        """
        raise AssertionError("every target has its own")


def job(kind: str) -> dict[str, Any]:
    """A job in the folder ROOT with most of its fields."""
    paths = {"reference": "r.png", "input": "i.png", "out": "o.png", "style": "s", "mask": "m.png"}
    known = JOB_TYPES[kind].__dataclass_fields__
    fields: dict[str, Any] = {name: f"ROOT/{file}" for name, file in paths.items() if name in known}
    more = {"prompt": "a dog", "seed": 7, "base": "a/b", "steps": 3, "strength": 0.5, "task": None}
    fields |= {name: value for name, value in more.items() if name in known and value is not None}
    return {"schema": 1, "kind": kind, **fields}
