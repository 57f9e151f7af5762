"""A real Blender ends in mid-job, in whatever way: its backend goes with it and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from mid_job import SECONDS, below, blender_python, owns, style, training
from running import alive, wait_until

pytestmark = pytest.mark.blender


@pytest.fixture(scope="module")
def blender() -> Path:
    python = blender_python()
    if not python.exists():
        pytest.fail(f"{python} is missing: run the tests with `python build.py test`.")
    return python


def jobs(data: Path) -> int:
    """How many jobs the service of a data folder knows."""
    facts = json.loads((data / "run" / "service.json").read_text())
    headers = {"Authorization": f"Bearer {facts['token']}"}
    return len(httpx.get(f"http://127.0.0.1:{facts['port']}/v1/jobs", headers=headers).json())


def state(data: Path) -> list[str]:
    """Of each job."""
    facts = json.loads((data / "run" / "service.json").read_text())
    headers = {"Authorization": f"Bearer {facts['token']}"}
    address = f"http://127.0.0.1:{facts['port']}/v1/jobs"
    return [each["state"] for each in httpx.get(address, headers=headers).json()]


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_nothing_is_left_of_a_blender_that_ends_in_mid_job(
    blender: Path, tiny_model: Path, tmp_path: Path, end: str
) -> None:
    with training(blender, tmp_path, tiny_model, "late") as process:
        assert owns(process)
        processes = below(process.pid)
        assert len(processes) >= 2  # service and worker
        if end == "killed":
            process.kill()
        else:
            (tmp_path / "late.end").touch()
            assert process.wait(60) == 0
        wait_until(lambda: not any(map(alive, processes)), SECONDS)
    assert not style(tmp_path, "late").exists()
    # What a later run goes on from, and nothing that could be taken for a result.
    assert not list(tmp_path.rglob("style.json"))
    assert not list(tmp_path.rglob("service.json")) or end == "killed"


def test_a_second_blender_keeps_the_backend_that_it_joined(
    blender: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with training(blender, tmp_path, tiny_model, "first") as first:
        assert owns(first)
        processes = below(first.pid)
        with training(blender, tmp_path, tiny_model, "second") as second:
            # Its own job waits behind the first one's: hear of it from the service.
            wait_until(lambda: jobs(tmp_path) == 2, 120)
            first.kill()
            first.wait()
            assert owns(second) is False
            assert any(map(alive, processes))
            assert not below(second.pid)
            second.kill()
            wait_until(lambda: not any(map(alive, processes)), SECONDS)


def test_a_backend_that_is_killed_comes_back_and_goes_on(
    blender: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with training(blender, tmp_path, tiny_model, "on") as process:
        assert owns(process)
        info = tmp_path / "run" / "service.json"
        before = json.loads(info.read_text())["pid"]
        os.kill(before, signal.SIGKILL)

        def another() -> bool:
            try:
                return json.loads(info.read_text())["pid"] != before
            except (OSError, ValueError):
                return False

        wait_until(another, 120)
        # The same job, not one more, and it runs.
        wait_until(lambda: state(tmp_path) == ["running"], 60)
        processes = below(process.pid)
        process.kill()
        wait_until(lambda: not any(map(alive, processes)), SECONDS)
