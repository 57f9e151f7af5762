"""Lines of a worker's log: among a job's events, bounded, and without what is nobody's business."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from running import preview_job, running_service

from backend.jobs import JobState, PreviewJob, Progress
from backend.service import database, store
from backend.service.database import Database
from backend.service.events import LogLine
from backend.service.lane import MOST_LINES
from backend.service.queue import Queue
from backend.service.redaction import LONGEST, Redactor
from backend.service.store import JobStore

JOB = PreviewJob(reference="/r.png", input="/i.png", out="/nowhere/o.png")
redact = Redactor(["/data/in", "/my root"], ["the-token"])


@pytest.mark.parametrize(
    "text",
    [
        "stage one: 400 steps",
        "pair 3.1 s, 5/9 windows, and/or 1.5 GB/s",
        "read /data/in/a.png (72 x 72)",
        "'/data/in/my picture.png' is read",
        "/my root/a.png is read",
        "see https://example.org/a/b?c=d",
        "backend/engine.py has no say",
        "",
    ],
)
def test_what_is_harmless_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer the-token",
        "asked with the-token.",
        "/home/jane/secret.png",
        "cannot read '/home/jane doe/secret.png'",
        "/home/jane doe/and more/secret.png is gone",
        "/home/o'brien/secret.png",
        "/data/in/../../home/secret",
        "/data/input/secret",
        "/data/in/a.png:/home/secret",
        "'/data/in/a.png:/home/secret'",
        "/data/in/a.png and /home/secret",
        "/data/in/a=/home/secret",
        "out=/home/secret",
        "(/home/secret)",
        "~/secret",
        "file:///home/secret",
        "C:\\Users\\jane doe\\secret",
        "c:/Users/secret",
        "\\\\server\\share\\secret",
        "at /home/jane\nin \n/home/secret",
        "hf_secretsecret123",
        "https://jane:secret@example.org/x",
        "api_key=secret",
        "password: secret",
        '{"token": "secret"}',
    ],
)
def test_what_is_nobody_s_business_goes(text: str) -> None:
    shown = redact(text)
    for word in ("the-token", "secret", "jane"):
        assert word not in shown, shown


def test_any_text_is_made_one_short_printable_line() -> None:
    chance = random.Random(0)
    signs = "ab /\\:'\"~.=\n\t\0\x1b\ud800é…" + "/home/x"
    for _ in range(300):
        text = "".join(chance.choice(signs) for _ in range(chance.randrange(3000)))
        shown = redact(text)
        assert len(shown) <= LONGEST
        assert shown.isprintable()
        json.dumps(shown).encode("ascii")
    assert len(redact("a/ " * 1_000_000)) == LONGEST


def test_lines_are_exact_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    table = JobStore(Database(path))
    id = table.add(JOB).id
    table.start(id)
    table.progress(id, Progress(stage="s", step=1, steps=2))
    table.log(id, LogLine("warning", "slow"))
    again = JobStore(Database(path))
    again.log(id, LogLine("info", "on"))
    again.cancelled(id)
    again.log(id, LogLine("info", "too late"))
    events = [each.to_dict() for each in again.events(id, 0)]
    assert [each["n"] for each in events] == [1, 2, 3, 4, 5, 6]
    assert events[3]["log"] == {"level": "warning", "text": "slow"}
    assert events[4]["log"] == {"level": "info", "text": "on"}
    assert [each.to_dict() for each in again.events(id, 4)] == events[4:]
    # A line is not taken for progress.
    assert again.status(id).progress == Progress(stage="s", step=1, steps=2)
    assert again.problems() == []


def test_lines_are_trimmed_like_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EVENTS_KEPT", 20)
    monkeypatch.setattr(store, "_TRIM_EVERY", 10)
    table = JobStore()
    id = table.add(JOB).id
    table.start(id)
    for n in range(100):
        table.log(id, LogLine("info", str(n)))
    events = table.events(id, 0)
    assert [each.state for each in events[:2]] == ["queued", "running"]
    assert len(events) < 35
    assert events[-1].log == LogLine("info", "99")


def test_an_older_table_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    table = JobStore(Database(path))
    done, waiting = table.add(JOB).id, table.add(JOB).id
    table.start(done)
    table.progress(done, Progress(stage="s", step=1, steps=2))
    table.cancelled(done)
    before = {id: table.events(id, 0) for id in (done, waiting)}
    table._database.close()
    old = sqlite3.connect(path)  # as the version before lines were kept had made it
    old.executescript(
        "CREATE TABLE e (job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, "
        "n INTEGER NOT NULL, state TEXT, progress TEXT, PRIMARY KEY (job, n), "
        "CHECK ((state IS NULL) != (progress IS NULL))) WITHOUT ROWID;"
        "INSERT INTO e SELECT job, n, state, progress FROM events;"
        "DROP TABLE events; ALTER TABLE e RENAME TO events; PRAGMA user_version = 1;"
    )
    old.close()
    again = JobStore(Database(path))
    assert {id: again.events(id, 0) for id in (done, waiting)} == before
    again.start(waiting)
    again.log(waiting, LogLine("info", "on"))
    assert again.events(waiting, 2)[0].log == LogLine("info", "on")
    assert again.problems() == []
    ((version,),) = again._database.rows("PRAGMA user_version")
    assert version == database.SCHEMA_VERSION
    # Deleting a job still takes its events along.
    with again._database.writing():
        again._database.execute("DELETE FROM jobs WHERE id = ?", done)
    assert again.problems() == []


FLOOD = (
    sys.executable,
    "-c",
    "import json, sys\n"
    "for line in sys.stdin:\n"
    "    for n in range(3000):\n"
    "        print(json.dumps({'log': {'level': 'odd', 'text': f'/etc/{n} ' + 'x' * 2000}}))\n"
    "    for odd in ({}, {'text': None}, {'text': [1]}, {'level': 5}):\n"
    "        print(json.dumps({'log': odd}))\n"
    "    print(json.dumps({'done': {}}), flush=True)\n",
)


def test_a_flood_of_lines_stops_no_job_and_is_cut() -> None:
    async def check() -> None:
        table = JobStore()
        queue = Queue(table, FLOOD)
        work = asyncio.create_task(queue.run())
        id = queue.submit(JOB).id
        async with asyncio.timeout(60):
            while not table.status(id).state.final:
                await asyncio.sleep(0.01)
        assert table.status(id).state is JobState.DONE
        lines = [each.log for each in table.events(id, 0) if each.log]
        assert len(lines) == MOST_LINES
        assert all(len(each.text) <= LONGEST for each in lines)
        assert all("/etc" not in each.text for each in lines)
        assert {each.level for each in lines} == {"info"}
        assert "left out" in lines[-1].text
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    asyncio.run(check())


def test_a_real_worker_tells_of_its_stages(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        id = service.submit(preview_job(tmp_path))
        assert service.wait(id)["state"] == "done"
        events = service.client.get(f"/v1/jobs/{id}?since=0").json()["events"]
        assert [each["n"] for each in events] == list(range(1, len(events) + 1))
        lines = [each["log"]["text"] for each in events if "log" in each]
        assert "preparing reference: 1 steps" in lines
        assert lines[-1].startswith("finished: ")
        assert service.token not in json.dumps(events)
