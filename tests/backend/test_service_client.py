"""The command line as a client of the service: jobs, refusals, deaths; it and the add-on use what
the service's document has, and no more."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, alive, children, endless_job, environment, preview_job, wait_until

from backend.errors import ResourceError, StitchworkError
from backend.jobs import Job, PreviewJob, Progress, TrainJob, job_from_dict
from backend.progress import outcome
from backend.service import client
from backend.service.openapi import openapi


@pytest.fixture
def job(tmp_path: Path) -> PreviewJob:
    job = job_from_dict(preview_job(tmp_path))
    assert isinstance(job, PreviewJob)
    return job


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def test_a_job_is_done_and_nothing_stays(job: PreviewJob, tmp_path: Path) -> None:
    # A result's folder that is still to be made; inputs behind links.
    there = tmp_path / "elsewhere"
    there.mkdir()
    (there / "art.png").symlink_to(job.input)
    out = tmp_path / "new" / "folder" / "look.png"
    before = set(children(os.getpid()))
    steps = client.run(replace(job, input=str(there / "art.png"), out=str(out)))
    stages = []
    try:
        while True:
            stages.append(next(steps).stage)
    except StopIteration as end:
        result = end.value
    assert list(dict.fromkeys(stages)) == ["preparing reference", "laying thread"]
    assert result.outputs == {"image": str(out)}
    assert result.seconds
    assert out.is_file()
    assert set(children(os.getpid())) == before


@pytest.mark.parametrize("name", ["none.png", "no/ne.png", "n\0ne.png", "n" * 300 + ".png"])
def test_what_is_wrong_is_said(job: PreviewJob, tmp_path: Path, name: str) -> None:
    for field in ("input", "out"):
        changed: Job = replace(job, **{field: str(tmp_path / name), "max_memory_gib": 8.0})
        if field == "out" and name.endswith("ne.png") and "\0" not in name:
            continue  # these can be made
        with pytest.raises(StitchworkError) as caught:
            outcome(client.run(changed))
        assert caught.value.remedy


def test_a_base_beside_the_user_is_found(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    job = TrainJob(
        **{**_fields(tmp_path, tiny_model), "base": "model", "steps_one": 1, "blocks": "paper"}
    )
    result = outcome(client.run(job))
    assert Path(result.outputs["style"], "style.json").is_file()


def _fields(folder: Path, model: Path) -> dict[str, Any]:
    fields = endless_job(folder, model)
    del fields["kind"]
    return fields


@pytest.mark.parametrize("victim", ["worker", "service", "nobody"])
def test_an_early_end_is_told_and_leaves_nothing(
    tmp_path: Path, tiny_model: Path, victim: str
) -> None:
    steps = client.run(TrainJob(**_fields(tmp_path, tiny_model)))
    before = {each.name for each in tmp_path.iterdir()}
    while next(steps).stage != "stage one":
        pass
    started = descendants(os.getpid())
    (service,) = children(os.getpid())
    (worker,) = children(service)
    if victim == "nobody":
        steps.close()
    else:
        os.kill({"worker": worker, "service": service}[victim], signal.SIGKILL)
        told = {"worker": StitchworkError, "service": ResourceError}[victim]
        with pytest.raises(told, match="ended unexpectedly") as caught:
            outcome(steps)
        assert "last checkpoint" in caught.value.remedy
    wait_until(lambda: not any(map(alive, started)))
    # What a training goes on from.
    left = {each.name for each in tmp_path.iterdir()} - before
    assert left - {".endless.preview.png"} == {"endless.partial"}
    assert victim == "service" or ".endless.preview.png" not in left


def test_a_killed_command_leaves_no_process(tmp_path: Path, tiny_model: Path) -> None:
    fields = _fields(tmp_path, tiny_model)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]
    with subprocess.Popen(
        [sys.executable, "-m", "backend", "train", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        started = descendants(process.pid)
        assert len(started) == 2
        process.kill()
        wait_until(lambda: not any(map(alive, started)))


def test_nothing_but_the_documented_api_is_used() -> None:
    """By the command line for its jobs, and by the add-on for everything."""
    documented = {re.sub(r"\{\w+\}", "{}", each) for each in openapi()["paths"]}
    sources = [
        *(ROOT / "blender_addon").rglob("*.py"),
        ROOT / "backend" / "cli.py",
        ROOT / "backend" / "service" / "client.py",
    ]
    used = set()
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(each, "value", "") for each in node.values]
                whole = "".join(each if isinstance(each, str) else "{}" for each in parts)
            else:
                whole = str(getattr(node, "value", ""))
            if whole.startswith("/v1/") and whole != "/v1/jobs/":
                used.add(whole.partition("?")[0])
        # No other way leads to work.
        assert not re.search(r"^\s*(from|import) backend\.engine\b", text, re.MULTILINE), path
        if path.is_relative_to(ROOT / "blender_addon"):
            assert not re.search(r"^\s*(from|import) backend\b", text, re.MULTILINE), path
    assert {"/v1/jobs", "/v1/jobs/{}", "/v1/jobs/{}/cancel"} <= used <= documented


def test_progress_is_the_job_s_own(job: PreviewJob) -> None:
    steps = client.run(job)
    assert isinstance(next(steps), Progress)
    steps.close()
    assert not Path(job.out).exists()
