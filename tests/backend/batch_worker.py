"""A batch's worker process that only pretends: it leaves files of a style's or a picture's kind.

    python batch_worker.py FOLDER [SECONDS]

In FOLDER it notes each job begun and each finished in `begun.log` and `finished.log`. A job called
NAME ends the worker if there is a file NAME.once (which is removed) or NAME.always; NAME.refused
makes it fail, and with NAME.elsewhere nothing is written where it should be.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path


def note(folder: Path, log: str, name: str) -> None:
    # One write, so that lines of several workers do not mix.
    handle = os.open(folder / log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{name} {os.getpid()}\n".encode())
    os.close(handle)


def do(job: dict[str, str], folder: Path, seconds: float) -> dict[str, object]:
    out = Path(job["out"])
    source = Path(job["input"]).stem if "input" in job else job["prompt"].replace(" ", "_")
    name = f"{source}-{Path(job['style']).name}"
    note(folder, "begun.log", name)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid():08}")
    aside.write_bytes(b"half")
    time.sleep(seconds)
    if (folder / f"{name}.always").exists():
        os._exit(9)
    with suppress(FileNotFoundError):
        (folder / f"{name}.once").unlink()
        os.kill(os.getpid(), 9)
    if (folder / f"{name}.refused").exists():
        aside.unlink()
        return {"error": f"{name}: odd.", "remedy": "Draw it again."}
    if (folder / f"{name}.elsewhere").exists():
        aside.unlink()
        return {"done": {}}
    aside.write_bytes(name.encode())
    aside.replace(out)
    note(folder, "finished.log", name)
    return {"done": {}}


def main() -> None:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    for line in sys.stdin:
        told = {"log": {"level": "info", "text": "begun"}}
        print(json.dumps(told), flush=True)
        step = {"progress": {"stage": "doing", "step": 0, "steps": 1}}
        print(json.dumps(step), flush=True)
        print(json.dumps(do(json.loads(line)["job"], folder, seconds)), flush=True)


if __name__ == "__main__":
    main()
