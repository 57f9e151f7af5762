"""Finding the backend that another Blender of the same user has started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_link import BACKEND, FAKE, last, training, until

from blender_addon.link.client import Client, Endpoint, LinkError
from blender_addon.link.joining import find_running
from blender_addon.link.process import BackendProcess
from blender_addon.link.session import Phase, Session, Task

fcntl = pytest.importorskip("fcntl")


def announce(data: Path, **facts: Any) -> Path:
    """Leave an info file as a backend does."""
    path = data / "run" / "service.json"
    path.parent.mkdir(exist_ok=True)
    about = {"port": 9, "token": "a-token", "pid": os.getpid(), "protocol": 1, "version": "9.9"}
    path.write_text(json.dumps({**about, "roots": [str(data)], **facts}))
    path.chmod(0o600)
    path.with_suffix(".lock").touch(0o600)
    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Have the lock, as a living backend does."""
    with path.with_suffix(".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_only_a_living_backends_file_counts(tmp_path: Path) -> None:
    assert find_running(tmp_path) is None
    path = announce(tmp_path)  # its process number is a living one's: this test's
    assert find_running(tmp_path) is None
    with held(path):
        found = find_running(tmp_path)
        assert found is not None
        assert found.endpoint == Endpoint("http://127.0.0.1:9", "a-token", os.getpid())
        assert found.allows([tmp_path, tmp_path / "styles"])
        assert not found.allows([tmp_path.parent])
    assert find_running(tmp_path) is None


def test_a_file_that_others_could_have_written_is_not_trusted(tmp_path: Path) -> None:
    path = announce(tmp_path)
    with held(path):
        path.chmod(0o622)
        assert find_running(tmp_path) is None
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
        assert find_running(tmp_path) is None


@pytest.mark.parametrize(
    ("protocol", "remedy"), [(2, "Update the Stitchwork extension"), (0, "Update the backend")]
)
def test_a_running_backend_that_does_not_fit_says_which_side_to_update(
    tmp_path: Path, protocol: int, remedy: str
) -> None:
    session = Session()
    with held(announce(tmp_path, protocol=protocol)), pytest.raises(LinkError, match=remedy):
        start(session, tmp_path, tmp_path)
    assert session.phase is Phase.OFF


def start(session: Session, data: Path, *roots: Path) -> None:
    log = data / "log"
    session.start(BACKEND, roots=list(roots), parent=os.getpid(), log=log, data=data)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[BackendProcess]:
    """Another Blender's backend, that serves this data folder."""
    process = BackendProcess([sys.executable, str(FAKE)], log=tmp_path / "other.log")
    endpoint = until(process.announced)
    assert isinstance(endpoint, Endpoint)
    with held(announce(tmp_path, port=int(endpoint.url.rpartition(":")[2]))):
        yield process
    process.stop()


def test_a_running_backend_is_joined_and_left(other: BackendProcess, tmp_path: Path) -> None:
    session = Session()
    start(session, tmp_path, tmp_path)
    assert session.phase is Phase.READY
    assert not session.owned
    assert session.version == "9.9"
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    assert last(session).result is not None
    session.stop()
    until(lambda: not other.running)  # the stand-in ends when it is left
    assert session.phase is Phase.OFF


def test_one_that_may_not_work_in_our_folders_is_left_alone(
    other: BackendProcess, tmp_path: Path
) -> None:
    session = Session()
    start(session, tmp_path, tmp_path, tmp_path.parent)
    until(lambda: session.step() or session.phase is Phase.READY)
    assert session.owned
    session.stop()
    endpoint = other.announced()
    assert endpoint is not None
    assert Client(endpoint).hello().version == "9.9"


def test_one_that_was_joined_and_ended_is_followed_by_one_s_own(tmp_path: Path) -> None:
    process = BackendProcess([sys.executable, str(FAKE)], log=tmp_path / "other.log")
    endpoint = until(process.announced)
    assert isinstance(endpoint, Endpoint)
    session = Session()
    with held(announce(tmp_path, port=int(endpoint.url.rpartition(":")[2]))):
        start(session, tmp_path, tmp_path)
    session.submit(Task("Training", training(tmp_path, "held"), lambda result: ""))
    process.stop()
    outcome = last(session)
    assert outcome.error is not None
    # The stand-in forgets its jobs; a real one keeps them in the data folder.
    assert "no such job" in outcome.error.message
    assert session.owned
    session.stop()


def test_one_that_has_rested_is_started_again_when_it_is_wanted(tmp_path: Path) -> None:
    """It ends in order when nobody has asked for long: no failure, and nothing to be told."""
    session = Session()
    start(session, tmp_path, tmp_path)
    until(lambda: session.step() or session.phase is Phase.READY)
    assert session.ready
    assert session._process is not None
    assert session._process._process.stdin is not None
    session._process._process.stdin.close()
    until(lambda: session.phase is not Phase.READY)
    assert (session.phase, session.ready, session.busy) == (Phase.OFF, False, False)
    start(session, tmp_path, tmp_path)
    until(lambda: session.step() or session.phase is Phase.READY)
    session.submit(Task("Training", training(tmp_path), lambda result: ""))
    assert last(session).result is not None
    session.stop()


def test_one_that_was_joined_and_has_rested_is_not_taken_for_ready(tmp_path: Path) -> None:
    process = BackendProcess([sys.executable, str(FAKE)], log=tmp_path / "other.log")
    endpoint = until(process.announced)
    assert isinstance(endpoint, Endpoint)
    session = Session()
    with held(announce(tmp_path, port=int(endpoint.url.rpartition(":")[2]))):
        start(session, tmp_path, tmp_path)
        assert session.ready
    process.stop()
    assert not session.ready
    start(session, tmp_path, tmp_path)
    until(lambda: session.step() or session.phase is Phase.READY)
    assert session.owned
    session.stop()
