"""A steady mix of small jobs for hours: memory must stay flat, and nothing may be left over.

    nice python tests/backend/soak.py --minutes 120

What the service and its workers hold is measured between the jobs, when all are at rest, and
compared after a warm-up of a tenth of the time: the median of the first fifth of what remains with
that of the last. At the end every file must belong to a job, a style or the log.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from running import (
    FINAL,
    Service,
    children,
    endless_job,
    environment,
    preview_job,
    running_service,
    wait_for_stage,
)
from watching import LOOKS, MIB, MODELS, SERVICE, Holding, ends, files, holdings, seconds, unowned

from backend.library import archive, likeness, shelf
from backend.service.database import Database
from backend.service.store import JobStore

WARM_UP = 0.1  # of the time
FLAT = 0.05  # by how much memory may have grown
LONGEST_REST = 50.0  # seconds; a worker for looks is ended after 60 without any
FORGOTTEN = 1000  # jobs that the table holds at most
STYLES, PICTURES, STOPPED = 4, 12, 3  # that the user keeps


class Soak:
    """A user of one service, who does one thing after another.

    Args:
        folder: for everything; empty.
        model: the tiny model.
        load: of one core that all of it may take, on average; infinite: never rests.
    """

    def __init__(self, folder: Path, model: Path, seed: int, load: float) -> None:
        self._work, self._data, self._temporary = (folder / n for n in ("work", "data", "tmp"))
        for each in (self._work, self._data, self._temporary):
            each.mkdir()
        self._styles = self._work / "styles"
        self._styles.mkdir()
        self._model, self._load = model, load
        self._chance = random.Random(seed)
        self._numbers = count(1)
        self._job = preview_job(self._work)
        self._bad = self._work / "bad.png"
        self._bad.write_bytes((self._work / "art.png").read_bytes()[:120])
        self._inputs = [self._bad, Path(self._job["input"]), Path(self._job["reference"])]
        self._pictures: list[Path] = []
        self._stopped: list[Path] = []  # checkpoints
        self._service: Service
        self._workers: set[int] = set()
        self.samples: list[tuple[float, dict[str, Holding]]] = []
        self.states: Counter[str] = Counter()
        self.deeds: Counter[str] = Counter()
        self.problems: list[str] = []
        self.left_over: list[str] = []

    @contextmanager
    def service(self) -> Iterator[None]:
        """The service runs; afterwards everything is counted."""
        variables = {**environment(), "TMPDIR": str(self._temporary), "GOMP_SPINCOUNT": "1000"}
        with running_service(
            self._work, self._model, data=self._data, variables=variables
        ) as self._service:
            self._service.client.timeout = httpx.Timeout(120)
            yield
        self._settle()

    def deed(self, do: Callable[[], None]) -> None:
        """One thing that users do, and a look at what the processes hold when it is over."""
        name = do.__name__
        try:
            do()
            self._check("/v1/storage", 200)
            self._check("/v1/jobs", 200)
        except (AssertionError, httpx.HTTPError) as error:
            self.problems.append(f"{name}: {type(error).__name__} {error}")
        self.deeds[name] += 1
        self._workers.update(self._service.workers())
        try:
            self.samples.append((time.monotonic(), holdings(self._service.process.pid)))
        except (FileNotFoundError, ProcessLookupError):
            return  # a worker that has been idle for long is ending

    def rest(self, began: float, spent: float) -> None:
        """Wait until all has taken no more than its share since `began`."""
        due = began + (self.spent() - spent) / self._load
        time.sleep(min(max(0.0, due - time.monotonic()), LONGEST_REST))

    def spent(self) -> float:
        """Seconds of processor time: the service's, its workers', and this client's own."""
        service = self._service.process.pid
        return time.process_time() + sum(map(seconds, (service, *children(service))))

    @property
    def all_deeds(self) -> Sequence[Callable[[], None]]:
        return (
            *(self.look, self.train, self.restyle, self.follow, self.spoil, self.misuse),
            *(self.cancel, self.cancel_waiting, self.tend, self.visit, self.clear),
        )

    # --- what users do ----------------------------------------------------------------------

    def look(self) -> None:
        """A first look, fetched when it is done."""
        id, out = self._picture(self._job)
        assert self._end(id)["state"] == "done"
        (artefact,) = self._get(f"/v1/jobs/{id}?since=0")["artefacts"]
        fetched = self._service.client.get(f"/v1/jobs/{id}/files/image").content
        assert fetched == out.read_bytes()
        assert hashlib.sha256(fetched).hexdigest() == artefact["sha256"]

    def train(self) -> None:
        """A style, and meanwhile a look."""
        id = self._service.submit(self._training())
        self.look()
        assert self._end(id)["state"] == "done"

    def restyle(self) -> None:
        """A picture in a style that there is."""
        styles = shelf.entries(self._styles)
        if not styles:
            return self.train()
        style = self._chance.choice(styles).folder
        job = {"kind": "restyle", "input": self._job["input"], "style": str(style), "steps": 2}
        id, _ = self._picture({**job, "base": str(self._model), "strength": 0.5})
        assert self._end(id)["state"] == "done"

    def follow(self) -> None:
        """A training's events, by a client that loses its connection again and again."""
        id, seen, over = self._service.submit(self._training()), 0, False
        while not over:
            headers = {"Last-Event-ID": str(seen)}
            patience = self._chance.randint(1, 8)
            with self._service.client.stream(
                "GET", f"/v1/jobs/{id}/events", headers=headers
            ) as stream:
                assert stream.status_code == 200
                for line in stream.iter_lines():
                    if line.startswith("data: "):
                        event = json.loads(line.removeprefix("data: "))
                        assert event["n"] == seen + 1, f"event {event['n']} after {seen}"
                        seen, patience = event["n"], patience - 1
                        over = event.get("state") in FINAL
                    if patience == 0:
                        break
        assert self._end(id)["state"] == "done"

    def spoil(self) -> None:
        """Jobs that cannot succeed, and say why."""
        gone = self._work / "gone.png"
        cases: list[dict[str, Any]] = [{"input": str(self._bad)}, {"reference": str(self._bad)}]
        cases += [{"input": str(gone)}, {"out": str(self._work / "notes.txt")}]
        for case in cases:
            out = str(self._work / f"bad-{next(self._numbers)}.png")
            status = self._end(self._service.submit({**self._job, "out": out, **case}))
            assert status["state"] == "failed", status
            assert status["remedy"]

    def misuse(self) -> None:
        """Requests that are refused."""
        post = self._service.client.post
        assert post("/v1/jobs", json={**self._job, "no": "field"}).status_code == 400
        assert post("/v1/jobs", json={**self._job, "out": "/etc/x.png"}).status_code == 400
        assert post("/v1/jobs", content=b"{" * 999).status_code == 400
        assert post("/v1/jobs", content=b"x" * 100_000).status_code == 413
        self._check("/v1/jobs/unknown", 404)
        self._check("/v1/hello", 401, {"Authorization": "Bearer no"})
        self._check("/v1/hello", 421, {"Host": "example.com"})
        self._check("/v1/hello", 403, {"Origin": "null"})

    def cancel(self) -> None:
        """A training that is stopped in its midst, and goes on or not."""
        job = self._training(steps_one=40)
        id = self._service.submit(job)
        wait_for_stage(self._service, id, "stage one")
        self._cancel(id)
        if self._chance.random() < 0.5:
            assert self._end(self._service.submit(job))["state"] == "done"
        else:
            self._stopped.append(Path(f"{job['out']}.partial"))

    def cancel_waiting(self) -> None:
        """Jobs that never start, behind one that never ends."""
        endless = endless_job(self._work, self._model)
        first = self._service.submit(endless)
        for id in [self._service.submit(self._training()) for _ in range(3)]:
            self._cancel(id)
        self._cancel(first)

    def tend(self) -> None:
        """The library: renamed, sent as a file, taken in again, compared, thrown away."""
        styles = shelf.entries(self._styles)
        if not styles:
            return self.train()
        name, new = self._chance.choice(styles).name, f"renamed-{next(self._numbers)}"
        file = self._work / f"{new}.stitchstyle"
        renamed = shelf.rename(self._styles, name, new)
        archive.export_style(renamed, file)
        archive.import_style(file, self._styles, f"copy-{new}")
        file.unlink()
        for _ in likeness.similar(self._styles, shelf.find(self._styles, new)):
            pass
        self.restyle()
        shelf.delete(self._styles, f"copy-{new}")

    def visit(self) -> None:
        """Another program that comes, leaves a job, and goes; and one that ends without a word."""
        for polite in (True, False):
            with subprocess.Popen(["sleep", "600"]) as guest:
                about, post = {"pid": guest.pid}, self._service.client.post
                assert post("/v1/clients/join", json=about).status_code == 200
                job = {**endless_job(self._work, self._model)}
                answer = post("/v1/jobs", params={"client": guest.pid}, json=job)
                if polite:
                    assert not post("/v1/clients/leave", json=about).json()["stopping"]
                guest.kill()
            assert self._end(answer.json()["id"])["state"] == "cancelled"

    def clear(self) -> None:
        """The oldest pictures, styles and checkpoints go, and the trash is emptied."""
        self._pictures, old = self._pictures[-PICTURES:], self._pictures[:-PICTURES]
        for each in old:
            each.unlink()
        self._stopped, old = self._stopped[-STOPPED:], self._stopped[:-STOPPED]
        for each in old:
            shutil.rmtree(each)
        for style in sorted(shelf.entries(self._styles), key=lambda each: each.created)[:-STYLES]:
            shelf.delete(self._styles, style.folder.name)
        shutil.rmtree(self._styles / ".trash", ignore_errors=True)

    def fill(self, jobs: int) -> None:
        """As many jobs as the table remembers, so that from now on each forgets another."""
        first = self._service.submit(endless_job(self._work, self._model))
        for _ in range(jobs):
            self._cancel(self._service.submit(self._training()))
        self._cancel(first)

    # --- how --------------------------------------------------------------------------------

    def _training(self, **changes: Any) -> dict[str, Any]:
        out = self._styles / f"style-{next(self._numbers)}"
        job = {**endless_job(self._work, self._model), "out": str(out), "steps_one": 3}
        return {**job, "seed": self._chance.randrange(1000), **changes}

    def _picture(self, job: dict[str, Any]) -> tuple[str, Path]:
        out = self._work / f"picture-{next(self._numbers)}.png"
        self._pictures.append(out)
        return self._service.submit({**job, "out": str(out)}), out

    def _end(self, id: str) -> dict[str, Any]:
        status = self._service.wait(id, seconds=900)
        self.states[status["state"]] += 1
        return status

    def _cancel(self, id: str) -> None:
        assert self._service.client.post(f"/v1/jobs/{id}/cancel").status_code == 200
        assert self._end(id)["state"] == "cancelled"

    def _get(self, path: str) -> Any:
        return self._service.client.get(path).json()

    def _check(self, path: str, code: int, headers: dict[str, str] | None = None) -> None:
        answer = self._service.client.get(path, headers=headers)
        assert answer.status_code == code, f"{path}: {answer.status_code} {answer.text}"

    # --- the account ------------------------------------------------------------------------

    def line(self) -> str:
        """Where it stands, in one line."""
        about = [f"{n} {state}" for state, n in sorted(self.states.items())]
        for role, held in sorted(self.samples[-1][1].items()):
            about.append(
                f"{role} {held.resident / MIB:.1f} MiB {held.descriptors} fd {held.threads} thr"
            )
        counts = [len(files(each)) for each in (self._work, self._data, self._temporary)]
        about.append("files work {} data {} tmp {}".format(*counts))
        return ", ".join(
            [*about, f"{len(self._workers)} workers", f"{len(self.problems)} problems"]
        )

    def table(self, began: float, ended: float) -> list[str]:
        """What was held at first and at last; what has grown is a problem."""
        warm = began + WARM_UP * (ended - began)
        samples = [held for at, held in self.samples if at >= warm]
        # Each worker costs the service two pipes and a thread.
        full = [held for held in samples if len(held) == 3]
        lines = [f"{'':20}{'resident MiB':>24}{'most':>8}{'descriptors':>16}{'threads':>12}"]
        for role in (SERVICE, LOOKS, MODELS):
            found = [held[role] for held in (full if role == SERVICE else samples) if role in held]
            if not found:
                self.problems.append(f"{role}: never seen at rest")
                continue
            memory = ends([each.resident / MIB for each in found])
            growth = memory[1] / memory[0] - 1.0
            most = max(each.resident for each in found) / MIB
            open_files = ends([each.descriptors for each in found])
            threads = ends([each.threads for each in found])
            lines.append(
                f"{role:20}{memory[0]:9.1f} → {memory[1]:6.1f}{growth:+7.1%}{most:8.1f}"
                f"{open_files[0]:9.0f} → {open_files[1]:3.0f}{threads[0]:6.0f} → {threads[1]:3.0f}"
            )
            if growth > FLAT:
                self.problems.append(f"{role}: memory has grown by {growth:.1%}")
            if open_files[1] > open_files[0]:
                self.problems.append(f"{role}: {open_files[1]:.0f} files open at last")
            if threads[1] > threads[0]:
                self.problems.append(f"{role}: {threads[1]:.0f} threads at last")
        return lines

    def _settle(self) -> None:
        """Once the service has ended: whose is what lies there?"""
        database = Database(self._data / "jobs" / "jobs.sqlite3")
        store = JobStore(database)
        made = [Path(each) for done in store.outputs() for each in done.paths]
        made += [Path(f"{each}.partial") for each in store.unmade("train")]
        self.problems += store.problems()
        database.close()
        left = unowned(self._work, self._data, self._inputs, made) | files(self._temporary)
        left |= {each for each in (self._data / "run" / "service.json",) if each.exists()}
        self.left_over = sorted(map(str, left))
        log = (self._data / "logs" / "service.log").read_text()
        self.problems += [line for line in log.splitlines() if " ERROR " in line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--load", type=float, default=0.1, help="of one core, on average")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from tiny import make_tiny_model

    with tempfile.TemporaryDirectory() as name:
        model = make_tiny_model(Path(name) / "model")
        soak = Soak(Path(name), model, options.seed, options.load)
        chance = random.Random(options.seed)
        began = ended = time.monotonic()
        with soak.service():
            soak.fill(FORGOTTEN)
            spent, start, told = soak.spent(), time.monotonic(), 0
            while ended < began + 60 * options.minutes:
                for do in chance.sample(soak.all_deeds, len(soak.all_deeds)):
                    soak.deed(do)
                    soak.rest(start, spent)
                    ended = time.monotonic()
                    if ended - began >= 60 * (told + 1):
                        told = int((ended - began) / 60)
                        print(f"minute {told}: {soak.line()}", flush=True)
            load = (soak.spent() - spent) / (ended - start)
        print(f"{sum(soak.states.values())} jobs, {load:.1%} of a core; {soak.line()}")
        print("\n".join(soak.table(began, ended)))
        for each in (*soak.problems, *(f"left over: {path}" for path in soak.left_over)):
            print(each)
    return 1 if soak.problems or soak.left_over else 0


if __name__ == "__main__":
    sys.exit(main())
