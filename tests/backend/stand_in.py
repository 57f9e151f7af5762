"""The real service and the real worker process around an engine that only pretends.

    python stand_in.py serve …      as `python -m backend serve …`
    python stand_in.py worker       what that starts

The pretended jobs take a fraction of a second, leave the files that real ones leave, written aside
and renamed, and note each completion in `completed.log` beside their results.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from pathlib import Path

from backend.cli import main as command_line
from backend.jobs import Job, Progress, Result, TrainJob
from backend.service import server, worker
from backend.service.queue import Queue
from backend.styles import replace_folder

STEPS, PAUSE = 8, 0.02


class StandIn:
    """In place of `backend.engine.Engine`."""

    def run(self, job: Job) -> Generator[Progress, None, Result]:
        out = Path(job.out)
        partial_folder = out.with_name(f"{out.name}.partial")
        state = partial_folder / "checkpoint"
        training = isinstance(job, TrainJob)
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
        if training:
            aside.mkdir(exist_ok=True)
            (aside / "weights").write_bytes(os.urandom(200_000))
            (aside / "style.json").write_text("{}")
            replace_folder(aside, out)
            state.unlink(missing_ok=True)
            partial_folder.rmdir()
        else:
            aside.write_bytes(os.urandom(200_000))
            aside.replace(out)
        with open(out.parent / "completed.log", "a", encoding="utf-8") as log:
            log.write(f"{out.name}\n")
        return Result(outputs={"style" if training else "image": str(out)})


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
