"""A real service in a process of its own, and pictures to give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FINAL = ("done", "failed", "cancelled")


def embroidery(side: int = 160) -> NDArray[np.uint8]:
    """Slanted satin threads on a disc, over plain cloth: (side, side, 3)."""
    y, x = np.mgrid[:side, :side]
    inside = np.hypot(x - side / 2, y - side / 2) < 0.42 * side
    thread = 0.5 + 0.5 * np.sin((x + 0.6 * y) * 2 * np.pi / 7.0)
    red = np.array([170, 30, 40]) + thread[..., None] * np.array([70, 60, 60])
    noise = np.random.default_rng(0).normal(0.0, 4.0, (side, side, 1))
    cloth = np.array([205, 200, 190]) + 6.0 * np.sin(y * 2.1)[..., None]
    picture = np.where(inside[..., None], red, cloth) + noise
    pixels: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def artwork(width: int = 72, height: int = 72) -> NDArray[np.uint8]:
    """A blue square on transparency: (height, width, 4)."""
    rgba = np.zeros((height, width, 4), dtype=np.uint8)
    rgba[height // 6 : -height // 6, width // 6 : -width // 6] = (40, 80, 190, 255)
    return rgba


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def preview_job(folder: Path, name: str = "out.png") -> dict[str, Any]:
    """A small preview job whose inputs are written into `folder`, once: another job may read."""
    reference, art = folder / "reference.png", folder / "art.png"
    if not art.exists():
        save(reference, embroidery())
        save(art, artwork())
    return {
        "kind": "preview",
        "reference": str(reference),
        "input": str(art),
        "out": str(folder / name),
    }


def endless_job(folder: Path, model: Path) -> dict[str, Any]:
    """Training on a tiny model that would take hours."""
    return {
        "kind": "train",
        "reference": preview_job(folder)["reference"],
        "out": str(folder / "endless"),
        "base": str(model),
        "steps_one": 100_000,
        "steps_two": 0,
        "blocks": "paper",
    }


@dataclass(frozen=True)
class Service:
    """A running service and a client that may use it."""

    process: subprocess.Popen[str]
    address: str
    token: str
    client: httpx.Client

    def submit(self, job: dict[str, Any]) -> str:
        answer = self.client.post("/v1/jobs", json=job)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def status(self, id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/jobs/{id}")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def wait(self, id: str, states: Sequence[str] = FINAL, seconds: float = 240) -> dict[str, Any]:
        wait_until(lambda: self.status(id)["state"] in states, seconds)
        return self.status(id)

    def workers(self) -> list[int]:
        return children(self.process.pid)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.03)


def wait_for_stage(service: Service, id: str, *stages: str, seconds: float = 240) -> None:
    """Wait until a job is in one of the stages."""

    def there() -> bool:
        status = service.status(id)
        assert status["state"] not in FINAL, status
        return status["progress"] is not None and status["progress"]["stage"] in stages

    wait_until(there, seconds)


def children(pid: int) -> list[int]:
    """Living child processes (Linux)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, task.read_text().split())
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@contextmanager
def running_service(
    *roots: Path,
    parent: int | None = None,
    data: Path | None = None,
    options: Sequence[str] = (),
    under: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "backend"),
) -> Iterator[Service]:
    """Start a service, give it out, and see that it is gone afterwards.

    Args:
        options: further ones of `serve`.
        under: a command that runs it, such as a tracer.
        variables: all of its environment.
        program: in place of the backend.
    """
    command = [*under, *program, "serve", *options]
    for root in roots:
        command += ["--root", str(root)]
    if parent is not None:
        command += ["--parent", str(parent)]
    if data is not None:
        command += ["--data", str(data)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() if variables is None else dict(variables),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        announced = json.loads(process.stdout.readline())
        address = f"http://127.0.0.1:{announced['port']}"
        headers = {"Authorization": f"Bearer {announced['token']}"}
        # The service closes idle connections after 5 s; none is to be taken up in that moment.
        limits = httpx.Limits(keepalive_expiry=2)
        with httpx.Client(base_url=address, headers=headers, timeout=10, limits=limits) as client:
            yield Service(process, address, announced["token"], client)
    finally:
        if not process.stdin.closed:
            process.stdin.close()
        try:
            process.wait(15)
        finally:
            process.kill()
            process.stdout.close()
