"""The job table: every change stays, a finished job stays as it is, an older file is understood."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from queueing import look

from backend.errors import InputError, ResourceError
from backend.jobs import JOB_TYPES, JobState, PreviewJob, Progress, Result, TrainJob
from backend.service import store as store_module
from backend.service.artefacts import Artefact, measure
from backend.service.database import SCHEMA_VERSION, Database, StoreError
from backend.service.events import LogLine
from backend.service.receipts import Receipt
from backend.service.records import Records
from backend.service.recovery import recover
from backend.service.store import JobStore

JOB = PreviewJob(reference="/r.png", input="/i.png", out="/nowhere/o.png")
KINDS = set(JOB_TYPES)


def progress(step: int) -> Progress:
    return Progress(stage="s", step=step, steps=10_000)


def reopened(path: Path) -> JobStore:
    return JobStore(Database(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


def test_everything_is_there_after_a_restart(path: Path, tmp_path: Path) -> None:
    store = reopened(path)
    made = tmp_path / "o.png"
    made.write_bytes(b"picture")
    finished, failed, running, waiting = (store.add(JOB, owner=7) for _ in range(4))
    store.start(finished.id)
    store.progress(finished.id, progress(1))
    result = Result(outputs={"image": str(made)}, seconds={"s": 0.25})
    done = store.done(finished.id, result, measure(result))
    store.start(failed.id)
    store.failed(failed.id, "No.", "Try again.")
    store.start(running.id)
    again = reopened(path)  # the first one was not closed: as after a crash
    assert again.all() == store.all()
    assert again.status(finished.id) == done
    assert done.result == result
    assert done.progress == progress(1)
    (artefact,) = again.artefacts(finished.id)
    assert (artefact.path, artefact.size) == (str(made), 7)
    assert artefact.intact
    assert again.interrupted() == [(running.id, False)]
    assert again.owners() == [7]
    assert again.unfinished(7) == [running.id, waiting.id]
    assert again.job(waiting.id) == JOB
    assert again.problems() == []


def test_events_are_exact_after_any_one_of_them(path: Path) -> None:
    store = reopened(path)
    id = store.add(JOB).id
    store.start(id)
    for step in range(3):
        store.progress(id, progress(step))
    store.requeue(id)
    again = reopened(path)
    again.start(id)
    again.progress(id, progress(2))
    again.cancelled(id)
    events = again.events(id, 0)
    assert [each.n for each in events] == list(range(1, len(events) + 1))
    states = [each.state for each in events if each.state]
    assert states == ["queued", "running", "queued", "running", "cancelled"]
    assert [each.progress.step for each in events if each.progress] == [0, 1, 2, 2]
    for since in range(len(events) + 1):
        assert again.events(id, since) == events[since:]


def test_only_the_newest_progress_of_a_long_job_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "EVENTS_KEPT", 50)
    monkeypatch.setattr(store_module, "_TRIM_EVERY", 10)
    store = JobStore()
    id = store.add(JOB).id
    store.start(id)
    for step in range(200):
        store.progress(id, progress(step))
    events = store.events(id, 0)
    assert 50 <= len(events) < 70
    assert [each.state for each in events[:2]] == ["queued", "running"]
    assert events[-1].n == 202
    assert store.status(id).progress == progress(199)


def test_the_oldest_finished_jobs_make_room(path: Path) -> None:
    store = JobStore(Database(path), limit=2)
    first, second = store.add(JOB), store.add(JOB)
    with pytest.raises(ResourceError):
        store.add(JOB)
    store.cancelled(second.id)
    third = store.add(JOB)
    assert [status.id for status in store.all()] == [first.id, third.id]
    with pytest.raises(InputError):
        store.status(second.id)
    assert store.events(second.id, 0) == []
    assert store.problems() == []


def test_a_finished_job_does_not_change(path: Path) -> None:
    store = reopened(path)
    id = store.add(JOB).id
    store.cancelled(id)
    store.start(id)
    store.done(id, Result(), [])
    store.progress(id, progress(1))
    store.cancelling(id, progress(1))
    assert store.status(id).state is JobState.CANCELLED
    assert store.next_queued(KINDS) is None
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="does not change"):
        connection.execute("UPDATE jobs SET state = 'queued'")
    connection.close()


def test_no_job_can_be_started_twice(path: Path) -> None:
    store = reopened(path)
    id = store.add(JOB).id
    store.start(id)
    with pytest.raises(AssertionError):
        store.start(id)
    assert store.next_queued(KINDS) is None


def test_a_request_sent_twice_makes_one_job(path: Path) -> None:
    first = reopened(path).add(JOB, key="mine")
    store = reopened(path)
    assert store.add(JOB, key="mine") == first
    assert store.add(JOB, key="other").id != first.id
    with pytest.raises(InputError, match="mine"):
        store.add(TrainJob(reference="/r.png", out="/s"), key="mine")
    store.cancelled(first.id)
    assert store.add(JOB, key="mine").state is JobState.CANCELLED
    assert len(store.all()) == 2


def test_who_asks_again_after_a_crash_gets_the_job_that_waits(path: Path) -> None:
    before = reopened(path).add(JOB, owner=7)
    store = reopened(path)
    assert store.add(JOB, owner=8).id == before.id
    assert store.unfinished(8) == [before.id]
    # Whoever asks once more wants it once more.
    assert store.add(JOB, owner=8).id != before.id


def test_names_that_are_no_text_are_kept(path: Path) -> None:
    store = reopened(path)
    done, failed = store.add(JOB), store.add(JOB)
    for id in (done.id, failed.id):
        store.start(id)
        store.progress(id, Progress(stage="s", step=0, steps=1, message="\ud800"))
    artefact = Artefact("image", "/tmp/\udcff.png", 1, "00")
    store.done(done.id, Result(outputs={"image": artefact.path}), [artefact])
    store.failed(failed.id, "/tmp/\udcff.png: no.", "\ud800")
    again = reopened(path)
    assert again.artefacts(done.id) == [artefact]
    assert again.status(done.id).result == Result(outputs={"image": artefact.path})
    assert again.status(failed.id).error == "/tmp/\\udcff.png: no."
    assert again.problems() == []


def test_a_newer_versions_table_is_left_alone(path: Path) -> None:
    reopened(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="newer") as caught:
        Database(path)
    assert "Update" in caught.value.remedy
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", [0, 4096])
def test_a_damaged_table_is_told_from_a_good_one(path: Path, at: int) -> None:
    store = reopened(path)
    for _ in range(50):
        store.add(JOB)
    store._database.close()
    raw = bytearray(path.read_bytes())
    raw[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="damaged") as caught:
        Database(path)
    assert "Move it away" in caught.value.remedy


def test_a_job_that_this_version_does_not_know_fails_alone(path: Path) -> None:
    store = reopened(path)
    strange, good = store.add(JOB), store.add(JOB)
    store._database.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jobs SET job = replace(job, 'seed', 'sown') WHERE seq = 1")
    connection.commit()
    connection.close()
    again = reopened(path)
    assert again.status(strange.id).state is JobState.FAILED
    assert "sown" in again.status(strange.id).error
    assert again.next_queued(KINDS) == good.id


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "data")


def test_interrupted_jobs_are_settled(records: Records, tmp_path: Path) -> None:
    results = {}
    for name in ("finished", "touched"):
        path = tmp_path / f"{name}.png"
        path.write_bytes(b"picture")
        results[name] = Result(outputs={"image": str(path)})
    with records:
        store = JobStore(records.database)
        ids = {}
        for name in ("finished", "touched", "cancelled", "half", "waiting"):
            job = PreviewJob(reference="/r.png", input="/i.png", out=str(tmp_path / f"{name}.png"))
            ids[name] = store.add(job).id
            if name != "waiting":
                store.start(ids[name])
        for name, result in results.items():
            Receipt(result, measure(result)).write(records.receipt(ids[name]))
        (tmp_path / "touched.png").write_bytes(b"pictur_")  # of the same size
        store.cancelling(ids["cancelled"], progress(1))
        (tmp_path / ".half.png.abcd1234").write_bytes(b"half a picture")
        records.receipt("00").write_text("{")
    with records:
        store = JobStore(records.database)
        recover(store, records)
        states = {name: store.status(id).state for name, id in ids.items()}
        assert states == {
            "finished": "done",
            "touched": "queued",
            "cancelled": "cancelled",
            "half": "queued",
            "waiting": "queued",
        }
        assert store.status(ids["finished"]).result == results["finished"]
        assert all(each.intact for each in store.artefacts(ids["finished"]))
        # In the old order, before whatever had waited behind them.
        assert store.next_queued(KINDS) == ids["touched"]
        assert store.problems() == []
        assert not records.receipts()
    assert not list(tmp_path.glob(".half*"))


def test_the_files_of_a_style_are_all_measured(tmp_path: Path) -> None:
    style = tmp_path / "style"
    (style / "deep").mkdir(parents=True)
    for name in ("style.json", "deep/a.bin"):
        (style / name).write_text(name)
    found = measure(Result(outputs={"style": str(style), "preview": str(style / "style.json")}))
    assert [Path(each.path).name for each in found] == ["a.bin", "style.json"]
    assert {each.role for each in found} == {"style"}
    with pytest.raises(OSError, match="none"):
        measure(Result(outputs={"image": str(tmp_path / "none.png")}))


def test_workers_of_an_earlier_service_are_waited_for(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.service.records.PATIENCE", 0.0)
    with records:
        with pytest.raises(InputError, match="worker"), Records(records.folder.parent):
            pass
        store = JobStore(records.database)
        assert store.add(JOB)  # the one that has it is untouched
    with Records(records.folder.parent):
        pass


def test_all_jobs_are_one_question_to_the_table(path: Path) -> None:
    database = Database(path)
    store = JobStore(database)
    ids = [store.add(look(n)).id for n in range(5)]
    for id in ids[:3]:
        store.start(id)
        for step in (1, 2):
            store.progress(id, progress(step))
        store.log(id, LogLine("info", "after the last progress"))
    asked: list[str] = []
    database._connection.set_trace_callback(asked.append)
    found = store.all()
    database._connection.set_trace_callback(None)
    assert len(asked) == 1
    assert [each.id for each in found] == ids
    assert [each.progress and each.progress.step for each in found] == [2, 2, 2, None, None]
    assert found == [store.status(id) for id in ids]
    database.close()
