"""Does a batch: shares its jobs out to workers and records, row by row, what has come of them.

The record is this process's alone to write. A worker that ends takes nothing with it: its job is
put back and done by another, and a row counts as done only when its picture is there and recorded.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.batch.manifest import read_manifest
from backend.batch.plan import Group, Task, grouped, picture_tasks, trained_style, training
from backend.batch.results import Results, file_hash, style_hash
from backend.batch.schedule import choose
from backend.batch.workers import Failed, Lost, Message, Open, Ready, Workers, opener
from backend.checks import remove_leftovers
from backend.errors import ResourceError, StitchworkError
from backend.jobs import GenerateJob, Job, Progress, RestyleJob, TrainJob

__all__ = ["Outcome", "run_batch"]

MOST_LOSSES = 3  # workers that end over one job before it is given up
MOST_SILENT = 6  # workers in a row that end before they have said a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a batch ended: how many rows, and for the failed ones their label and reason."""

    done: int
    already: int
    failed: list[tuple[str, str]]


def run_batch(
    manifest: Path, out: Path, workers: Open | None = None
) -> Generator[Progress, None, Outcome]:
    """Make what the manifest asks for and is not there yet; failed rows do not stop the others.

    Closing the generator stops it; what is done is recorded, and a training goes on from its last
    checkpoint the next time.

    Args:
        workers: starts the workers, when there is work; those of the local engine if absent.

    Raises:
        InputError: the manifest has problems, or `out` is another thing's folder or in use.
        ResourceError: the results cannot be written, or workers cannot be had.
    """
    rows = read_manifest(manifest)
    with Results.open(out, manifest) as results:
        groups = yield from grouped(rows, results)
        if groups:
            given = (workers or opener("local"))(results.lock)
            work = _Work(results, groups, given)
            try:
                yield from work.do()
            finally:
                given.close()
                work.clear()
        failed = [each for each in results.rows if each["state"] == "failed"]
        return Outcome(
            done=sum(each["state"] == "done" for each in results.rows),
            already=sum(each["state"] == "already there" for each in results.rows),
            failed=[(each["row"], each["error"]) for each in failed],
        )


