"""The service ends with whoever started it, in whatever way, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import (
    ROOT,
    Service,
    alive,
    children,
    endless_job,
    environment,
    running_service,
    wait_for_stage,
    wait_until,
)

from backend.service.lifetime import process_exists, wait_for_exit


def busy_worker(service: Service, folder: Path, tiny_model: Path, *stages: str) -> int:
    """Give the service a job without end; its worker's pid once it is in one of the stages."""
    id = service.submit(endless_job(folder, tiny_model))
    wait_for_stage(service, id, *(stages or ("pair", "stage one")))
    (worker,) = service.workers()
    return worker


def test_closing_stdin_in_mid_job_ends_everything(tmp_path: Path, tiny_model: Path) -> None:
    with running_service(tmp_path, tiny_model) as service:
        worker = busy_worker(service, tmp_path, tiny_model, "loading")
        assert service.process.stdin is not None
        service.process.stdin.close()
        assert service.process.wait(15) == 0
        wait_until(lambda: not alive(worker), 15)


def test_a_service_that_cannot_end_in_order_ends_all_the_same(tmp_path: Path) -> None:
    """On a machine too busy for it, say; here because its workers would never be dismissed."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from backend.service import lane, server\n"
        "lane.Lane._dismiss = lambda self: asyncio.sleep(3600)\n"
        "server.LAST_MOMENT = 0.1\n"
        "server.serve([Path(sys.argv[1])], data=Path(sys.argv[1]) / 'data')\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=pipe, stdout=pipe, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.close()
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert "did not end in order" in (tmp_path / "data" / "logs" / "service.log").read_text()
    assert not (tmp_path / "data" / "run" / "service.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_service_takes_its_worker_along(
    tmp_path: Path, tiny_model: Path, number: signal.Signals
) -> None:
    with running_service(tmp_path, tiny_model) as service:
        worker = busy_worker(service, tmp_path, tiny_model)
        service.process.send_signal(number)
        service.process.wait(15)
        wait_until(lambda: not alive(worker), 15)


def test_the_service_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The pipe stays open here, so only the watch on the parent can notice."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        with running_service(tmp_path, parent=parent.pid) as service:
            parent.kill()
            assert service.process.wait(15) == 0
        # Only now is the zombie reaped: the watch did not need that.
        parent.wait()


def test_a_parent_killed_with_its_pipe_leaves_nothing(tmp_path: Path) -> None:
    """As Blender does it: a process starts the service and is killed."""
    script = (
        "import subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'backend', 'serve', '--root', sys.argv[1]]\n"
        "p = subprocess.Popen(command, stdin=subprocess.PIPE)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert parent.stdout is not None
    pid: Any = json.loads(parent.stdout.readline())["pid"]
    assert children(parent.pid) == [pid]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not alive(pid), 15)


def test_dev_null_as_stdin_does_not_stop_the_service(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "backend", "serve", "--root", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=ROOT,
    )
    assert process.stdout is not None
    json.loads(process.stdout.readline())
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    process.wait(15)
    process.stdout.close()


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend", "serve", "--root", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
    )
    assert done.returncode == 1
    assert "none" in done.stderr
    assert "Traceback" not in done.stderr


def test_waiting_for_a_process_that_is_gone_returns() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        wait_for_exit(process.pid)
        assert not process_exists(process.pid)
    assert process_exists(os.getpid())
