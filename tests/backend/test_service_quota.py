"""What results may take: refused in words where it is too much, and deleted only when told to."""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import preview_job, running_service

from backend.checks import needed_bytes
from backend.cli import main
from backend.jobs import Job, JobState, PreviewJob, RestyleJob, Result, TrainJob
from backend.service.app import Service
from backend.service.artefacts import measure
from backend.service.info import InfoFile
from backend.service.queue import Queue
from backend.service.quota import Quota, QuotaError
from backend.service.records import Records
from backend.service.security import Roots
from backend.service.store import JobStore

SIZE = 1000


def look(folder: Path, name: str) -> PreviewJob:
    return PreviewJob(reference="/r.png", input="/i.png", out=str(folder / name))


def training(folder: Path, name: str) -> TrainJob:
    return TrainJob(reference="/r.png", out=str(folder / name))


def carry_out(store: JobStore, job: Job) -> str:
    """Do it, with files of SIZE bytes for a picture and two of that for a style."""
    out = Path(job.out)
    if isinstance(job, TrainJob):
        (out / "deep").mkdir(parents=True, exist_ok=True)
        (out / "style.json").write_bytes(b"s" * SIZE)
        (out / "deep" / "weights").write_bytes(b"w" * SIZE)
        result = Result(outputs={"style": str(out)})
    else:
        out.write_bytes(out.name.encode().ljust(SIZE))
        result = Result(outputs={"image": str(out)})
    id = store.add(job).id
    store.start(id)
    store.done(id, result, measure(result))
    return id


def test_what_counts_is_what_is_there(tmp_path: Path) -> None:
    store = JobStore()
    quota = Quota(store)
    assert quota.used() == 0
    carry_out(store, training(tmp_path, "style"))
    for _ in range(2):  # the second writes the same file again
        carry_out(store, look(tmp_path, "a.png"))
    assert quota.used() == 3 * SIZE
    (tmp_path / "a.png").unlink()
    assert quota.used() == 2 * SIZE
    # A training that is not done keeps its checkpoint, whatever becomes of it.
    (tmp_path / "half.partial").mkdir()
    (tmp_path / "half.partial" / "checkpoint").write_bytes(b"c" * SIZE)
    id = store.add(training(tmp_path, "half")).id
    assert quota.used() == 3 * SIZE
    store.cancelled(id)
    assert quota.used() == 3 * SIZE


def test_a_job_is_refused_where_it_might_not_fit(tmp_path: Path) -> None:
    store = JobStore()
    job = look(tmp_path, "b.png")
    one = needed_bytes(job)
    carry_out(store, look(tmp_path, "a.png"))
    Quota(store, one + SIZE).check(job)
    with pytest.raises(QuotaError, match="the quota is") as caught:
        Quota(store, one + SIZE - 1).check(job)
    assert "clean" in caught.value.remedy
    assert "--quota-gb" in caught.value.remedy
    # Beside a running one there must be room for both.
    store.start(store.add(job).id)
    with pytest.raises(QuotaError):
        Quota(store, one + SIZE).check(look(tmp_path, "c.png"))
    Quota(store, 2 * one + SIZE).check(look(tmp_path, "c.png"))


def test_nothing_to_delete_is_not_offered(tmp_path: Path) -> None:
    with pytest.raises(QuotaError) as caught:
        Quota(JobStore(), 5).check(look(tmp_path, "a.png"))
    assert caught.value.remedy.startswith("Raise")


WORKER = (
    sys.executable,
    "-c",
    "import json, sys\n"
    "for line in sys.stdin:\n"
    "    job = json.loads(line)['job']\n"
    "    open(job['out'], 'wb').write(b'x' * 1000)\n"
    "    artefact = dict(role='image', path=job['out'], size=1000, sha256='0')\n"
    "    result = dict(outputs=dict(image=job['out']))\n"
    "    print(json.dumps({'done': result, 'artefacts': [artefact]}), flush=True)\n",
)


def test_jobs_that_waited_are_refused_when_their_turn_comes(tmp_path: Path) -> None:
    """All were taken while there was room; each leaves less of it."""

    async def check() -> None:
        store = JobStore()
        limit = needed_bytes(look(tmp_path, "x.png")) + SIZE
        queue = Queue(store, WORKER, quota=Quota(store, limit))
        ids = [queue.submit(look(tmp_path, f"{n}.png"), key=f"k{n}").id for n in range(4)]
        work = asyncio.create_task(queue.run())
        async with asyncio.timeout(30):
            while not all(store.status(id).state.final for id in ids):
                await asyncio.sleep(0.01)
        states = [store.status(id).state for id in ids]
        assert states == [JobState.DONE] * 2 + [JobState.FAILED] * 2
        assert "quota" in store.status(ids[3]).error
        assert store.status(ids[3]).remedy
        with pytest.raises(QuotaError):
            queue.submit(look(tmp_path, "new.png"))
        # What was taken before is not refused when it is asked for again.
        assert queue.submit(look(tmp_path, "0.png"), key="k0").state is JobState.DONE
        (tmp_path / "0.png").unlink()
        assert queue.submit(look(tmp_path, "new.png")).state is JobState.QUEUED
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    asyncio.run(check())


