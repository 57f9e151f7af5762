"""Kills a worker before each single thing that it does with files, and lets a service recover.

    python tests/backend/dying.py preview|train FOLDER [--again]

Around the pretending engine. Each time: what was in the job's place when the worker died, what the
next service makes of the job, and what is there when that has brought it to its end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import stand_in
from stand_in import StandIn, content

from backend.jobs import Job, JobState, PreviewJob, TrainJob
from backend.service import worker
from backend.service.records import Records
from backend.service.recovery import recover
from backend.service.store import JobStore

OLDER = b"an older result"
_CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}  # may be told without the folder


def die_before(n: int, folder: Path, word: int) -> None:
    """Let this process kill itself before its n-th act in the folder; it is told to `word`."""
    count = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        here = event.startswith(("os.", "open")) and str(folder) in f"{arguments}"
        if (here or event in _CHANGES) and next(count) == n:
            os.write(word, f"{event} {arguments}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def work(id: str, job: Job, receipt: Path, folder: Path, n: int) -> str:
    """Run the job in a process that dies before its n-th act, or after all; that act."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        worker._channel = open(os.devnull, "w")  # noqa: SIM115 - this process has no tidy end
        inbox: Any = SimpleNamespace(cancelled=lambda id: False)
        engine: Any = StandIn()
        die_before(n, folder, writer)
        worker._run(engine, worker._Order(id, job, receipt), inbox)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, encoding="utf-8") as said:
        return said.read()


def place(job: Job) -> Path:
    """Where the content of the job's result is."""
    return Path(job.out) / "weights" if isinstance(job, TrainJob) else Path(job.out)


def holds(job: Job) -> str:
    """What is in the job's place."""
    try:
        found = place(job).read_bytes()
    except FileNotFoundError:
        return "nothing"
    return {OLDER: "older", content(job): "result"}.get(found, "half")


def die(folder: Path, kind: str, again: bool, n: int) -> dict[str, Any]:
    """One death, and what follows."""
    out = folder / "out"
    job: Job = (
        TrainJob(reference="/r.png", out=str(out))
        if kind == "train"
        else PreviewJob(reference="/r.png", input="/i.png", out=str(out))
    )
    if again:
        place(job).parent.mkdir(parents=True, exist_ok=True)
        place(job).write_bytes(OLDER)
    data = folder.with_name(f"{folder.name}-data")
    with Records(data) as records:
        store = JobStore(records.database)
        id = store.add(job).id
        store.start(id)
        receipt = records.receipt(id)
    point = work(id, job, receipt, folder.parent, n)
    found: dict[str, Any] = {"point": point, "held": holds(job)}
    with Records(data) as records:
        store = JobStore(records.database)
        recover(store, records)
        found |= {"state": store.status(id).state, "then": holds(job)}
        if found["state"] == JobState.QUEUED:
            store.start(id)
            work(id, job, receipt, folder.parent, 0)
            recover(store, records)
        found["end"] = store.status(id).state
        found["problems"] = store.problems()
        found["intact"] = all(each.intact for each in store.artefacts(id))
        found["receipts"] = list(map(str, records.receipts()))
    found["finally"] = holds(job)
    found["left"] = sorted({each.name for each in folder.iterdir()} - {"out"})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("preview", "train"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--again", action="store_true", help="where an older result is")
    options = parser.parse_args()
    stand_in.STEPS, stand_in.PAUSE = 2, 0.0
    for n in itertools.count(1):
        folder = options.folder.absolute() / str(n)
        folder.mkdir()
        found = die(folder, options.kind, options.again, n)
        print(json.dumps(found), flush=True)
        if not found["point"]:
            return


if __name__ == "__main__":
    main()
