"""Client, process and session against a stand-in service in a real process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blender_addon.link import session as session_module
from blender_addon.link.client import Client, Endpoint, LinkError, UnreachableError, check_protocol
from blender_addon.link.jobs import JobState, Result, TrainJob
from blender_addon.link.locate import Backend
from blender_addon.link.process import BackendProcess
from blender_addon.link.session import Outcome, Phase, Session, Task

FAKE = Path(__file__).with_name("fake_service.py")
PATIENCE = 30.0


def until(look: Callable[[], object]) -> object:
    """Poll as the add-on's timer does; the bound only ends a broken test."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("nothing came")


class FakeBackend(Backend):
    def command(self, roots: list[Path], parent: int, data: Path | None = None) -> list[str]:
        return [sys.executable, str(FAKE), "serve"]


BACKEND = FakeBackend(Path(sys.executable), None, "a test")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[BackendProcess]:
    started = BackendProcess([sys.executable, str(FAKE)], log=tmp_path / "logs" / "backend.log")
    yield started
    started.stop()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session()
    yield made
    made.stop()


def start(session: Session, folder: Path) -> None:
    session.start(BACKEND, roots=[folder], parent=os.getpid(), log=folder / "backend.log")


def training(folder: Path, name: str = "style") -> TrainJob:
    photo = folder / "photo.png"
    photo.write_bytes(b"photo")
    return TrainJob(reference=str(photo), out=str(folder / name))


def last(session: Session) -> Outcome:
    outcomes = until(session.step)
    assert isinstance(outcomes, list)
    return outcomes[-1]


def assert_cancelled(session: Session, task: Task, folder: Path) -> None:
    outcome = last(session)
    assert (outcome.task, outcome.result, outcome.error) == (task, None, None)
    assert not (folder / "style").exists()


def test_a_job_goes_from_queue_to_result(process: BackendProcess, tmp_path: Path) -> None:
    endpoint = until(process.announced)
    assert isinstance(endpoint, Endpoint)
    client = Client(endpoint)
    assert client.hello().profiles == ("starter",)
    job_id = client.submit(training(tmp_path)).id
    until(lambda: client.status(job_id).state is JobState.DONE)
    status = client.status(job_id)
    assert status.result is not None
    assert status.result.outputs == {"style": str(tmp_path / "style")}
    assert status.progress is not None
    assert (status.progress.step, status.progress.steps) == (3, 3)


def test_the_token_stays_out_of_sight_and_is_needed(process: BackendProcess) -> None:
    endpoint = until(process.announced)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.token not in repr(endpoint)
    with pytest.raises(LinkError, match="token"):
        Client(Endpoint(endpoint.url, "wrong")).hello()


def test_refusals_keep_the_backends_words(process: BackendProcess, tmp_path: Path) -> None:
    client = Client(until(process.announced))  # type: ignore[arg-type]
    with pytest.raises(LinkError) as refused:
        client.submit(training(tmp_path, "refuse"))
    assert (refused.value.message, refused.value.remedy) == ("Outside the roots.", "Use a root.")
    with pytest.raises(LinkError, match="no such job"):
        client.status("../hello")


def test_proxies_are_not_used(process: BackendProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Client(until(process.announced)).hello().version == "9.9"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["http://192.168.1.7:80", "https://127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:x", ""]
)
def test_only_this_computer_is_talked_to(url: str) -> None:
    with pytest.raises(LinkError, match="not the address"):
        Endpoint(url, "token")


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        Client(Endpoint("http://127.0.0.1:9", "token")).hello()


def test_the_handshake_says_which_side_to_update() -> None:
    check_protocol(1)
    with pytest.raises(LinkError, match="Update the Stitchwork extension"):
        check_protocol(2, "3.0")
    for old in (0, None, "1"):
        with pytest.raises(LinkError, match="Update the backend"):
            check_protocol(old)


