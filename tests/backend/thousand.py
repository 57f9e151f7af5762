"""Many jobs on many workers, a part of which is killed: every output must be there exactly once.

    python tests/backend/thousand.py --jobs 1000 --workers 8 --killed 0.1

A real service around the pretending engine. Workers are killed (SIGKILL) a random moment after they
have begun a job, whatever they do then, until that has failed so many jobs; these are sent again,
as their errors advise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crashing import STAND_IN
from running import FINAL, Service, preview_job, running_service
from stand_in import PAUSE, STEPS, content

from backend.jobs import job_from_dict
from backend.service.database import Database
from backend.service.store import JobStore

WAITING = 25  # unfinished jobs to keep in the queue, for each worker
MOMENT = 1.2 * STEPS * PAUSE  # seconds after a job's begin, at most, until its worker is killed
MOST = 0.5  # of the jobs, where those that were to be killed are too few so far
PATIENCE = 120.0  # seconds without any job finished


@dataclass
class Account:
    """What came of it."""

    jobs: int = 0
    done: int = 0
    workers: int = 0  # that did something
    killed: int = 0
    failed_by_it: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.wrong and self.done == self.jobs


class Killer(threading.Thread):
    """Kills a part of a service's workers, each at a random moment of a job.

    Args:
        log: of the jobs that workers have begun.
        jobs: how many there will be.
        wanted: how many of them are to be hit.
    """

    def __init__(
        self, service: Service, log: Path, jobs: int, wanted: int, chance: random.Random
    ) -> None:
        super().__init__(daemon=True)
        self._service, self._log, self._jobs, self._wanted = service, log, jobs, wanted
        self._chance = chance
        self._read = 0  # of the log
        self._begun = 0
        self._deaths: list[tuple[float, int]] = []  # when, and whose
        self._over = threading.Event()
        self.hit = 0  # told by the client, who sees what became of the jobs
        self.killed = 0

    def run(self) -> None:
        while not self._over.wait(0.005):
            for pid in self._new():
                self._begun += 1
                missing = self._wanted - self.hit - len(self._deaths)
                if self._chance.random() < min(MOST, missing / max(1, self._jobs - self._begun)):
                    moment = time.monotonic() + self._chance.uniform(0.0, MOMENT)
                    self._deaths.append((moment, pid))
            due = [each for each in self._deaths if each[0] <= time.monotonic()]
            self._deaths = [each for each in self._deaths if each not in due]
            for _, pid in due:
                if pid in self._service.workers():
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1

    def end(self) -> None:
        self._over.set()
        self.join()

    def _new(self) -> Iterator[int]:
        """The workers that have begun a job since the last look."""
        if not self._log.exists():
            return
        with self._log.open("rb") as lines:
            lines.seek(self._read)
            whole = lines.read().rpartition(b"\n")
        self._read += len(whole[0] + whole[1])
        for line in whole[0].decode().splitlines():
            yield int(line.split()[1])


class Thousand:
    """The client of one service whose workers are killed.

    Args:
        folder: for everything; empty.
        killed: share of the jobs that are to be hit.
    """

    def __init__(self, folder: Path, jobs: int, workers: int, killed: float, seed: int) -> None:
        self._out, self._data, self._workers = folder / "out", folder / "data", workers
        self._out.mkdir()
        self._chance = random.Random(seed)
        inputs = folder / "inputs"
        inputs.mkdir()
        plain = preview_job(inputs)
        self._jobs = {each["out"]: each for each in map(self._job, range(jobs), [plain] * jobs)}
        self._wanted = round(killed * jobs)
        self._service: Service
        self.account = Account(jobs=jobs)

    def run(self) -> Account:
        began = time.monotonic()
        options = ["--workers", str(self._workers)]
        with running_service(
            self._out.parent, data=self._data, options=options, program=STAND_IN
        ) as self._service:
            log, jobs = self._out / "begun.log", len(self._jobs)
            killer = Killer(self._service, log, jobs, self._wanted, self._chance)
            killer.start()
            try:
                done = self._use(killer)
            finally:
                killer.end()
            self.account.killed = killer.killed
            self._check_table()
        self._count(done)
        self.account.seconds = round(time.monotonic() - began, 1)
        return self.account

    def _job(self, number: int, plain: dict[str, Any]) -> dict[str, Any]:
        """Every fifth trains a style, the next ones use it; a few look."""
        job: dict[str, Any] = {"seed": number}
        style = str(self._out / f"style-{number - number % 5:04}")
        if number % 5 == 0:
            return {**job, "kind": "train", "reference": plain["reference"], "out": style}
        job["out"] = str(self._out / f"{number:04}.png")
        if number % 10 == 4:
            return {**plain, **job}
        if number % 5 == 1:
            return {**job, "kind": "generate", "style": style, "prompt": f"flower {number}"}
        return {**job, "kind": "restyle", "style": style, "input": plain["input"]}

    def _use(self, killer: Killer) -> dict[str, list[str]]:
        """Send and look until everything is done; the hashes of what each job has made."""
        todo, running, tries = list(reversed(self._jobs)), dict[str, str](), Counter[str]()
        done: dict[str, list[str]] = {}
        last = time.monotonic()
        while todo or running:
            while todo and len(running) < WAITING * self._workers:
                out = todo.pop()
                tries[out] += 1
                key = f"{Path(out).name}-{tries[out]}"
                answer = self._service.client.post(
                    "/v1/jobs", params={"key": key}, json=self._jobs[out]
                )
                assert answer.status_code == 201, answer.text
                running[answer.json()["id"]] = out
            for id in self._ended(running):
                out, last = running.pop(id), time.monotonic()
                found = self._service.client.get(f"/v1/jobs/{id}?since=0").json()
                if found["job"]["state"] == "done":
                    done[out] = [each["sha256"] for each in found["artefacts"]]
                    continue
                killer.hit = self.account.failed_by_it = self.account.failed_by_it + 1
                if "SIGKILL" not in found["job"]["error"]:
                    self.account.wrong.append(f"{out}: {found['job']['error']}")
                todo.append(out)
            assert time.monotonic() < last + PATIENCE, f"nothing ends: {sorted(running.values())}"
        return done

    def _ended(self, running: dict[str, str]) -> list[str]:
        """Those that have ended, of what runs."""
        time.sleep(0.25)
        listed = self._service.client.get("/v1/jobs").json()
        return [each["id"] for each in listed if each["id"] in running and each["state"] in FINAL]

    def _check_table(self) -> None:
        database = Database(self._data / "jobs" / "jobs.sqlite3")
        self.account.wrong += JobStore(database).problems()
        database.close()

    def _count(self, done: dict[str, list[str]]) -> None:
        """Compare what is there, what was said, and what should be."""
        account = self.account
        account.done = len(done)
        begun = (self._out / "begun.log").read_text().split()
        account.workers = len(set(begun[1::2]))
        completed = Counter((self._out / "completed.log").read_text().split())
        account.wrong += [f"{name}: made {n} times" for name, n in completed.items() if n > 1]
        there: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._out.rglob("*")):
            if path.is_file() and path.suffix != ".log":
                there[hashlib.sha256(path.read_bytes()).hexdigest()].append(path)
        account.wrong += [f"the same: {each}" for each in there.values() if len(each) > 1]
        said = Counter(each for hashes in done.values() for each in hashes)
        account.wrong += [f"{name}: said {n} times" for name, n in said.items() if n > 1]
        for out, job in self._jobs.items():
            wanted = hashlib.sha256(content(job_from_dict(job))).hexdigest()
            if wanted not in done.get(out, []) or wanted not in there:
                account.wrong.append(f"{out} is missing")
        account.wrong += [f"{there[each]} is nobody's" for each in there.keys() - said.keys()]
        account.wrong += [f"{each} is said, not there" for each in said.keys() - there.keys()]
        account.wrong += [
            f"{path} is left over"
            for path in [*self._out.iterdir(), *(self._data / "jobs").iterdir()]
            if path.name.startswith(".") or path.suffix in (".partial", ".receipt")
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--killed", type=float, default=0.1, help="share of the jobs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        chosen = options.jobs, options.workers, options.killed, options.seed
        account = Thousand(Path(name), *chosen).run()
    print(json.dumps(asdict(account), indent=2))
    few = account.failed_by_it < 0.9 * options.killed * options.jobs
    return 1 if few or not account.clean else 0


if __name__ == "__main__":
    sys.exit(main())