class _Work:
    """Shares out the jobs of a batch, counts them and records their ends."""

    def __init__(self, results: Results, groups: list[Group], workers: Workers) -> None:
        self._results, self._workers = results, workers
        self._waiting: dict[str, deque[Task]] = {}  # by style, in the manifest's order
        for group in groups:
            style = trained_style(group, results)
            tasks = picture_tasks(group, style, results) if style else [training(group, results)]
            self._waiting[group.key] = deque(tasks)
        self._running: dict[int, tuple[Task, float]] = {}  # and when it began
        self._left: dict[int, float | None] = {}  # seconds, as the running jobs say
        self._free: set[int] = set()
        self._warm: dict[int, str] = {}
        self._silent = 0
        self._ended = 0
        # Pictures by their jobs, of each style that is still to be trained.
        self._untrained: dict[str, Counter[type[Job]]] = {
            each.key: Counter(picture.job for picture in each.pictures.values())
            for each in groups
            if self._trains(each)
        }
        self._total = sum(map(len, self._waiting.values()))
        self._total += sum(each.total() for each in self._untrained.values())
        self._seconds: dict[type[Job], list[float]] = {
            each: [] for each in (TrainJob, RestyleJob, GenerateJob)
        }

    def do(self) -> Generator[Progress, None, None]:
        if self._workers.count > 1:
            yield self._said(f"{self._workers.count} workers are starting")
        while self._running or any(self._waiting.values()):
            self._share_out()
            worker, message = self._workers.hear()
            progress = self._heard(worker, message)
            if progress is not None:
                yield progress

    def clear(self) -> None:
        """Remove what jobs left aside that were stopped."""
        for task, _ in self._running.values():
            remove_leftovers(task.job)

    def _trains(self, group: Group) -> bool:
        return any(each.picture is None for each in self._waiting[group.key])

    def _share_out(self) -> None:
        for worker in sorted(self._free):
            others = [style for other, style in self._warm.items() if other != worker]
            waiting = {style: len(tasks) for style, tasks in self._waiting.items()}
            style = choose(self._warm.get(worker), waiting, Counter(others))
            if style is None:
                return
            task = self._waiting[style].popleft()
            self._warm[worker] = style
            self._free.discard(worker)
            self._running[worker] = task, time.monotonic()
            self._left[worker] = None
            remove_leftovers(task.job)
            self._workers.give(worker, task.job)

    def _heard(self, worker: int, message: Message) -> Progress | None:
        """Act on what a worker says; what is worth showing of it."""
        match message:
            case Ready():
                self._free.add(worker)
                return None
            case Lost(cause=cause):
                return self._lost(worker, cause)
        self._silent = 0
        if worker not in self._running:
            return None
        if isinstance(message, Progress):
            self._left[worker] = message.seconds_left
            if self._workers.count > 1:
                return None  # of several, only what is finished is told
            task, _ = self._running[worker]
            stage = f"{self._ended + 1}/{self._total} {task.name}: {message.stage}"
            return replace(message, stage=stage, seconds_left=self._time_left())
        task, began = self._running.pop(worker)
        self._free.add(worker)
        seconds = round(time.monotonic() - began, 2)
        error = message.error if isinstance(message, Failed) else self._made(task, seconds)
        if error:
            self._failed(task, error)
        else:
            self._seconds[type(task.job)].append(seconds)
        self._ended += 1
        return self._told(f"{task.name}: {'failed' if error else 'done'}")

    def _lost(self, worker: int, cause: str) -> Progress | None:
        """A worker has ended: its job is put back, or given up if it has cost too many."""
        self._free.discard(worker)
        self._warm.pop(worker, None)
        self._silent += 1
        task, _ = self._running.pop(worker, (None, 0.0))
        if task is not None:
            remove_leftovers(task.job)
            task.losses += 1
            if task.losses < MOST_LOSSES:
                self._waiting[task.group.key].appendleft(task)
        if self._silent >= MOST_SILENT:
            raise ResourceError(
                f"{self._silent} workers in a row ended as soon as they had begun ({cause}).",
                "`python -m backend doctor` may say why; then run the batch again: it goes on.",
            )
        if task is None:
            return None
        if task.losses < MOST_LOSSES:
            return self._said(f"{task.name}: put back, its worker ended", cause)
        self._failed(
            task,
            f"{task.losses} workers ended over it (the last: {cause}). Memory may have run out: "
            "use fewer workers or a smaller image.",
        )
        self._ended += 1
        return self._said(f"{task.name}: failed")

    def _made(self, task: Task, seconds: float) -> str:
        """Record what a job has made; why it does not count, if it does not."""
        missing = (
            f"{task.job.out}: it is not there, or damaged, although a worker made it. Let the "
            "machines of the cluster share this folder."
        )
        if task.picture is not None:
            sha256 = file_hash(task.job.out)
            if not sha256:
                return missing
            made: dict[str, Any] = {"path": task.path, "sha256": sha256, "seconds": seconds}
            self._results.pictures[task.picture.key] = made
            for row in task.picture.rows:
                row.update(state="done", picture=task.path, seconds=seconds)
        else:
            try:
                hashed = style_hash(task.job.out)
            except StitchworkError:
                return missing
            self._results.styles[task.group.key] = {
                "path": task.path,
                "reference": (task.group.train or {})["reference"],
                "hash": hashed,
                "seconds": seconds,
            }
            self._untrained.pop(task.group.key)
            tasks = picture_tasks(task.group, task.job.out, self._results)
            self._waiting[task.group.key].extend(tasks)
        self._results.save()
        return ""

    def _failed(self, task: Task, error: str) -> None:
        pictures = [task.picture]
        if task.picture is None:
            pictures = list(task.group.pictures.values())
            error = f"its style: {error}"
            self._ended += self._untrained.pop(task.group.key).total()
        for picture in pictures:
            for row in picture.rows if picture else ():
                row.update(state="failed", error=error)
        self._results.save()

    def _told(self, text: str) -> Progress | None:
        """Where there is only one worker, its own progress says all."""
        return self._said(text) if self._workers.count > 1 else None

    def _said(self, text: str, message: str = "") -> Progress:
        return Progress(
            stage=f"{self._ended}/{self._total} {text}",
            step=0,
            steps=1,
            message=message,
            seconds_left=self._time_left(),
        )

    def _time_left(self) -> float | None:
        """Of the whole batch, once a job of each kind that is still to do has been timed."""
        to_do: Counter[type[Job]] = Counter(
            type(each.job) for tasks in self._waiting.values() for each in tasks
        )
        for pictures in self._untrained.values():
            to_do += pictures
        left = 0.0
        for worker, (task, _) in self._running.items():
            said = self._left[worker]
            if said is not None:
                left += said
            elif self._workers.count > 1:
                to_do[type(task.job)] += 1
            else:
                return None
        for kind, count in to_do.items():
            if count and not self._seconds[kind]:
                return None
            if count:
                left += count * sum(self._seconds[kind]) / len(self._seconds[kind])
        return left / self._workers.count
