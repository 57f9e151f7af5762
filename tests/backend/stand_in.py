"""The real service and the real worker process around an engine that only pretends.

    python stand_in.py serve …      as `python -m backend serve …`
    python stand_in.py worker       what that starts

The pretended jobs take a fraction of a second, leave the files that real ones leave, written aside
and renamed, and note in `begun.log` and `completed.log` beside their results who has begun one
and that it was completed. What is in a file depends on its job alone.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from pathlib import Path

from backend.cli import main as command_line
from backend.jobs import Job, Progress, Result, TrainJob, job_to_dict
from backend.progress import Show, unseen
from backend.results import Vouch
from backend.service import server, worker
from backend.service.queue import Queue
from backend.styles import replace_folder

STEPS, PAUSE = 8, 0.02


def content(job: Job) -> bytes:
    """What the picture or the weights of a job are."""
    return random.Random(json.dumps(job_to_dict(job), sort_keys=True)).randbytes(200_000)


def note(job: Job, log: str, text: str) -> None:
    with open(Path(job.out).with_name(log), "a", encoding="utf-8") as lines:
        lines.write(f"{text}\n")


class StandIn:
    """In place of `backend.engine.Engine`."""

    def run(self, job: Job, vouch: Vouch, show: Show = unseen) -> Generator[Progress, None, Result]:
        out = Path(job.out)
        partial_folder = out.with_name(f"{out.name}.partial")
        state = partial_folder / "checkpoint"
        training = isinstance(job, TrainJob)
        note(job, "begun.log", f"{out.name} {os.getpid()}")
        begun = int(state.read_text()) if training and state.exists() else 0
        for step in range(begun + 1, STEPS + 1):
            time.sleep(PAUSE)
            if training:
                partial_folder.mkdir(exist_ok=True)
                aside = state.with_suffix(".new")
                aside.write_text(str(step))
                aside.replace(state)
            yield Progress(stage="step", step=step, steps=STEPS)
        aside = out.with_name(f".{out.name}.abcd{os.getpid() % 10000:04}")
        result = Result(outputs={"style" if training else "image": str(out)})
        if training:
            aside.mkdir(exist_ok=True)
            (aside / "weights").write_bytes(content(job))
            (aside / "style.json").write_text(json.dumps({"name": out.name}))
            vouch(result, aside)
            replace_folder(aside, out)
            state.unlink(missing_ok=True)
            partial_folder.rmdir()
        else:
            aside.write_bytes(content(job))
            vouch(result, aside)
            aside.replace(out)
        note(job, "completed.log", out.name)
        return result


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker.Engine = StandIn  # type: ignore[assignment, misc]
        with suppress(BrokenPipeError):  # the service is gone
            worker.main()
        os._exit(1)
    else:
        command = (sys.executable, __file__, "worker")
        server.Queue = partial(Queue, command=command)  # type: ignore[misc, assignment]
        sys.exit(command_line(sys.argv[1:]))
