"""Workers that die: what becomes of their job, and of its neighbours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import stand_in
from queueing import DONE, FINAL, SECONDS, look, until, with_queue, worker
from running import ROOT, environment

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
            said = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert said[0] == {"begun": True}
            assert "error" in said[1]
        process.stdin.close()


def test_a_job_whose_worker_is_killed_before_it_begins_is_done_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real worker, held up by the system, is killed with the order in its pipe."""
    monkeypatch.setattr(lanes, "BACK_OFF", 0.01)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = (sys.executable, str(Path(stand_in.__file__)), "worker")

    async def check(queue: Queue, store: JobStore) -> None:
        jobs = [
            PreviewJob(reference="/r.png", input="/i.png", out=str(tmp_path / f"{n}.png"))
            for n in range(3)
        ]
        await until(store, queue.submit(jobs[0]).id, *FINAL)
        (pid,) = (lane._worker._process.pid for lane in queue._lanes if lane._worker is not None)
        os.kill(pid, signal.SIGSTOP)
        ids = [queue.submit(job).id for job in jobs[1:]]
        await until(store, ids[0], JobState.RUNNING)
        os.kill(pid, signal.SIGKILL)
        for id in ids:
            assert (await until(store, id, *FINAL)).state is JobState.DONE, store.status(id)
        states = [each.state for each in store.events(ids[0], 0) if each.state]
        assert [str(each) for each in states] == ["queued", "running"] * 2 + ["done"]

    with_queue(command, check)
    assert (tmp_path / "completed.log").read_text().split() == ["0.png", "1.png", "2.png"]


def test_a_job_that_no_worker_lives_to_begin_fails_in_words_and_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 0.01)
    body = f"if '/1.' in order['job']['out']: os.kill(os.getpid(), 9)\n{DONE}"

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(look(n)).id for n in range(3)]
        for id in ids:
            await until(store, id, *FINAL)
        assert [store.status(id).state.value for id in ids] == ["done", "failed", "done"]
        assert "before they began this job (signal SIGKILL)" in store.status(ids[1]).error
        assert store.status(ids[1]).remedy

    with_queue(worker(body, begins=False), check)


def test_workers_that_never_live_to_begin_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 0.01)
    monkeypatch.setattr(lanes, "LONGEST_BACK_OFF", 0.3)
    program = f"import os, pathlib; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()"

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(look(n)).id for n in range(6)]
        for id in ids:
            assert (await until(store, id, *FINAL)).state is JobState.FAILED
        assert len(list(tmp_path.iterdir())) == lanes.MOST_CRASHES
        assert "5 times in a row" in store.status(ids[-1]).error

    with_queue((sys.executable, "-c", program), check)


def test_a_cancel_before_the_job_has_begun_stays_when_the_worker_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "OUTLIVING", 0.3)

    async def check(queue: Queue, store: JobStore) -> None:
        id = queue.submit(look(0)).id
        while not any(lane._crashes for lane in queue._lanes):
            await asyncio.sleep(0.01)
        assert store.status(id).state is JobState.RUNNING
        queue.cancel(id)
        assert (await until(store, id, *FINAL)).state is JobState.CANCELLED

    with_queue(worker("os.kill(os.getpid(), 9)", begins=False), check)
