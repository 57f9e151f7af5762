"""The queue against workers that misbehave, and the order of jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from queueing import DONE, FINAL, PROGRESS, look, training, until, with_queue, worker
from running import alive

from backend.jobs import JOB_TYPES, JobState, PreviewJob, RestyleJob, Result
from backend.service.lane import CANCEL_PATIENCE
from backend.service.queue import Queue
from backend.service.store import JobStore

JOB, TRAINING = look(0), training(0)


def test_a_worker_deaf_to_cancel_is_ended_and_replaced() -> None:
    assert CANCEL_PATIENCE < 2.0
    deaf = worker(f"{PROGRESS}\ntime.sleep(60)")

    async def check(queue: Queue, store: JobStore) -> None:
        first, second = queue.submit(JOB), queue.submit(JOB)
        for job in (first, second):
            await until(store, job.id, JobState.RUNNING, progress=True)
            shown = queue.cancel(job.id)
            assert shown.progress is not None
            assert shown.progress.message == "cancelling"
            queue.cancel(job.id)
            await until(store, job.id, JobState.CANCELLED)

    with_queue(deaf, check)


def test_a_job_cancelled_while_its_worker_starts_is_cancelled() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        job = queue.submit(JOB)
        while store.status(job.id).state is JobState.QUEUED:
            await asyncio.sleep(0)
        queue.cancel(job.id)
        assert (await until(store, job.id, *FINAL)).state is JobState.CANCELLED

    with_queue(worker("time.sleep(60)"), check)


def test_a_worker_that_dies_fails_its_job_alone() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        jobs = [queue.submit(JOB) for _ in range(2)]
        for job in jobs:
            status = await until(store, job.id, JobState.FAILED)
            assert "exit code 7" in status.error
            assert status.remedy

    with_queue(worker(f"{PROGRESS}\nsys.exit(7)"), check)


@pytest.mark.parametrize(
    "body",
    ['print("hello from a library")', 'print("[1]")', 'print("{}")', 'sys.stdout.write("{")'],
)
def test_a_worker_that_talks_nonsense_fails_its_job(body: str) -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        assert (await until(store, queue.submit(JOB).id, JobState.FAILED)).error

    with_queue(worker(f"{body}\nsys.stdout.flush()\nsys.exit(0)"), check)


def test_a_job_that_finishes_while_it_is_cancelled_stays_done() -> None:
    quick = worker(f"{PROGRESS}\ntime.sleep(0.3)\n{DONE}")

    async def check(queue: Queue, store: JobStore) -> None:
        job = queue.submit(JOB)
        await until(store, job.id, JobState.RUNNING, progress=True)
        queue.cancel(job.id)
        await until(store, job.id, JobState.DONE)
        # The order to end that worker does not hit the next job.
        follower = queue.submit(JOB)
        assert (await until(store, follower.id, *FINAL)).state is JobState.DONE

    with_queue(quick, check)


def test_jobs_run_one_by_one_in_their_order() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        jobs = [queue.submit(JOB) for _ in range(4)]
        assert queue.cancel(jobs[2].id).state is JobState.CANCELLED
        for job in (jobs[0], jobs[1], jobs[3]):
            await until(store, job.id, JobState.DONE)
            later = [each for each in store.all() if each.id > job.id]
            assert sum(each.state is JobState.RUNNING for each in later) <= 1
        assert store.status(jobs[2].id).state is JobState.CANCELLED

    with_queue(worker(DONE), check)


HELD = worker(
    f"{PROGRESS}\ntime.sleep(60 if order['job']['kind'] == 'train' else 0)\n{DONE}",
)


def test_a_first_look_does_not_wait_for_a_training() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        training, waiting = queue.submit(TRAINING), queue.submit(TRAINING)
        await until(store, training.id, JobState.RUNNING, progress=True)
        for _ in range(2):
            await until(store, queue.submit(JOB).id, JobState.DONE)
        assert store.status(training.id).state is JobState.RUNNING
        assert store.status(waiting.id).state is JobState.QUEUED
        # A cancel reaches the lane that runs the job.
        queue.cancel(training.id)
        await until(store, training.id, JobState.CANCELLED)
        await until(store, waiting.id, JobState.RUNNING)

    with_queue(HELD, check)


def test_what_a_client_waited_for_is_cancelled_when_it_leaves() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        theirs = [queue.submit(TRAINING, owner=7) for _ in range(2)]
        ours = queue.submit(TRAINING, owner=8)
        await until(store, theirs[0].id, JobState.RUNNING, progress=True)
        queue.abandon(7)
        for job in theirs:
            await until(store, job.id, JobState.CANCELLED)
        await until(store, ours.id, JobState.RUNNING)

    with_queue(HELD, check)


def test_jobs_that_share_files_keep_their_order() -> None:
    store, kinds = JobStore(), set(JOB_TYPES)
    training = store.add(TRAINING)
    assert store.next_queued(kinds) == training.id
    store.start(training.id)
    inside = PreviewJob(reference="/nowhere/style-0/reference.png", input="/i.png", out="/o.png")
    follower = RestyleJob(style="/s", input="/o.png", out="/f.png")
    spoiler = PreviewJob(reference="/p.png", input="/f.png", out="/o.png")
    waiting = [store.add(job).id for job in (inside, follower, spoiler)]
    assert store.next_queued(kinds) is None
    free = store.add(PreviewJob(reference="/p.png", input="/i.png", out="/free.png"))
    assert store.next_queued(kinds) == free.id
    store.start(free.id)
    before = training.id
    for id in waiting:
        store.done(before, Result(), [])
        assert store.next_queued(kinds) == id
        store.start(id)
        assert store.next_queued(kinds) is None
        before = id


def test_an_idle_worker_gives_its_memory_back() -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        pids = []
        for _ in range(2):
            result = (await until(store, queue.submit(JOB).id, JobState.DONE)).result
            assert result is not None
            pids.append(int(result.outputs["pid"]))
            while alive(pids[-1]):
                await asyncio.sleep(0.01)
        assert pids[0] != pids[1]

    with_queue(worker(DONE), check, idle=0.2)


def test_a_worker_that_cannot_start_fails_the_job(tmp_path: Path) -> None:
    async def check(queue: Queue, store: JobStore) -> None:
        status = await until(store, queue.submit(JOB).id, JobState.FAILED)
        assert "cannot be started" in status.error

    with_queue((str(tmp_path / "no-python"),), check)
