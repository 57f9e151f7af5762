"""Every write of the job table fails once, and from then on: clear words, and nothing corrupted."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_disk import FULL, WRITE, Disk, faulty_disk

from backend.errors import ResourceError
from backend.jobs import JobState, PreviewJob, Progress, Result, job_to_dict
from backend.service import lane, log
from backend.service import store as store_module
from backend.service.app import Service
from backend.service.artefacts import Artefact
from backend.service.database import Database, StoreError
from backend.service.queue import Queue
from backend.service.receipts import Receipt
from backend.service.security import Roots
from backend.service.store import JobStore

JOB = PreviewJob(reference="/r.png", input="/i.png", out="/nowhere/o.png")
OTHER = PreviewJob(reference="/r.png", input="/i.png", out="/nowhere/other.png")
ARTEFACT = Artefact("image", "/nowhere/o.png", 3, "00")


@pytest.fixture
def disk() -> Iterator[Disk]:
    with faulty_disk() as disk:
        yield disk


class Life:
    """A table from its making through all that can happen to jobs; knows what was acknowledged.

    Attributes:
        sure: what each job's state must be; where a change failed, either of two.
        forgettable: finished jobs that may have made room.
    """

    def __init__(self, path: Path, disk: Disk, retry: bool) -> None:
        self._path, self._disk, self._retry = path, disk, retry
        self.failures: list[StoreError] = []
        self.sure: dict[str, set[str]] = {}
        self.forgettable: set[str] = set()

    def attempt(self, what: Callable[[], Any]) -> Any:
        """Do it; once it has failed, the disk is mended and it is done again, or the end."""
        try:
            return what()
        except StoreError as error:
            self.failures.append(error)
            if not self._retry:
                raise
            self._disk.mend()
            return what()

    def move(self, id: str, state: str, what: Callable[[], Any]) -> None:
        self.sure[id] = self.sure[id] | {state}
        self.attempt(what)
        self.sure[id] = {state}

    def run(self) -> None:
        store = self.attempt(lambda: JobStore(Database(self._path), limit=5))
        ids = []
        for _ in range(4):
            id = self.attempt(lambda: store.add(JOB)).id
            self.sure[id] = {"queued"}
            ids.append(id)
        first, second, third, last = ids
        for id in (first, second, third):
            self.move(id, "running", lambda id=id: store.start(id))
            for step in range(3):
                shown = Progress(stage="s", step=step, steps=12)
                self.attempt(lambda id=id, shown=shown: store.progress(id, shown))
        self.move(first, "done", lambda: store.done(first, Result(), [ARTEFACT]))
        self.move(second, "failed", lambda: store.failed(second, "No.", "Again."))
        shown = Progress(stage="s", step=12, steps=12)
        self.attempt(lambda: store.cancelling(third, shown))
        self.move(third, "queued", lambda: store.requeue(third))
        self.move(last, "cancelled", lambda: store.cancelled(last))
        self.forgettable = {first, second}
        for _ in range(3):
            self.sure[self.attempt(lambda: store.add(JOB)).id] = {"queued"}


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [FULL, WRITE], ids=["ENOSPC", "EIO"])
def test_any_write_may_fail(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, lasting: bool
) -> None:
    monkeypatch.setattr(store_module, "EVENTS_KEPT", 4)
    monkeypatch.setattr(store_module, "_TRIM_EVERY", 4)
    for at in itertools.count(1):
        path = tmp_path / f"{at}.sqlite3"
        life = Life(path, disk, retry=not lasting)
        disk.fail(at, code, lasting=lasting)
        with suppress(StoreError):
            life.run()
        for error in life.failures:
            assert str(path) in error.message
            assert ("disk is full" if code == FULL else "does not read or write") in error.message
            assert error.remedy
        over = not life.failures and disk.count < at
        disk.mend()
        # As after a crash: what was opened before is not closed.
        store = JobStore(Database(path), limit=5)
        assert store.problems() == []
        found = {status.id: status.state.value for status in store.all()}
        for id, states in life.sure.items():
            assert found.get(id) in states or (id not in found and id in life.forgettable)
        # What was never acknowledged may at most wait, once.
        assert sum(id not in life.sure for id in found) <= (1 if life.failures else 0)
        assert all(found[id] == "queued" for id in found if id not in life.sure)
        assert store.add(OTHER).state is JobState.QUEUED
        if over:
            break
    assert at > 40


def test_a_receipt_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.receipt"
    result = Result(outputs={"image": "/nowhere/o.png"})

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for owner, name in ((json, "dump"), (Path, "replace"), (Path, "open")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(OSError, match="space"):
                Receipt(result, []).write(path)
        assert list(tmp_path.iterdir()) == []
    Receipt(result, []).write(path)
    assert Receipt.read(path) == Receipt(result, [])
    for text in ("", "{", "[]", '{"result": {}}', '{"result": {"x": 1}, "artefacts": []}'):
        path.write_text(text)
        assert Receipt.read(path) is None


class FailingStore(JobStore):
    """Its changes fail as long as it is `broken`."""

    broken = False

    def _change(self, *arguments: Any, **named: Any) -> Any:
        self._refuse()
        return super()._change(*arguments, **named)

    def add(self, *arguments: Any) -> Any:
        self._refuse()
        return super().add(*arguments)

    def _refuse(self) -> None:
        if self.broken:
            raise StoreError("jobs.sqlite3: the disk is full.", "Free some space.")


def test_jobs_wait_for_a_disk_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "RETRY_SECONDS", 0.05)
    echo = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'done': {'outputs': {}}}), flush=True)\n"
    )

    async def check() -> None:
        store = FailingStore()
        queue = Queue(store, (sys.executable, "-c", echo))
        work = asyncio.create_task(queue.run())
        id = queue.submit(JOB).id
        store.broken = True  # before the lane has looked
        await asyncio.sleep(0.3)
        assert store.status(id).state is JobState.QUEUED
        store.broken = False
        while store.status(id).state is JobState.QUEUED:
            await asyncio.sleep(0)
        store.broken = True  # the worker's last word cannot be noted
        await asyncio.sleep(0.5)
        assert store.status(id).state is JobState.RUNNING
        store.broken = False
        async with asyncio.timeout(60):
            while not store.status(id).state.final:
                await asyncio.sleep(0.01)
        assert store.status(id).state is JobState.DONE
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    asyncio.run(check())


def test_a_client_hears_what_is_wrong_with_the_disk(tmp_path: Path) -> None:
    store = FailingStore()

    def nothing(*_: Any) -> Any:
        return None

    app = Service(store, Queue(store), Roots([tmp_path]), nothing, nothing, nothing).app()
    job = PreviewJob(**{name: str(tmp_path / "x.png") for name in ("reference", "input", "out")})

    async def check() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        ) as client:
            first = (await client.post("/v1/jobs", json=job_to_dict(job))).json()
            store.broken = True
            for place in ("/v1/jobs", f"/v1/jobs/{first['id']}/cancel"):
                answer = await client.post(place, json=job_to_dict(job))
                assert answer.status_code == 507
                assert answer.json() == {
                    "error": "jobs.sqlite3: the disk is full.",
                    "remedy": "Free some space.",
                }
            assert (await client.get("/v1/jobs")).json() == [first]

    asyncio.run(check())


def test_the_log_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "MAX_BYTES", 2000)
    logger = logging.getLogger("backend.service.test")
    with log.log_to(tmp_path / "logs") as path:
        for number in range(500):
            logger.info("line %d of many", number)
        logger.warning("and a warning")
    logger.info("not any more")
    files = list((tmp_path / "logs").iterdir())
    assert len(files) == 1 + log.OLDER_FILES
    assert all(0 < file.stat().st_size <= 2000 for file in files)
    assert path.read_text().endswith("and a warning\n")
    assert capsys.readouterr().err == "and a warning\n"
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError), log.log_to(tmp_path / "file"):
        pass