def test_a_newer_backend_is_refused_with_a_remedy(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PROTOCOL", "2")
    start(session, tmp_path)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    outcome = last(session)
    assert outcome.error is not None
    assert "Update the Stitchwork extension" in outcome.error.remedy
    assert session.phase is Phase.FAILED


def test_a_backend_that_ends_at_once_quotes_its_log(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SILENT", "1")
    start(session, tmp_path)
    until(lambda: session.step() or session.failure)
    assert session.failure is not None
    assert "no weights found" in session.failure.message
    assert str(tmp_path / "backend.log") in session.failure.remedy


def test_other_words_than_an_address_are_not_trusted(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WORDS", "Welcome!")
    start(session, tmp_path)
    until(lambda: session.step() or session.failure)
    assert session.failure is not None
    assert "Welcome!" in session.failure.message


def test_a_missing_program_is_named(session: Session, tmp_path: Path) -> None:
    nowhere = Backend(tmp_path / "python", None, "a test")
    with pytest.raises(LinkError, match="python"):
        session.start(nowhere, roots=[], parent=1, log=tmp_path / "log")
    assert session.phase is Phase.OFF


def test_tasks_given_while_it_starts_are_sent_in_order(session: Session, tmp_path: Path) -> None:
    start(session, tmp_path)
    assert session.phase is Phase.STARTING
    said: list[Result] = []
    for name in ("first", "second"):
        job = training(tmp_path, name)
        session.submit(Task(name, job, lambda result: str(said.append(result))))
    ended: list[str] = []

    def look() -> bool:
        for outcome in session.step():
            assert outcome.result is not None
            ended.append(outcome.result.outputs["style"])
        return len(ended) == 2

    until(look)
    assert sorted(ended) == [str(tmp_path / "first"), str(tmp_path / "second")]
    assert said == []  # finishing is for whoever asked
    assert not session.busy
    assert session.phase is Phase.READY


def test_cancel_ends_only_its_own_task(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEPS", "20")
    monkeypatch.setenv("FAKE_SECONDS", "0.02")
    start(session, tmp_path)
    kept, dropped = (
        Task(name, training(tmp_path, name), lambda result: "") for name in ("kept", "dropped")
    )
    session.submit(kept)
    session.submit(dropped)
    until(lambda: session.step() or dropped.id)
    session.cancel(dropped)
    first, second = last(session), last(session)
    assert (first.task, first.result, first.error) == (dropped, None, None)
    assert second.task is kept
    assert second.result is not None
    assert not (tmp_path / "dropped").exists()


def test_a_task_can_be_cancelled_before_the_backend_is_up(session: Session, tmp_path: Path) -> None:
    start(session, tmp_path)
    task = Task("early", training(tmp_path), lambda result: "")
    session.submit(task)
    session.cancel(task)
    assert_cancelled(session, task, tmp_path)


def test_a_failed_job_tells_why_and_the_backend_stays(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "photo.png: not an embroidery.")
    start(session, tmp_path)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    error = last(session).error
    assert error is not None
    assert (error.message, error.remedy) == ("photo.png: not an embroidery.", "Try another.")
    assert session.phase is Phase.READY


def test_a_backend_that_dies_again_and_again_is_left_off(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BACK_OFF_SECONDS", 0.05)
    monkeypatch.setenv("FAKE_CRASH", "1")
    start(session, tmp_path)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    error = last(session).error
    assert error is not None
    assert f"{session_module.RESTARTS + 1} times in a row" in error.message
    assert str(tmp_path / "backend.log") in error.remedy
    log = (tmp_path / "backend.log").read_text()
    assert log.count("out of memory") == session_module.RESTARTS + 1
    assert session.phase is Phase.FAILED
    assert not session.tasks
    assert session.step() == []  # nor is it started by and by
    assert session.phase is Phase.FAILED
    monkeypatch.delenv("FAKE_CRASH")
    start(session, tmp_path)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    assert last(session).result is not None


def crash_once(session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task whose backend has just ended in the midst of it."""
    monkeypatch.setenv("FAKE_CRASH", "1")
    start(session, folder)
    task = Task("Training", training(folder), lambda result: "")
    session.submit(task)
    until(lambda: session.step() or session.restarts)
    monkeypatch.delenv("FAKE_CRASH")
    return task


def test_a_backend_that_dies_once_is_started_again_and_its_task_goes_on(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BACK_OFF_SECONDS", 0.05)
    task = crash_once(session, tmp_path, monkeypatch)
    assert (session.phase, session.restarts) == (Phase.STARTING, 1)
    assert task.waiting
    late = Task("Later", training(tmp_path, "later"), lambda result: "")
    session.submit(late)  # meanwhile more may be asked for
    ended: list[Outcome] = []
    until(lambda: ended.extend(session.step()) or len(ended) == 2)
    assert {each.task.title for each in ended} == {"Training", "Later"}
    assert all(each.result is not None for each in ended)
    assert session.restarts == 0
    assert session.phase is Phase.READY


def test_a_task_cancelled_while_the_backend_is_down_is_not_begun_again(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BACK_OFF_SECONDS", 0.05)
    task = crash_once(session, tmp_path, monkeypatch)
    session.cancel(task)
    assert_cancelled(session, task, tmp_path)


def test_stopping_while_the_backend_is_down_starts_none(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BACK_OFF_SECONDS", 1000.0)
    task = crash_once(session, tmp_path, monkeypatch)
    assert session.step() == []
    session.stop()
    assert session.phase is Phase.OFF
    (outcome,) = session.step()
    assert (outcome.task, outcome.result) == (task, None)


def test_the_pauses_before_restarts_double(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BACK_OFF_SECONDS", 1000.0)
    crash_once(session, tmp_path, monkeypatch)
    pauses = []
    for _ in range(session_module.RESTARTS):
        assert session._restart_at is not None
        pauses.append(round((session._restart_at - time.monotonic()) / 1000.0))
        session._restart_at = None
        session._recover(LinkError("again"))
    assert pauses == [1, 2, 4]
    assert session._restart_at is None
    # One that has lived for long ends for another reason.
    start(session, tmp_path)
    session.restarts = session_module.RESTARTS
    session._began -= session_module.STEADY_SECONDS + 1.0
    session._recover(LinkError("at last"))
    assert session.restarts == 1


def test_a_backend_that_never_came_up_is_not_tried_again(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SILENT", "1")
    start(session, tmp_path)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    assert last(session).error is not None
    assert (session.restarts, session.phase) == (0, Phase.FAILED)


def test_stopping_cancels_what_was_under_way(session: Session, tmp_path: Path) -> None:
    start(session, tmp_path)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    session.stop()
    (outcome,) = session.step()
    assert (outcome.result, outcome.error) == (None, None)
    assert session.phase is Phase.OFF
    assert not session.busy


def test_without_a_backend_nothing_is_taken(session: Session, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="not running"):
        session.submit(Task("Training", training(tmp_path), lambda result: ""))
    assert not session.tasks


def test_attaching_leaves_the_other_backend_running(
    session: Session, process: BackendProcess, tmp_path: Path
) -> None:
    endpoint = until(process.announced)
    assert isinstance(endpoint, Endpoint)
    session.attach(endpoint)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    assert last(session).result is not None
    session.stop()
    assert process.running
    assert Client(endpoint).hello().version == "9.9"


@pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX whether a process exists")
def test_the_backend_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from blender_addon.link.process import BackendProcess\n"
        f"command, log = [sys.executable, {str(FAKE)!r}], Path({str(tmp_path / 'log')!r})\n"
        "b = BackendProcess(command, log=log)\n"
        "while b.announced() is None: time.sleep(0.02)\nprint(b.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone)
