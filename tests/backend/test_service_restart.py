"""A service that is killed and started again on its data folder; events while jobs run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from running import Service, alive, endless_job, preview_job, running_service, wait_until

from backend.models import profiles


def kill(service: Service) -> None:
    service.process.send_signal(signal.SIGKILL)
    service.process.wait(15)


def since(service: Service, id: str, n: int) -> dict[str, Any]:
    answer: dict[str, Any] = service.client.get(f"/v1/jobs/{id}?since={n}").json()
    return answer


def steps(events: list[dict[str, Any]]) -> list[int]:
    """Steps of stage one that were done, in their order."""
    shown = [each["progress"] for each in events if "progress" in each]
    return [each["step"] for each in shown if each["stage"] == "stage one"]


def test_a_killed_service_loses_nothing(tmp_path: Path, tiny_model: Path) -> None:
    every = profiles.get("starter").training.checkpoint_every
    training = {**endless_job(tmp_path, tiny_model), "steps_one": every + 40}
    with running_service(tmp_path, tiny_model, data=tmp_path / "data") as service:
        look = service.submit(preview_job(tmp_path))
        long = service.submit(training)
        queued = [service.submit({**training, "out": str(tmp_path / name)}) for name in "ab"]
        gone = service.submit({**training, "out": str(tmp_path / "gone")})
        service.client.post(f"/v1/jobs/{gone}/cancel")
        done = service.wait(look)
        wait_until(lambda: any(n > every for n in steps(since(service, long, 0)["events"])), 240)
        workers = service.workers()
        seen = since(service, long, 0)
        kill(service)
    with running_service(tmp_path, tiny_model, data=tmp_path / "data") as service:
        # No worker of the killed one is left to meddle.
        assert not any(map(alive, workers))
        assert service.status(look) == done
        assert service.status(gone)["state"] == "cancelled"
        listed = [each["id"] for each in service.client.get("/v1/jobs").json()]
        assert listed == [look, long, *queued, gone]
        for id in queued:
            assert service.status(id)["state"] == "queued"
            service.client.post(f"/v1/jobs/{id}/cancel")
        assert service.wait(long)["state"] == "done"
        after = since(service, long, seen["last"])
        assert [each["n"] for each in after["events"]] == list(
            range(seen["last"] + 1, after["last"] + 1)
        )
        # At most the steps since the last checkpoint were done again.
        assert min(steps(after["events"])) > every
        states = [each["state"] for each in after["events"] if "state" in each]
        assert states == ["queued", "running", "done"]
        files = {Path(each["path"]).name: each for each in after["artefacts"]}
        style = Path(training["out"])
        assert files["style.json"]["size"] == (style / "style.json").stat().st_size
        assert not list(tmp_path.glob("*.partial"))
        log = Path(service.client.get("/v1/hello").json()["log"])
        assert log == tmp_path / "data" / "logs" / "service.log"
        assert long in log.read_text()
        # What the service keeps for itself is no job's business.
        for name in ("jobs", "logs"):
            job = {**preview_job(tmp_path), "out": str(tmp_path / "data" / name / "x.png")}
            assert service.client.post("/v1/jobs", json=job).status_code == 400


def test_after_a_restart_nobody_works_for_clients_that_are_gone(
    tmp_path: Path, tiny_model: Path
) -> None:
    endless = endless_job(tmp_path, tiny_model)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as client:
        with running_service(tmp_path, tiny_model, data=tmp_path / "data") as service:
            place = f"/v1/jobs?client={client.pid}"
            theirs = service.client.post(place, json=endless).json()["id"]
            ours = service.submit(preview_job(tmp_path))
            kill(service)
        client.kill()
        client.wait()
    with running_service(tmp_path, tiny_model, data=tmp_path / "data") as service:
        assert service.wait(theirs, seconds=30)["state"] == "cancelled"
        assert service.wait(ours)["state"] == "done"


def test_events_stream_as_they_come(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        assert service.client.get("/v1/hello").json()["log"] is None
        id = service.submit(preview_job(tmp_path))
        streamed = stream(service, id)
        polled = since(service, id, 0)
        assert [data for _, data in streamed] == polled["events"]
        assert [n for n, _ in streamed] == list(range(1, polled["last"] + 1))
        assert streamed[-1][1]["state"] == "done"
        assert [each["role"] for each in polled["artefacts"]] == ["image"]
        # A client that was cut off goes on where it was.
        assert stream(service, id, {"Last-Event-ID": "2"}) == streamed[2:]
        for wrong in ("-1", "x", "1.0", "9" * 40):
            assert service.client.get(f"/v1/jobs/{id}?since={wrong}").status_code == 400
            headers = {"Last-Event-ID": wrong}
            answer = service.client.get(f"/v1/jobs/{id}/events", headers=headers)
            assert answer.status_code == 400
        assert service.client.get("/v1/jobs/00/events").status_code == 404


def stream(
    service: Service, id: str, headers: dict[str, str] | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """The (id, data) of every event until the stream ends."""
    found = []
    place = f"/v1/jobs/{id}/events"
    with service.client.stream("GET", place, headers=headers, timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in "".join(answer.iter_text()).strip().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines())
            if "id" in lines:
                found.append((int(lines["id"]), json.loads(lines["data"])))
    return found


def test_a_key_makes_a_request_safe_to_repeat(tmp_path: Path) -> None:
    job = preview_job(tmp_path)

    def send(service: Service, key: str, **change: Any) -> httpx.Response:
        return service.client.post("/v1/jobs", params={"key": key}, json={**job, **change})

    with running_service(tmp_path) as service:
        first = send(service, "a-1")
        assert first.status_code == 201
        assert send(service, "a-1").json()["id"] == first.json()["id"]
        assert send(service, "a-1", seed=7).status_code == 400
        assert len(service.client.get("/v1/jobs").json()) == 1
        for wrong in ("", "a b", "x" * 65, "é"):
            assert send(service, wrong).status_code == 400
