"""Does a batch: each style is trained once, and stays loaded while its pictures are made."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from backend.batch.manifest import Row, read_manifest
from backend.batch.results import Results, digest, file_hash, hashed, model_hash, style_hash
from backend.checks import remove_leftovers
from backend.errors import StitchworkError
from backend.jobs import Job, Progress, RestyleJob, Result, TrainJob

__all__ = ["Outcome", "run_batch"]

Run = Callable[[Job], Generator[Progress, None, Result]]
_FILES = {
    each.name
    for job in (RestyleJob, TrainJob)
    for each in dataclasses.fields(job)
    if each.metadata["path"] == "read"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a batch ended: how many rows, and for the failed ones their label and reason."""

    done: int
    already: int
    failed: list[tuple[str, str]]


@dataclass(slots=True)
class _Picture:
    """A picture to make for one row or several that ask for the same."""

    key: str
    fields: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """A style and its pictures."""

    key: str
    style: str | None
    train: dict[str, Any] | None
    pictures: dict[str, _Picture] = field(default_factory=dict)

    @property
    def name(self) -> str:
        source = self.style or (self.train or {})["reference"]
        return _stem(source)


def run_batch(
    manifest: Path, out: Path, run: Run | None = None
) -> Generator[Progress, None, Outcome]:
    """Make what the manifest asks for and is not there yet; failed rows do not stop the others.

    Closing the generator stops it; what is done is recorded, and a training goes on from its last
    checkpoint the next time.

    Args:
        run: runs a job; this process's engine if absent.

    Raises:
        InputError: the manifest has problems, or `out` is another thing's folder.
        ResourceError: the results cannot be written.
    """
    rows = read_manifest(manifest)
    results = Results.open(out, manifest)
    groups = yield from _grouped(rows, results)
    if run is None:
        from backend.engine import Engine

        run = Engine().run
    yield from _Work(results, run, groups).do()
    failed = [each for each in results.rows if each["state"] == "failed"]
    return Outcome(
        done=sum(each["state"] == "done" for each in results.rows),
        already=sum(each["state"] == "already there" for each in results.rows),
        failed=[(each["row"], each["error"]) for each in failed],
    )


def _grouped(rows: list[Row], results: Results) -> Generator[Progress, None, list[_Group]]:
    """The rows by style, in the manifest's order, without what is there already."""
    hash_of, hash_of_style, hash_of_model = cache(file_hash), cache(style_hash), cache(model_hash)
    groups: dict[str, _Group] = {}
    for number, row in enumerate(rows):
        yield Progress(stage="reading the inputs", step=number, steps=len(rows))
        model = hash_of_model(row.restyle.get("base"), row.profile)
        if row.style is not None:
            key = hash_of_style(row.style)
        else:
            key = digest({"model": model, "train": hashed(row.train or {}, _FILES, hash_of)})
        group = groups.setdefault(key, _Group(key, row.style, row.train))
        asked = {"model": model, "style": key, **hashed(row.restyle, _FILES, hash_of)}
        picture = digest({"restyle": asked})
        record = {
            "row": row.label,
            "input": row.restyle["input"],
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
        wanted = group.pictures.setdefault(picture, _Picture(picture, row.restyle))
        wanted.rows.append(record)
    results.save()
    return [each for each in groups.values() if each.pictures]


class _Work:
    """Runs the jobs of a batch one after another and counts them."""

    def __init__(self, results: Results, run: Run, groups: list[_Group]) -> None:
        self._results, self._run, self._groups = results, run, groups
        self._left = {
            TrainJob: sum(not self._trained(each) for each in groups),
            RestyleJob: sum(len(each.pictures) for each in groups),
        }
        self._total = sum(self._left.values())
        self._seconds: dict[type[Job], list[float]] = {TrainJob: [], RestyleJob: []}

    def do(self) -> Generator[Progress, None, None]:
        for group in self._groups:
            folder = yield from self._style(group)
            for picture in group.pictures.values():
                if folder is not None:
                    yield from self._picture(group, picture, folder)

    def _trained(self, group: _Group) -> bool:
        """Whether the group's style is given, or there as it was trained."""
        if group.train is None:
            return True
        made = self._results.styles.get(group.key, {})
        path, wanted = made.get("path"), made.get("hash")
        if not isinstance(path, str) or not wanted:
            return False
        try:
            return style_hash(self._results.folder / path) == wanted
        except StitchworkError:
            return False

    def _style(self, group: _Group) -> Generator[Progress, None, str | None]:
        """The folder of the group's style; None if it could not be trained."""
        folder = self._results.folder.resolve()
        if group.train is None:
            return group.style
        if self._trained(group):
            return str(folder / self._results.styles[group.key]["path"])
        path = f"styles/{group.name}-{group.key[:8]}"
        job = TrainJob(**group.train, out=str(folder / path))
        seconds, error = yield from self._job(job, f"training {group.name}")
        if error:
            for picture in group.pictures.values():
                self._left[RestyleJob] -= 1
                self._close(picture, state="failed", error=f"its style: {error}")
            self._results.save()
            return None
        self._results.styles[group.key] = {
            "path": path,
            "reference": group.train["reference"],
            "hash": style_hash(job.out),
            "seconds": seconds,
        }
        self._results.save()
        return job.out

    def _picture(
        self, group: _Group, picture: _Picture, style: str
    ) -> Generator[Progress, None, None]:
        name = f"{_stem(picture.fields['input'])}-{group.name}-{picture.key[:8]}.png"
        path = f"pictures/{name}"
        job = RestyleJob(
            **picture.fields, style=style, out=str(self._results.folder.resolve() / path)
        )
        seconds, error = yield from self._job(job, f"{_stem(job.input)} in {group.name}")
        if error:
            self._close(picture, state="failed", error=error)
        else:
            self._results.pictures[picture.key] = {
                "path": path,
                "sha256": file_hash(job.out),
                "seconds": seconds,
            }
            self._close(picture, state="done", picture=path, seconds=seconds)
        self._results.save()

    def _close(self, picture: _Picture, /, **changes: Any) -> None:
        for row in picture.rows:
            row.update(changes)

    def _job(self, job: Job, name: str) -> Generator[Progress, None, tuple[float, str]]:
        """Run a job: its seconds, and why it failed if it did."""
        began = time.monotonic()
        self._left[type(job)] -= 1
        number = self._total - sum(self._left.values())
        remove_leftovers(job)
        steps = self._run(job)
        error = ""
        try:
            for each in steps:
                stage = f"{number}/{self._total} {name}: {each.stage}"
                yield replace(each, stage=stage, seconds_left=self._time_left(each))
        except StitchworkError as refused:
            error = str(refused)
        except Exception as defect:  # noqa: BLE001 - a defect fails its row, not a night's work
            error = f"{type(defect).__name__}: {defect} (a defect in Stitchwork; please report it)"
        finally:
            steps.close()
        seconds = round(time.monotonic() - began, 2)
        if not error:
            self._seconds[type(job)].append(seconds)
        return seconds, error

    def _time_left(self, progress: Progress) -> float | None:
        """Of the whole batch, once a job of each kind that is still to do has been timed."""
        left = progress.seconds_left
        for kind, count in self._left.items():
            if count and (left is None or not self._seconds[kind]):
                return None
            if count and left is not None:
                left += count * sum(self._seconds[kind]) / len(self._seconds[kind])
        return left


def _stem(path: str) -> str:
    """A file's or folder's name as part of another, without what shells dislike."""
    stem = re.sub(r"[^\w.-]+", "_", Path(path).stem if Path(path).suffix else Path(path).name)
    return stem[:60].strip("._-") or "unnamed"
