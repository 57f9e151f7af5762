"""Kills a service at random moments over a mixed queue, and counts what was lost.

    python tests/backend/crashing.py --moments 200 --seed 0 --engine real

Lost: an acknowledged job that is unknown, or not finished when nothing is killed any more. Doubled:
one that was done twice, or whose result came into its place twice, as seen from outside. False: one
that was called done without its whole files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from running import FINAL, environment, preview_job

from backend.service.artefacts import Artefact
from backend.service.database import Database
from backend.service.store import JobStore

WAITING = 6  # unfinished jobs to keep in the queue
TELL_EVERY = 10  # moments
LAST_SECONDS = 900.0  # for the last service, to finish what there is
STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
REAL = (sys.executable, "-m", "backend")


@dataclass
class Tally:
    """What came of it."""

    moments: int = 0
    jobs: int = 0
    done: int = 0
    cancelled: int = 0
    failed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(
            (self.failed, self.lost, self.doubled, self.false, self.problems, self.left_over)
        )


class Crashes:
    """A service that is killed and started again, and the client that uses it meanwhile.

    Args:
        folder: for everything; empty.
        model: folder of the tiny model for real training; None: the pretending engine.
        mean: how long a service lives on average, counted in the time that it takes to start, so
            that a busy machine changes little.
    """

    def __init__(self, folder: Path, model: Path | None, seed: int, mean: float) -> None:
        self._folder, self._model, self._mean = folder, model, mean
        self._pace = 1.0  # seconds that a service takes to start
        self._chance = random.Random(seed)
        self._count = 0
        self._wanted: dict[str, dict[str, Any]] = {}  # by key, acknowledged or not
        self._ids: dict[str, str] = {}  # of what was acknowledged, by key
        self._final: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, list[tuple[str, int, int]]] = {}
        self._placed: dict[str, int] = {}  # what came into a job's place, by key
        self._client: httpx.Client
        self.tally = Tally()

    def run(self, moments: int, seconds: float = math.inf) -> Tally:
        """So many times, or as often as that many seconds allow; then let it finish, and count."""
        end = time.monotonic() + seconds
        while self.tally.moments < moments and time.monotonic() < end:
            self._live(killed=True)
            self.tally.moments += 1
            self._check_table()
            if self.tally.moments % TELL_EVERY == 0:
                print(f"{self.tally.moments} moments, {self._count} jobs", flush=True)
        self._live(killed=False)
        self._check_table()
        self._settle()
        return self.tally

    def _live(self, *, killed: bool) -> None:
        """Start the service and use it until it is killed, or until everything is finished."""
        process, began = self._start(), time.monotonic()
        everybody = self._chance.random() < 0.5
        early = killed and self._chance.random() < 0.15  # while it starts
        lives = min(self._chance.expovariate(1.0 / self._mean), 4.0 * self._mean)
        if early:
            self._kill(process, everybody, self._chance.random())
        assert process.stdout is not None
        line = process.stdout.readline()
        if killed and not early:
            self._pace = time.monotonic() - began
            self._kill(process, everybody, lives)
        if line:
            facts = json.loads(line)
            headers = {"Authorization": f"Bearer {facts['token']}"}
            address = f"http://127.0.0.1:{facts['port']}"
            try:
                with httpx.Client(base_url=address, headers=headers, timeout=60) as self._client:
                    self._use(killed)
            except httpx.TransportError:
                assert killed, "the service ended by itself"
        process.stdin.close()  # type: ignore[union-attr]
        code = process.wait(120)
        process.stdout.close()
        self._watch()
        assert killed or code == 0, f"the service ended with code {code}"
        assert line or killed, "the service did not start"

    def _kill(self, process: subprocess.Popen[str], everybody: bool, lives: float) -> None:
        """End it in a while, with its workers or alone: in the midst of whatever it does then."""

        def kill() -> None:
            if process.poll() is None:
                (os.killpg if everybody else os.kill)(process.pid, signal.SIGKILL)

        threading.Timer(lives * self._pace, kill).start()

    def _start(self) -> subprocess.Popen[str]:
        command = [*(REAL if self._model else STAND_IN), "serve", "--root", str(self._folder)]
        if self._model:
            command += ["--root", str(self._model)]
        return subprocess.Popen(
            [*command, "--data", str(self._folder / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )

    def _use(self, killed: bool) -> None:
        """Submit, look and cancel until the service is gone, or all is finished."""
        end = time.monotonic() + LAST_SECONDS
        while killed or time.monotonic() < end:
            for key in [key for key in self._wanted if key not in self._ids]:
                self._send(key)  # its answer was lost
            unfinished = [id for id in self._ids.values() if id not in self._final]
            if killed and len(unfinished) < WAITING:
                key = self._next()
                self._send(key)
                unfinished.append(self._ids[key])
            elif not unfinished:
                return
            for status in self._get("/v1/jobs"):
                self._look(status)
            self._watch()
            if killed and self._chance.random() < 0.02:
                self._client.post(f"/v1/jobs/{self._chance.choice(unfinished)}/cancel")
            time.sleep(0.02)

    def _next(self) -> str:
        """One more job: looks, trainings, and pictures in the styles that are trained."""
        self._count += 1
        number, key = self._count, f"job-{self._count}"
        job: dict[str, Any] = preview_job(self._folder, f"{key}.png")
        if number % 4 == 2:
            job = {"kind": "train", "reference": job["reference"], "out": str(self._style(number))}
            job |= {"steps_one": 3, "steps_two": 0, "blocks": "paper"}
        elif number % 4 == 0:
            job = {"kind": "restyle", "input": job["input"], "out": job["out"], "steps": 2}
            job |= {"style": str(self._style(number - 2)), "start": "design", "strength": 0.5}
        if self._model and job["kind"] != "preview":
            job["base"] = str(self._model)
        self._wanted[key] = job
        return key

    def _style(self, number: int) -> Path:
        return self._folder / f"style-{number}"

    def _send(self, key: str) -> None:
        answer = self._client.post("/v1/jobs", params={"key": key}, json=self._wanted[key])
        assert answer.status_code == 201, answer.text
        self._ids[key] = answer.json()["id"]

    def _get(self, path: str) -> Any:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _look(self, status: dict[str, Any]) -> None:
        """What is final must stay so; what is done must have its files."""
        id = status["id"]
        known = self._final.get(id)
        if known is not None and known != status:
            self.tally.doubled.append(f"{id} was {known['state']}, then {status['state']}")
        if known is not None or status["state"] not in FINAL:
            return
        if status["state"] == "done":
            found = self._get(f"/v1/jobs/{id}?since=0")["artefacts"]
            artefacts = [Artefact.from_dict(each) for each in found]
            if not artefacts or not all(each.intact for each in artefacts):
                self.tally.false.append(id)
            self._seen[id] = _marks(each.path for each in artefacts)
        self._final[id] = status

    def _watch(self) -> None:
        """Whatever is in a job's place must stay: every job has a place of its own."""
        for key, job in self._wanted.items():
            try:
                found = os.stat(job["out"]).st_ino
            except FileNotFoundError:
                continue
            if self._placed.setdefault(key, found) != found:
                self._placed[key] = found
                self.tally.doubled.append(f"{key}: its result was put in place again")

    def _check_table(self) -> None:
        path = self._folder / "data" / "jobs" / "jobs.sqlite3"
        if not path.exists():
            return  # killed before its first breath
        database = Database(path)
        self.tally.problems += JobStore(database).problems()
        database.close()

    def _settle(self) -> None:
        """Count, once everything that can finish has finished."""
        tally, database = self.tally, Database(self._folder / "data" / "jobs" / "jobs.sqlite3")
        store = JobStore(database, limit=100_000)
        known = {status.id for status in store.all()}
        tally.jobs = len(self._ids)
        for key, id in self._ids.items():
            status = self._final.get(id)
            if status is None:
                tally.lost.append(f"{key} {id}")
                continue
            tally.done += status["state"] == "done"
            tally.cancelled += status["state"] == "cancelled"
            # A picture in a style whose training was cancelled has nothing to go by.
            if status["state"] == "failed" and "style" not in status["error"]:
                tally.failed.append(f"{key} {status['error']}")
            if id in self._seen and self._seen[id] != _marks(path for path, *_ in self._seen[id]):
                tally.doubled.append(f"{key}: its files have changed since it was done")
        tally.doubled += sorted(known - set(self._ids.values()))
        tally.lost += [
            f"{key} {self._ids[key]}: what it made is gone"
            for key in self._placed
            if not os.path.exists(self._wanted[key]["out"])
        ]
        log = self._folder / "completed.log"
        if log.exists():
            counts = Counter(log.read_text().split())
            tally.doubled += [f"{name} × {n}" for name, n in counts.items() if n > 1]
        tally.left_over = [
            str(each)
            for each in self._folder.rglob("*")
            if each.name.startswith(".") or each.suffix == ".receipt"
        ]
        database.close()


def _marks(paths: Iterable[str]) -> list[tuple[str, int, int]]:
    """By what a file would be found to have been written again."""
    found = [(path, Path(path).stat()) for path in paths]
    return [(path, stat.st_ino, stat.st_mtime_ns) for path, stat in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("real", "stand-in"), default="real")
    parser.add_argument("--mean", type=float, help="life of a service, in starts of one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name) / "work", None
        folder.mkdir()
        if options.engine == "real":
            from tiny import make_tiny_model

            model = make_tiny_model(Path(name) / "model")
        mean = options.mean or (6.0 if model else 1.5)
        crashes = Crashes(folder, model, options.seed, mean)
        tally = crashes.run(options.moments, 60 * options.minutes)
    print(json.dumps(asdict(tally), indent=2))
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
