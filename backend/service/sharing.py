"""Which jobs use each other's files, and so must keep their order."""

from __future__ import annotations

import dataclasses
from pathlib import PurePath

from backend.jobs import Job

__all__ = ["share_files", "touches"]


def share_files(one: Job, other: Job) -> bool:
    """Whether one of them writes a file, or a folder around it, that the other uses."""
    return touches(one.out, other) or touches(other.out, one)


def touches(written: str, job: Job) -> bool:
    """Whether a job uses or writes a file or folder, or what is in or around it."""
    place = PurePath(written)
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        if (field.metadata.get("path") or field.name == "base") and value is not None:
            used = PurePath(value)
            if place == used or place in used.parents or used in place.parents:
                return True
    return False
