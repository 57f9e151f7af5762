"""The newest preview picture of a running job: shown while it runs, and gone with it."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import Service, artwork, endless_job, running_service, save, wait_until

from backend.checks import remove_leftovers
from backend.jobs import PreviewJob
from backend.restyle.autoencode import roughly
from backend.service.glimpse import SIDE, Glimpse


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("previews")


@pytest.fixture(scope="module")
def service(folder: Path, tiny_model: Path) -> Iterator[Service]:
    with running_service(folder, tiny_model) as service:
        yield service


def shown(service: Service, id: str) -> dict[str, str | None]:
    """By stage, the last preview that its progress named."""
    events = service.client.get(f"/v1/jobs/{id}?since=0").json()["events"]
    steps = [each["progress"] for each in events if "progress" in each]
    return {each["stage"]: each["preview"] for each in steps}


def hidden(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_running_job_s_newest_picture_can_be_fetched(
    service: Service, folder: Path, tiny_model: Path, end: str
) -> None:
    id = service.submit(endless_job(folder, tiny_model))
    wait_until(lambda: "stage one" in shown(service, id), 240)
    place = shown(service, id)["stage one"]
    assert place is not None
    assert Path(place).parent == folder
    assert service.status(id)["progress"]["preview"] == place
    answer = service.client.get(f"/v1/jobs/{id}/files/preview")
    assert answer.headers["content-type"] == "image/png"
    assert max(Image.open(io.BytesIO(answer.content)).size) <= SIDE
    if end == "cancel":
        service.client.post(f"/v1/jobs/{id}/cancel")
    else:
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
    assert service.wait(id, seconds=60)["progress"]["preview"] is None
    assert not hidden(folder)
    assert service.client.get(f"/v1/jobs/{id}/files/preview").status_code == 404


def test_training_and_restyling_show_how_far_they_are(
    service: Service, folder: Path, tiny_model: Path
) -> None:
    style = folder / "style"
    training: dict[str, Any] = {**endless_job(folder, tiny_model), "out": str(style)}
    training |= {"steps_one": 2, "steps_two": 1}
    id = service.submit(training)
    done = service.wait(id)
    assert done["state"] == "done", done
    assert done["progress"]["preview"] is None
    found = shown(service, id)
    assert found["pair"]
    assert found["stage two"]
    assert found["finish"]
    # Now it is the style's own.
    answer = service.client.get(f"/v1/jobs/{id}/files/preview")
    assert answer.content == (style / "preview.png").read_bytes()
    work = {"style": str(style), "base": str(tiny_model), "steps": 2}
    restyling = {
        "kind": "restyle",
        "input": str(save(folder / "bird.png", artwork(96, 80))),
        "out": str(folder / "bird-out.png"),
        **work,
    }
    composing = {"kind": "generate", "prompt": "a bird", "out": str(folder / "words.png"), **work}
    for job, stage in (
        ({**restyling, "start": "preview"}, "encoding"),
        ({**restyling, "start": "design"}, "decoding"),
        (composing, "decoding"),
    ):
        id = service.submit(job)
        assert service.wait(id)["state"] == "done"
        assert shown(service, id)[stage], job
    assert not hidden(folder)


def test_a_rough_look_is_right_where_colours_are_linear() -> None:
    chance = np.random.default_rng(0)
    cells = torch.from_numpy(chance.normal(size=(16, 6, 8)).astype(np.float32))
    colours = np.einsum("chw,cd->hwd", cells.numpy(), chance.normal(size=(16, 3)) / 40.0) + 0.5
    picture = np.repeat(np.repeat(colours, 8, axis=0), 8, axis=1).astype(np.float32)
    before = cells.clone()
    made = roughly(picture, cells)(cells)
    assert np.abs(made - colours).max() < 0.02
    assert torch.equal(cells, before)


def test_a_picture_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    picture = np.full((1200, 700, 3), 0.5, np.float32)
    assert Glimpse(str(tmp_path / "none" / "out.png")).show(picture) is None
    assert not list(tmp_path.iterdir())
    glimpse = Glimpse(str(tmp_path / "out.png"))
    for _ in range(2):
        place = glimpse.show(picture)
        assert place is not None
        with Image.open(place) as written:
            assert written.size == (299, SIDE)
    assert hidden(tmp_path) == [Path(place).name]
    # As after a kill.
    remove_leftovers(PreviewJob(reference="/r.png", input="/i.png", out=str(tmp_path / "out.png")))
    assert not list(tmp_path.iterdir())
    glimpse.close()
