"""Cancels a job of each kind in each of its stages, and measures how long the job lives on.

    python tests/backend/cancelling.py [--seed N] [--kinds preview,…]

Around the real engine on a tiny model. A neighbour waits behind each job and another runs beside
it: both must be done, and whole. A stage may be over before the cancel comes: that is told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from running import FINAL, Service, artwork, preview_job, running_service, save

LONGEST = 2.0  # seconds a cancelled job may live on
KINDS = ("preview", "train", "analyse", "restyle", "generate")


@dataclass
class Account:
    """What came of it: seconds by kind and stage; None where the job was over before."""

    seconds: dict[str, float | None] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def longest(self) -> float:
        return max((each for each in self.seconds.values() if each is not None), default=0.0)

    @property
    def clean(self) -> bool:
        return not self.wrong and self.longest <= LONGEST


class Cancelling:
    """A service, and jobs that are cancelled.

    Args:
        folder: for everything; empty.
        model: folder of the tiny model.
    """

    def __init__(self, folder: Path, model: Path, service: Service) -> None:
        self._folder, self._model, self._service = folder, model, service
        self._count = 0
        self.account = Account()

    def run(self, kinds: Sequence[str] = KINDS) -> Account:
        for kind in kinds:
            whole = self._service.submit(self._job(kind))
            assert self._service.wait(whole, seconds=600)["state"] == "done", self._events(whole)
            stages = list(dict.fromkeys(each["stage"] for each in self._steps(whole)))
            for stage in ("queued", "starting", *stages):
                self._cancel_in(kind, stage)
        return self.account

    def _cancel_in(self, kind: str, stage: str) -> None:
        service, name = self._service, f"{kind}: {stage}"
        looks = kind == "preview"
        before = [service.submit(self._job(kind))] if stage == "queued" else []
        job = self._job(kind)
        id = service.submit(job)
        behind = service.submit(self._job("preview"))
        beside = behind if looks else service.submit(self._job("restyle"))
        while not self._there(id, stage):
            time.sleep(0.005)
        began = time.monotonic()
        service.client.post(f"/v1/jobs/{id}/cancel")
        while (state := service.status(id)["state"]) not in FINAL:
            time.sleep(0.005)
        took = time.monotonic() - began
        self.account.seconds[name] = round(took, 2) if state == "cancelled" else None
        if state == "failed" or (state == "cancelled" and Path(job["out"]).exists()):
            self.account.wrong.append(f"{name}: {service.status(id)}")
        for each in (*before, behind, beside):
            status = service.wait(each, seconds=600)
            outputs = (status["result"] or {"outputs": {}})["outputs"].values()
            if status["state"] != "done" or not all(map(os.path.exists, outputs)):
                self.account.wrong.append(f"{name}: its neighbour {status}")
        left = [each.name for each in self._folder.iterdir() if each.name.startswith(".")]
        self.account.wrong += [f"{name}: {each} is left" for each in left]
        print(f"{name}: {took:.2f} s, {state}", flush=True)

    def _there(self, id: str, stage: str) -> bool:
        status = self._service.status(id)
        if stage == "queued" or status["state"] in FINAL:
            return True
        if stage == "starting":
            return bool(status["state"] == "running")
        return any(each["stage"] == stage for each in self._steps(id))

    def _events(self, id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]]
        found = self._service.client.get(f"/v1/jobs/{id}?since=0").json()["events"]
        return found

    def _steps(self, id: str) -> list[dict[str, Any]]:
        return [each["progress"] for each in self._events(id) if "progress" in each]

    def _job(self, kind: str) -> dict[str, Any]:
        """One more job of a kind, with a place of its own; in the style that the first made."""
        self._count += 1
        look = preview_job(self._folder, f"{self._count}.png")
        if kind == "preview":
            return look
        job: dict[str, Any] = {"kind": kind, "base": str(self._model)}
        style = str(self._folder / "style")
        if kind in ("train", "analyse"):
            out = self._folder / f"{kind}-{self._count}"
            job |= {"reference": look["reference"], "out": str(out)}
            return job | ({"steps_one": 4, "steps_two": 2} if kind == "train" else {})
        job |= {"style": style, "out": look["out"], "steps": 4}
        if kind == "generate":
            return job | {"prompt": "a bird", "width": 448, "height": 448}
        art = self._folder / "wide.png"
        if not art.exists():
            save(art, artwork(448, 448))
        return job | {"input": str(art), "start": "preview"}

    def make_style(self) -> None:
        id = self._service.submit(self._job("train") | {"out": str(self._folder / "style")})
        status = self._service.wait(id, seconds=600)
        assert status["state"] == "done", status


def cancel_everywhere(folder: Path, model: Path, kinds: Sequence[str] = KINDS) -> Account:
    """The whole of it, with a service of its own."""
    with running_service(folder, model) as service:
        service.client.timeout = 60.0
        cancelling = Cancelling(folder, model, service)
        cancelling.make_style()
        return cancelling.run(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="changes nothing")
    options = parser.parse_args()
    from tiny import make_tiny_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "work"
        folder.mkdir()
        model = make_tiny_model(Path(name) / "model")
        account = cancel_everywhere(folder, model, options.kinds.split(","))
    print(json.dumps({**asdict(account), "longest": account.longest}, indent=2))
    return 0 if account.clean else 1


if __name__ == "__main__":
    sys.exit(main())