def test_clients_are_told_in_words(tmp_path: Path) -> None:
    async def check() -> None:
        store = JobStore()
        quota = Quota(store, SIZE)

        def no(*_: Any) -> Any:
            return False

        app = Service(
            store, Queue(store, quota=quota), Roots([tmp_path]), no, no, no, quota=quota
        ).app()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://x"
        ) as client:
            job = {name: str(tmp_path / name) for name in ("reference", "input", "out")}
            answer = await client.post("/v1/jobs", json={"kind": "preview", **job})
            assert answer.status_code == 507
            assert "quota is 0 MB" in answer.json()["error"]
            assert "--quota-gb" in answer.json()["remedy"]
            carry_out(store, look(tmp_path, "a.png"))
            assert (await client.get("/v1/storage")).json() == {"used": SIZE, "quota": SIZE}
            assert (await client.get("/v1/jobs")).json()[0]["state"] == "done"

    asyncio.run(check())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Jobs of a service that has ended: three pictures and a style, the oldest first."""
    with Records(tmp_path / "data") as records:
        store = JobStore(records.database)
        for name in ("old.png", "changed.png", "used.png"):
            carry_out(store, look(tmp_path, name))
        carry_out(store, training(tmp_path, "style"))
        carry_out(store, look(tmp_path, "again.png"))
        carry_out(store, look(tmp_path, "again.png"))
        (tmp_path / "changed.png").write_bytes(b"X" * SIZE)  # of the same size
        store.add(RestyleJob(style="/s", input=str(tmp_path / "used.png"), out="/o.png"))
        (tmp_path / "style" / "mine.txt").write_text("a note")
    return tmp_path / "data"


def clean(data: Path, keep: float, *options: str) -> int:
    return main(["clean", "--data", str(data), "--keep-gb", str(keep), *options])


def names(data: Path) -> set[str]:
    return {each.name for each in data.parent.glob("*.png")}


def test_only_the_oldest_go_and_only_as_many_as_need_to(data: Path) -> None:
    assert clean(data, 6000e-9, "--yes") == 0
    assert names(data) == {"old.png", "changed.png", "used.png", "again.png"}
    assert clean(data, 5999e-9, "--yes") == 0
    assert names(data) == {"changed.png", "used.png", "again.png"}


def test_what_was_changed_or_is_needed_stays(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean(data, 0.0, "--yes") == 0
    assert names(data) == {"changed.png", "used.png"}
    assert (data.parent / "style" / "style.json").is_file()
    assert "--styles would" in capsys.readouterr().out
    assert clean(data, 0.0, "--yes", "--styles") == 0
    # The folder holds what no job has made.
    assert [each.name for each in (data.parent / "style").rglob("*")] == ["mine.txt"]
    assert "what may go has gone" in capsys.readouterr().out


def test_a_whole_style_goes_with_its_folder(data: Path) -> None:
    (data.parent / "style" / "mine.txt").unlink()
    assert clean(data, 0.0, "--yes", "--styles") == 0
    assert not (data.parent / "style").exists()


def test_nothing_goes_without_asking(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(data)
    assert clean(data, 0.0) == 1
    assert "Give --yes" in capsys.readouterr().err
    for answer in ("n\n", "", "perhaps\n"):
        terminal = io.StringIO(answer)
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", terminal)
        assert clean(data, 0.0) == 1
    shown = capsys.readouterr()
    assert "old.png" in shown.out
    assert "nothing was deleted" in shown.err
    assert names(data) == before


def test_nothing_goes_while_a_service_runs(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backend.service.info.PATIENCE", 0.0)
    with InfoFile(data):
        assert clean(data, 0.0, "--yes") == 1
    assert "stop it first" in capsys.readouterr().err
    assert "old.png" in names(data)


@pytest.mark.parametrize("wrong", ["-1", "nan", "inf", "much", "1e300", ""])
def test_a_wrong_number_is_no_quota(tmp_path: Path, wrong: str) -> None:
    for command in (["serve", "--root", str(tmp_path), f"--quota-gb={wrong}"],):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2


def test_a_folder_without_jobs_is_left_alone(tmp_path: Path) -> None:
    assert clean(tmp_path / "none", 0.0, "--yes") == 1
    assert not (tmp_path / "none").exists()


def test_a_real_service_keeps_to_its_quota(tmp_path: Path) -> None:
    with running_service(tmp_path, options=("--quota-gb", "0.2")) as service:
        answer = service.client.post("/v1/jobs", json=preview_job(tmp_path))
        assert answer.status_code == 507
        assert "quota is 200 MB" in answer.json()["error"]
        assert service.client.get("/v1/storage").json()["quota"] == 200_000_000
