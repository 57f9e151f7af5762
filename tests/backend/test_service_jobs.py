"""Jobs through a real service: states, results, cancel, crashes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from running import (
    Service,
    alive,
    endless_job,
    preview_job,
    running_service,
    wait_for_stage,
    wait_until,
)

from backend.jobs import JobStatus


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def service(folder: Path, tiny_model: Path) -> Iterator[Service]:
    with running_service(folder, tiny_model) as service:
        yield service


def test_a_preview_runs_and_its_file_can_be_fetched(service: Service, folder: Path) -> None:
    id = service.submit(preview_job(folder))
    status = JobStatus.from_dict(service.wait(id))
    assert status.error == ""
    assert status.state == "done"
    assert status.result is not None
    assert status.progress is not None
    assert status.progress.step == status.progress.steps
    assert status.result.outputs == {"image": str(folder / "out.png")}
    with Image.open(folder / "out.png") as picture:
        assert picture.size == (72, 72)
    fetched = service.client.get(f"/v1/jobs/{id}/files/image")
    assert fetched.content == (folder / "out.png").read_bytes()
    assert service.client.get(f"/v1/jobs/{id}/files/style").status_code == 404


def test_a_failing_job_says_why_and_the_next_one_runs(service: Service, folder: Path) -> None:
    job = preview_job(folder)
    (folder / "notes.txt").write_text("not a picture")
    failed = service.wait(service.submit({**job, "input": str(folder / "notes.txt")}))
    assert failed["state"] == "failed"
    assert "notes.txt" in failed["error"]
    assert failed["remedy"]
    assert service.wait(service.submit(job))["state"] == "done"


def test_hello_names_protocol_and_profiles(service: Service) -> None:
    hello = service.client.get("/v1/hello").json()
    assert hello["protocol"] == 1
    assert hello["profiles"] == ["starter", "sdxl"]
    assert hello["pid"] == service.process.pid


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "knit"}, "knit"),
        ({"kind": ["preview"]}, "kind"),
        ({"schema": 99}, "schema"),
        ({"colour": "red"}, "colour"),
        ({"seed": "1"}, "seed"),
        ({"seed": -1}, "seed"),
        ({"reference": None}, "reference"),
    ],
)
def test_a_wrong_job_is_refused_by_field(
    service: Service, folder: Path, change: dict[str, object], complaint: str
) -> None:
    answer = service.client.post("/v1/jobs", json={**preview_job(folder), **change})
    assert answer.status_code == 400
    assert complaint in answer.json()["error"].lower()


def test_a_running_job_is_cancelled_and_its_neighbours_are_not(
    service: Service, folder: Path, tiny_model: Path
) -> None:
    job = endless_job(folder, tiny_model)
    short = {**job, "out": str(folder / "short"), "steps_one": 1}
    running = service.submit(job)
    waiting, last = service.submit(short), service.submit(short)
    wait_for_stage(service, running, "pair", "stage one")
    assert service.status(waiting)["state"] == "queued"
    assert service.client.post(f"/v1/jobs/{waiting}/cancel").json()["state"] == "cancelled"
    assert service.client.post(f"/v1/jobs/{running}/cancel").status_code == 200
    assert service.wait(running, seconds=30)["state"] == "cancelled"
    assert service.wait(last)["state"] == "done"
    assert service.status(waiting)["state"] == "cancelled"
    assert not (folder / "endless").exists()


def test_cancelling_a_finished_job_changes_nothing(service: Service, folder: Path) -> None:
    id = service.submit(preview_job(folder))
    done = service.wait(id)
    assert service.client.post(f"/v1/jobs/{id}/cancel").json() == done


def test_a_killed_worker_fails_only_its_job(folder: Path, tiny_model: Path) -> None:
    job = endless_job(folder, tiny_model)
    with running_service(folder, tiny_model) as service:
        running = service.submit(job)
        waiting = service.submit({**job, "out": str(folder / "next"), "steps_one": 1})
        wait_for_stage(service, running, "pair", "stage one")
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        failed = service.wait(running, seconds=30)
        assert failed["state"] == "failed"
        assert "SIGKILL" in failed["error"]
        assert failed["remedy"]
        assert service.wait(waiting)["state"] == "done"
        assert not alive(worker)


def test_a_first_look_is_ready_while_a_training_runs(
    service: Service, folder: Path, tiny_model: Path
) -> None:
    training = service.submit(endless_job(folder, tiny_model))
    wait_for_stage(service, training, "pair", "stage one")
    assert service.wait(service.submit(preview_job(folder, "look.png")))["state"] == "done"
    assert service.status(training)["state"] == "running"
    service.client.post(f"/v1/jobs/{training}/cancel")
    assert service.wait(training, seconds=30)["state"] == "cancelled"
    assert (folder / "look.png").is_file()


def test_unknown_jobs_and_routes_are_not_found(service: Service) -> None:
    for path in ("/v1/jobs/abc", "/v1/jobs/abc/files/image", "/v2/hello", "/"):
        answer = service.client.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]
    assert service.client.post("/v1/jobs/abc/cancel").status_code == 404
    assert service.client.delete("/v1/jobs").status_code == 405


def test_jobs_are_listed_in_order(service: Service, folder: Path) -> None:
    ids = [service.submit(preview_job(folder)) for _ in range(2)]
    listed = [each["id"] for each in service.client.get("/v1/jobs").json()]
    assert listed[-2:] == ids
    for id in ids:
        service.client.post(f"/v1/jobs/{id}/cancel")


def test_shutdown_ends_service_and_worker(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        assert service.wait(service.submit(preview_job(tmp_path)))["state"] == "done"
        (worker,) = service.workers()
        assert service.client.post("/v1/shutdown").status_code == 202
        assert service.process.wait(15) == 0
        wait_until(lambda: not alive(worker), 15)
        with pytest.raises(httpx.TransportError):
            service.client.get("/v1/hello")
