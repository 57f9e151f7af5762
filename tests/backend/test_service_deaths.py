"""Workers that die: what becomes of their job, and of its neighbours."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest
from queueing import DONE, FINAL, SECONDS, look, until, with_queue, worker
from running import environment

from backend.jobs import (
    JobState,
    JobStatus,
    PreviewJob,
    Progress,
    job_to_dict,
)
from backend.service import lane as lanes
from backend.service.process import WORKER
from backend.service.queue import Queue
from backend.service.records import Records
from backend.service.store import JobStore


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "OUTLIVING", 0.01)


def test_a_worker_that_dies_with_its_last_word_has_finished_its_job(tmp_path: Path) -> None:
    body = (
        "out, receipt = Path(order['job']['out']), Path(order['receipt'])\n"
        "out.write_bytes(b'a picture')\n"
        "made = {'role': 'image', 'path': str(out), 'size': 9, 'sha256': "
        "hashlib.sha256(b'a picture').hexdigest()}\n"
        "said = {'result': {'outputs': {'image': str(out)}}, 'artefacts': [made]}\n"
        "if 'late' in out.name: receipt = receipt.with_suffix('.partial')\n"
        "receipt.write_text(json.dumps(said))\n"
        "if 'changed' in out.name: out.write_bytes(b'another..')\n"
        "os.kill(os.getpid(), 9)"
    )
    names = {"whole": JobState.DONE, "late": JobState.FAILED, "changed": JobState.FAILED}

    async def check(queue: Queue, store: JobStore) -> None:
        for name, state in names.items():
            out = str(tmp_path / f"{name}.png")
            job = PreviewJob(reference="/r.png", input="/i.png", out=out)
            status = await until(store, queue.submit(job).id, *FINAL)
            assert status.state is state, name
            made = [each.path for each in store.artefacts(status.id)]
            assert made == ([out] if state is JobState.DONE else [])

    with Records(tmp_path / "data") as records:
        with_queue(worker(body, "import hashlib"), check, records=records)
        assert not records.receipts()


def test_a_worker_that_was_killed_gets_no_other_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine: its answer to a cancel comes in the moment in which it is killed."""
    monkeypatch.setattr(lanes, "CANCEL_PATIENCE", 0.0)
    answered = tmp_path / "answered"
    body = (
        f"if not order['job']['out'].endswith('0.png'):\n    {DONE}\n    continue\n"
        "shown = {'stage': 's', 'step': 1, 'steps': 2}\n"
        "print(json.dumps({'progress': shown}), flush=True)\n"
        "sys.stdin.readline()\n"
        "print(json.dumps({'cancelled': True}), flush=True)\n"
        f"Path({str(answered)!r}).touch()"
    )

    class Slow(JobStore):
        def cancelling(self, id: str, progress: Progress) -> JobStatus:
            while not answered.exists():
                pass  # the service hears nothing meanwhile
            return super().cancelling(id, progress)

    async def check(queue: Queue, store: JobStore) -> None:
        first, neighbour = (queue.submit(look(n)).id for n in range(2))
        while store.status(first).progress is None:
            await asyncio.sleep(0.01)
        queue.cancel(first)
        assert (await until(store, neighbour, *FINAL)).state is JobState.DONE
        assert store.status(first).state is JobState.CANCELLED

    with_queue(worker(body), check, store=Slow())


def test_a_job_whose_service_ends_with_its_worker_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "OUTLIVING", SECONDS)
    store = JobStore()
    ids: list[str] = []

    async def check(queue: Queue, store: JobStore) -> None:
        ids.append(queue.submit(look(0)).id)
        while not any(lane._crashes for lane in queue._lanes):
            await asyncio.sleep(0.01)

    with_queue(worker("os.kill(os.getpid(), 9)"), check, store=store)
    assert store.status(ids[0]).state is JobState.RUNNING
    assert store.interrupted() == [(ids[0], False)]


def test_a_worker_leaves_it_to_the_service_what_a_signal_to_all_ends() -> None:
    process = subprocess.Popen(
        WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        job = {**job_to_dict(look(0)), "out": "/nowhere/0.txt"}
        for number in (None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not None:
                process.send_signal(number)
            process.stdin.write(json.dumps({"run": "1", "job": job}) + "\n")
            process.stdin.flush()
            assert "error" in json.loads(process.stdout.readline())
        process.stdin.close()
