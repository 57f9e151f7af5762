"""What of a manifest is still to be done: its pictures by style, and the jobs that make them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from backend.batch.results import Results, digest, file_hash, hashed, model_hash, style_hash
from backend.batch.row import Row
from backend.errors import StitchworkError
from backend.jobs import GenerateJob, Progress, RestyleJob, TrainJob

__all__ = ["Group", "Picture", "Task", "grouped", "picture_tasks", "trained_style", "training"]

_FILES = {
    each.name
    for job in (RestyleJob, GenerateJob, TrainJob)
    for each in dataclasses.fields(job)
    if each.metadata["path"] == "read"
}


@dataclass(slots=True)
class Picture:
    """A picture to make for one row or several that ask for the same."""

    key: str
    job: type[RestyleJob] | type[GenerateJob]
    fields: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        if self.job is GenerateJob:
            return _plain(self.fields["prompt"])
        return _stem(self.fields["input"])


@dataclass(slots=True)
class Group:
    """A style and its pictures."""

    key: str
    style: str | None
    train: dict[str, Any] | None
    pictures: dict[str, Picture] = field(default_factory=dict)

    @property
    def name(self) -> str:
        source = self.style or (self.train or {})["reference"]
        return _stem(source)


@dataclass(slots=True, kw_only=True)
class Task:
    """A job for a worker.

    Attributes:
        path: of what it makes, in the batch's folder.
        picture: what it makes; None: it trains the group's style.
        losses: how many workers ended over it.
    """

    job: TrainJob | RestyleJob | GenerateJob
    name: str
    path: str
    group: Group
    picture: Picture | None = None
    losses: int = 0


def grouped(rows: list[Row], results: Results) -> Generator[Progress, None, list[Group]]:
    """The rows by style, in the manifest's order, without what is there already."""
    hash_of, hash_of_style, hash_of_model = cache(file_hash), cache(style_hash), cache(model_hash)
    groups: dict[str, Group] = {}
    for number, row in enumerate(rows):
        yield Progress(stage="reading the inputs", step=number, steps=len(rows))
        model = hash_of_model(row.fields.get("base"), row.profile)
        if row.style is not None:
            key = hash_of_style(row.style)
        else:
            key = digest({"model": model, "train": hashed(row.train or {}, _FILES, hash_of)})
        group = groups.setdefault(key, Group(key, row.style, row.train))
        asked = {"model": model, "style": key, **hashed(row.fields, _FILES, hash_of)}
        picture = digest({row.job.kind: asked})
        record = {
            "row": row.label,
            "input": row.fields.get("input", ""),
            "prompt": row.fields.get("prompt", ""),
            "style": row.style or (row.train or {})["reference"],
            "state": "waiting",
            "picture": "",
            "seconds": 0.0,
            "error": "",
            "key": picture,
        }
        results.rows.append(record)
        if results.has_picture(picture):
            made = results.pictures[picture]
            record |= {"state": "already there", "picture": made["path"]}
            record["seconds"] = made.get("seconds", 0.0)
            continue
        wanted = group.pictures.setdefault(picture, Picture(picture, row.job, row.fields))
        wanted.rows.append(record)
    results.save()
    return [each for each in groups.values() if each.pictures]


def trained_style(group: Group, results: Results) -> str | None:
    """The folder of the group's style if it is given, or there as it was trained."""
    if group.train is None:
        return group.style
    made = results.styles.get(group.key, {})
    path, wanted = made.get("path"), made.get("hash")
    if not isinstance(path, str) or not wanted:
        return None
    folder = results.folder.resolve() / path
    try:
        return str(folder) if style_hash(folder) == wanted else None
    except StitchworkError:
        return None


def training(group: Group, results: Results) -> Task:
    """The task that trains the style of a group which has none."""
    path = f"styles/{group.name}-{group.key[:8]}"
    return Task(
        job=TrainJob(**(group.train or {}), out=str(results.folder.resolve() / path)),
        name=f"training {group.name}",
        path=path,
        group=group,
    )


def picture_tasks(group: Group, style: str, results: Results) -> list[Task]:
    """The tasks that make a group's pictures in a style's folder."""
    tasks = []
    for picture in group.pictures.values():
        path = f"pictures/{picture.name}-{group.name}-{picture.key[:8]}.png"
        out = str(results.folder.resolve() / path)
        tasks.append(
            Task(
                job=picture.job(**picture.fields, style=style, out=out),
                name=f"{picture.name} in {group.name}",
                path=path,
                group=group,
                picture=picture,
            )
        )
    return tasks


def _stem(path: str) -> str:
    """A file's or folder's name as part of another."""
    return _plain(Path(path).stem if Path(path).suffix else Path(path).name)


def _plain(text: str) -> str:
    """Text as part of a file's name, without what shells dislike, in at most 60 bytes."""
    plain = re.sub(r"[^\w.-]+", "_", text).encode()[:60].decode(errors="ignore")
    return plain.strip("._-") or "unnamed"
