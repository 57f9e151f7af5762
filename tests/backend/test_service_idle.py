"""A service that nobody asks for anything stops, if it was told to; work keeps it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from running import alive, endless_job, preview_job, running_service, wait_for_stage, wait_until

from backend import cli
from backend.service import idle
from backend.service.idle import Idle

SECOND = str(1 / 3600)


def test_it_stops_and_takes_its_worker_and_its_file_along(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_service(tmp_path, data=data, options=["--idle-hours", SECOND]) as service:
        service.wait(service.submit(preview_job(tmp_path)))
        workers = service.workers()
        assert service.process.wait(20) == 0
        wait_until(lambda: not any(map(alive, workers)))
        assert not (data / "run" / "service.json").exists()


def test_a_job_keeps_it_though_nobody_asks(tmp_path: Path, tiny_model: Path) -> None:
    with running_service(tmp_path, tiny_model, options=["--idle-hours", SECOND]) as service:
        wait_for_stage(service, service.submit(endless_job(tmp_path, tiny_model)), "stage one")
        with pytest.raises(AssertionError, match="in vain"):
            wait_until(lambda: service.process.poll() is not None, 4)
        service.client.post("/v1/shutdown")


def test_requests_and_jobs_put_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits, busy = [0.0], [], [True, True, False]

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds
        if len(waits) == 4:
            await watched({}, None, None)  # type: ignore[arg-type]

    async def app(*_: Any) -> None:
        return

    monkeypatch.setattr(idle.asyncio, "sleep", sleep)
    watched = Idle(app, lambda: busy.pop(0) if busy else False, lambda: now[0])
    asyncio.run(watched.wait(150.0))
    # Two looks at work, then a request in the midst of the rest.
    assert waits == [60.0, 60.0, 60.0, 30.0, 60.0, 60.0, 30.0]


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "soon"])
def test_wrong_hours_are_refused(wrong: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--root", str(tmp_path), "--idle-hours", wrong])
    assert "--idle-hours" in capsys.readouterr().err
