"""Workers that crash again and again, and one worker for each of several GPUs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from queueing import DONE, FINAL, look, training, until, with_queue, worker

from backend.jobs import (
    JobState,
    RestyleJob,
    TrainJob,
)
from backend.service import devices as gpus
from backend.service import lane as lanes
from backend.service.devices import devices
from backend.service.lane import MOST_CRASHES
from backend.service.queue import Queue
from backend.service.store import JobStore


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "OUTLIVING", 0.01)


def starts(folder: Path) -> str:
    """Notes each start of a worker, as a file."""
    return f"Path({str(folder)!r}, str(os.getpid())).touch()"


def test_a_worker_that_always_crashes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 0.01)
    monkeypatch.setattr(lanes, "LONGEST_BACK_OFF", 0.3)

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(look(n)).id for n in range(12)]
        for id in ids:
            await until(store, id, *FINAL)
        states = [store.status(id) for id in ids]
        assert {each.state for each in states} == {JobState.FAILED}
        assert all("exit code 3" in each.error for each in states[:MOST_CRASHES])
        assert all("5 times in a row" in each.error for each in states[MOST_CRASHES:])
        assert all(each.remedy for each in states)
        assert len(list(tmp_path.iterdir())) == MOST_CRASHES
        # What comes later is tried once, and does not start the same again.
        late = [queue.submit(look(n)).id for n in range(20, 23)]
        for id in late:
            await until(store, id, *FINAL)
        assert len(list(tmp_path.iterdir())) == MOST_CRASHES + 1
        assert "6 times in a row" in store.status(late[-1]).error

    with_queue(worker("sys.exit(3)", starts(tmp_path)), check)


def test_the_pauses_between_crashes_grow_and_end_with_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 1.0)
    monkeypatch.setattr(lanes, "LONGEST_BACK_OFF", 5.0)

    async def check() -> None:
        now = asyncio.get_running_loop().time

        def pause() -> float:
            return round(lane._not_before - now(), 1)

        lane = lanes.Lane(JobStore(), ["preview"], (), 1.0, lambda: None)
        found = []
        for _ in range(4):
            lane._count(crashed=True)
            found.append(pause())
        assert found == [1.0, 2.0, 4.0, 5.0]
        assert not lane.broken
        lane._count(crashed=True)
        assert lane.broken
        lane._count(crashed=False)
        assert not lane.broken
        assert pause() == 0.0

    asyncio.run(check())


def test_a_good_job_between_crashes_starts_the_count_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 0.01)
    body = f"if '3.png' in order['job']['out'] or '7.png' in order['job']['out']: {DONE}\n"

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(look(n)).id for n in range(10)]
        for id in ids:
            await until(store, id, *FINAL)
        good = [n for n, id in enumerate(ids) if store.status(id).state is JobState.DONE]
        assert good == [3, 7]
        assert not any("in a row" in store.status(id).error for id in ids)

    with_queue(worker(body + "else: sys.exit(3)"), check)


def test_a_job_can_be_cancelled_while_its_worker_waits_to_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 1000.0)
    monkeypatch.setattr(lanes, "LONGEST_BACK_OFF", 1000.0)

    async def check(queue: Queue, store: JobStore) -> None:
        first, second = (queue.submit(look(n)).id for n in range(2))
        await until(store, first, JobState.FAILED)
        assert queue.cancel(second).state is JobState.CANCELLED

    with_queue(worker("sys.exit(3)"), check)


def test_cancelling_is_no_crash() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        for n in range(2):
            id = queue.submit(look(n)).id
            await until(store, id, JobState.RUNNING)
            queue.cancel(id)
            await until(store, id, JobState.CANCELLED)
        assert not any(lane._crashes for lane in queue._lanes)

    with_queue(worker("time.sleep(60)"), check)


WHERE = "os.environ.get('CUDA_VISIBLE_DEVICES', 'none')"
TELL = (
    f"open(order['job']['out'] + '.at', 'w').write({WHERE})\n"
    "while not os.path.exists(order['job']['out'] + '.go'): time.sleep(0.01)\n"
    f"print(json.dumps({{'done': {{'outputs': {{'device': {WHERE}}}}}}}), flush=True)"
)


def at(folder: Path, n: int) -> TrainJob:
    return TrainJob(reference="/r.png", out=str(folder / str(n)))


async def begun(folder: Path, n: int) -> str:
    path = folder / f"{n}.at"
    while not path.exists() or not path.read_text():
        await asyncio.sleep(0.01)
    return path.read_text()


def test_each_gpu_has_a_worker(tmp_path: Path) -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(at(tmp_path, n)).id for n in range(4)]
        # It would use what the first one makes: no GPU takes it before.
        follower = queue.submit(
            RestyleJob(style=str(tmp_path / "0"), input="/i.png", out=str(tmp_path / "4"))
        )
        assert {await begun(tmp_path, 0), await begun(tmp_path, 1)} == {"GPU-a", "GPU-b"}
        await asyncio.sleep(0.1)
        assert [store.status(id).state for id in ids[2:]] == [JobState.QUEUED] * 2
        first = await begun(tmp_path, 0)
        (tmp_path / "0.go").touch()
        assert await begun(tmp_path, 2) == first
        assert store.status(ids[1]).state is JobState.RUNNING
        # A cancel reaches the right one.
        queue.cancel(ids[2])
        await until(store, ids[2], JobState.CANCELLED)
        for n in (1, 3, 4):
            (tmp_path / f"{n}.go").touch()
        for id in (ids[1], ids[3], follower.id):
            assert (await until(store, id, *FINAL)).state is JobState.DONE
        order = [store.status(id).result for id in (ids[0], ids[1])]
        assert [each and each.outputs["device"] for each in order] == [
            await begun(tmp_path, n) for n in (0, 1)
        ]

    with_queue(worker(TELL), check, ["GPU-a", "GPU-b"])


@pytest.mark.parametrize(
    ("chosen", "places"), [([], {"none"}), (["GPU-a", "GPU-b"], {"GPU-a", "GPU-b"})]
)
def test_as_many_workers_as_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[str], places: set[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    count = 2 * max(1, len(chosen))

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(at(tmp_path, n)).id for n in range(count + 1)]
        assert {await begun(tmp_path, n) for n in range(count)} == places
        assert store.status(ids[count]).state is JobState.QUEUED
        for n in range(count + 1):
            (tmp_path / f"{n}.go").touch()
        for id in ids:
            assert (await until(store, id, *FINAL)).state is JobState.DONE

    with_queue(worker(TELL), check, chosen, workers=2)


def test_workers_share_the_cores_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_processors", lambda: 16)
    assert gpus.places(1, [], {}) == [{}]
    assert gpus.places(3, [], {}) == [{"OMP_NUM_THREADS": "5"}] * 3
    assert gpus.places(64, [], {}) == [{"OMP_NUM_THREADS": "1"}] * 64
    assert gpus.places(3, [], {"OMP_NUM_THREADS": "2"}) == [{}] * 3
    shared = gpus.places(3, ["GPU-a", "GPU-b"], {})
    assert [each["CUDA_VISIBLE_DEVICES"] for each in shared] == ["GPU-a", "GPU-b", "GPU-a"]
    assert {each["OMP_NUM_THREADS"] for each in shared} == {"5"}


def test_one_gpu_s_crash_leaves_the_other_s_job_alone(tmp_path: Path) -> None:
    body = "open(order['job']['out'] + '.pid', 'w').write(str(os.getpid()))\n" + TELL

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(at(tmp_path, n)).id for n in range(2)]
        for n in range(2):
            await begun(tmp_path, n)
        os.kill(int((tmp_path / "0.pid").read_text()), signal.SIGKILL)
        assert (await until(store, ids[0], *FINAL)).state is JobState.FAILED
        assert store.status(ids[1]).state is JobState.RUNNING
        (tmp_path / "1.go").touch()
        assert (await until(store, ids[1], *FINAL)).state is JobState.DONE

    with_queue(worker(body), check, ["a", "b"])


def test_a_broken_gpu_does_not_fail_what_a_good_one_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BACK_OFF", 0.01)
    body = f"if {WHERE} == 'bad': sys.exit(3)\ntime.sleep(0.4)\n{DONE}"

    async def check(queue: Queue, store: JobStore) -> None:
        ids = [queue.submit(training(n)).id for n in range(9)]
        for id in ids:
            await until(store, id, *FINAL)
        errors = [store.status(id).error for id in ids]
        assert sum("exit code 3" in each for each in errors) == MOST_CRASHES
        assert sum(not each for each in errors) == 9 - MOST_CRASHES

    with_queue(worker(body), check, ["bad", "good"])


def test_without_gpus_the_environment_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    async def check(queue: Queue, store: JobStore) -> None:
        (tmp_path / "0.go").touch()
        id = queue.submit(at(tmp_path, 0)).id
        await until(store, id, *FINAL)
        assert await begun(tmp_path, 0) == "none"
        assert len(queue._lanes) == 2

    with_queue(worker(TELL), check)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("0,1", ["0", "1"]),
        (" GPU-1 , GPU-2,", ["GPU-1", "GPU-2"]),
        ("0", []),
        ("", []),
        ("-1", []),
        ("0,-1", []),
    ],
)
def test_the_user_s_own_choice_of_gpus_counts(value: str, found: list[str]) -> None:
    assert devices({"CUDA_VISIBLE_DEVICES": value}) == found


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for the program")
@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("echo GPU-1; echo GPU-2", ["GPU-1", "GPU-2"]),
        ("echo GPU-1", []),
        ("echo 'No devices were found'; exit 6", []),
        ("echo GPU-1; echo GPU-2; exit 9", []),
    ],
)
def test_the_driver_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, found: list[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert devices({}) == found
    # Where the system counts one at most, nobody is asked.
    (tmp_path / "gpus" / "0").mkdir(parents=True)
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "gpus")
    assert devices({}) == []
