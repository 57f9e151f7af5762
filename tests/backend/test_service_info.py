"""The info file: one service for a data folder, found by its user alone, gone with the service."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from running import Service, endless_job, preview_job, running_service, wait_until

from backend.errors import InputError, ResourceError
from backend.service import info
from backend.service.info import InfoFile
from backend.service.lifetime import MAX_CLIENTS, Clients


def written(data: Path) -> Path:
    return data / "run" / "service.json"


def test_the_info_file_is_its_owners_alone_and_goes_with_the_service(tmp_path: Path) -> None:
    with running_service(tmp_path, data=tmp_path) as service:
        path = written(tmp_path)
        facts = json.loads(path.read_text())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert facts["pid"] == service.process.pid
        assert facts["roots"] == [str(tmp_path)]
        headers = {"Authorization": f"Bearer {facts['token']}"}
        address = f"http://127.0.0.1:{facts['port']}/v1/hello"
        hello = httpx.get(address, headers=headers).json()
        assert {name: facts[name] for name in ("pid", "protocol", "version")} == {
            name: hello[name] for name in ("pid", "protocol", "version")
        }
    assert not path.exists()


def test_jobs_may_not_touch_the_services_own_folder(tmp_path: Path) -> None:
    job = preview_job(tmp_path)
    with running_service(tmp_path, data=tmp_path) as service:
        for change in (
            {"input": str(written(tmp_path))},
            {"out": str(tmp_path / "run" / "x.png")},
        ):
            answer = service.client.post("/v1/jobs", json={**job, **change})
            assert answer.status_code == 400
            assert "own folder" in answer.json()["error"]


def test_a_killed_services_file_is_stale_and_replaced(tmp_path: Path) -> None:
    with running_service(tmp_path, data=tmp_path) as first:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(15)
    assert written(tmp_path).exists()
    with running_service(tmp_path, data=tmp_path) as second:
        facts = json.loads(written(tmp_path).read_text())
        assert facts["pid"] == second.process.pid
        assert facts["token"] != first.token


def test_a_data_folder_has_one_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "PATIENCE", 0.0)
    with InfoFile(tmp_path) as first:
        first.write({"pid": 4711})
        with pytest.raises(InputError, match="4711"), InfoFile(tmp_path):
            pass
        assert json.loads(written(tmp_path).read_text()) == {"pid": 4711}
    with InfoFile(tmp_path):
        assert not written(tmp_path).exists()


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ResourceError, match="run"), InfoFile(tmp_path):
        pass


def test_the_service_stays_for_whoever_joined(tmp_path: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as second,
        running_service(tmp_path, parent=os.getpid()) as service,
    ):
        assert join(service, second.pid).status_code == 200
        assert service.process.stdin is not None
        service.process.stdin.close()  # the starter is gone
        assert leave(service, os.getpid()) is False
        assert service.wait(service.submit(preview_job(tmp_path)))["state"] == "done"
        second.kill()
        assert service.process.wait(15) == 0


def test_the_last_to_leave_stops_it(tmp_path: Path) -> None:
    with running_service(tmp_path, parent=os.getpid()) as service:
        for wrong in (0, -1, 2**31, "1", True, None):
            assert join(service, wrong).status_code == 400
        assert leave(service, os.getpid()) is True
        assert service.process.wait(15) == 0


def test_what_a_client_waited_for_ends_with_it(tmp_path: Path, tiny_model: Path) -> None:
    endless = endless_job(tmp_path, tiny_model)
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as second,
        running_service(tmp_path, tiny_model, parent=os.getpid()) as service,
    ):
        join(service, second.pid)
        place = f"/v1/jobs?client={second.pid}"
        jobs = [endless, {**endless, "out": str(tmp_path / "other")}]
        ids = [service.client.post(place, json=job).json()["id"] for job in jobs]
        kept = service.submit({**endless, "out": str(tmp_path / "kept"), "steps_one": 1})
        second.kill()
        second.wait()
        assert {service.wait(id)["state"] for id in ids} == {"cancelled"}
        assert service.wait(kept)["state"] == "done"
        for wrong in ("x", "-1", "9" * 20):
            answer = service.client.post(f"/v1/jobs?client={wrong}", json=endless)
            assert answer.status_code == 400


def join(service: Service, pid: object) -> httpx.Response:
    return service.client.post("/v1/clients/join", json={"pid": pid})


def leave(service: Service, pid: int) -> bool:
    answer: bool = service.client.post("/v1/clients/leave", json={"pid": pid}).json()["stopping"]
    return answer


def test_clients_are_counted_once_and_bounded() -> None:
    stopped: list[bool] = []
    watched: list[int] = []
    clients = Clients(lambda: stopped.append(True))
    for pid in (1, 1, *range(2, MAX_CLIENTS + 1)):
        clients.join(pid, watched.append)
    assert watched == list(range(1, MAX_CLIENTS + 1))
    with pytest.raises(ResourceError):
        clients.join(MAX_CLIENTS + 1, watched.append)
    for pid in watched:
        assert not stopped
        assert clients.leave(pid) is (pid == MAX_CLIENTS)
    assert stopped == [True]


def test_a_second_service_says_who_has_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "backend", "serve", "--root", str(tmp_path)]
    with running_service(tmp_path, data=tmp_path) as first:
        wait_until(written(tmp_path).exists)
        done = subprocess.run(
            [*command, "--data", str(tmp_path)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert str(first.process.pid) in done.stderr
        assert first.client.get("/v1/hello").status_code == 200
