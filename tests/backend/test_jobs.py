"""The one definition of a job: what it takes, refuses and reads back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from backend import jobs
from backend.jobs import (
    JOB_TYPES,
    AnalyseJob,
    GenerateJob,
    JobError,
    JobState,
    JobStatus,
    PreviewJob,
    Progress,
    RestyleJob,
    Result,
    TrainJob,
    job_from_dict,
    job_to_dict,
)

JOBS = (
    TrainJob(reference="/r.jpg", out="/s", design="/d.png", steps_one=5, blocks="all", memory="12"),
    RestyleJob(style="/s", input="/i.png", out="/o.png", strength=0.5, embroidery="relief"),
    GenerateJob(style="/s", prompt="a yellow dog", out="/o.png", width=512),
    PreviewJob(reference="/r.jpg", input="/i.png", out="/o.png", seed=7),
    AnalyseJob(reference="/r.jpg", out="/a", subject="red heart", inversion="ddim"),
)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_survives_json(job: Any) -> None:
    assert job_from_dict(json.loads(json.dumps(job_to_dict(job)))) == job


def test_the_add_on_has_the_very_same_definition() -> None:
    root = Path(jobs.__file__).parents[1]
    ours, theirs = root / "backend" / "jobs.py", root / "blender_addon" / "link" / "jobs.py"
    assert ours.read_bytes() == theirs.read_bytes()


def test_every_kind_is_known_by_its_name() -> None:
    assert {type(job) for job in JOBS} == set(JOB_TYPES.values())
    assert all(JOB_TYPES[job.kind] is type(job) for job in JOBS)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.01}, "strength"),
        ({"strength": math.nan}, "strength"),
        ({"strength": math.inf}, "strength"),
        ({"strength": True}, "strength"),
        ({"steps": 2.5}, "steps"),
        ({"seed": None}, "seed"),
        ({"seed": True}, "seed"),
        ({"style": 3}, "style"),
        ({"embroidery": "knit"}, "embroidery"),
        ({"colour": 1, "size": 2}, "colour, size"),
        ({"schema": 2}, "schema 2"),
        ({"schema": None}, "schema"),
        ({"kind": None}, "kind"),
        ({"kind": {}}, "kind"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], named: str) -> None:
    data = {"kind": "restyle", "style": "/s", "input": "/i.png", "out": "/o.png", **change}
    with pytest.raises(JobError, match=named):
        job_from_dict(data)


def test_missing_fields_are_named() -> None:
    with pytest.raises(JobError, match="input, out"):
        job_from_dict({"kind": "restyle", "style": "/s"})


def test_whole_numbers_are_fractions_too() -> None:
    job = RestyleJob(style="/s", input="/i", out="/o", strength=1)
    assert job.strength == 1


def test_reading_a_job_leaves_its_data_alone() -> None:
    data = job_to_dict(JOBS[0])
    before = dict(data)
    job_from_dict(data)
    assert data == before


def test_a_status_survives_json() -> None:
    status = JobStatus(
        id="1",
        kind="train",
        state=JobState.RUNNING,
        progress=Progress(stage="stage one", step=3, steps=10, seconds_left=4.5),
        result=Result(outputs={"style": "/s"}, seconds={"stage one": 2.0}),
    )
    again = JobStatus.from_dict(json.loads(json.dumps(status.to_dict())))
    assert again == status
    assert not again.state.final


def test_final_states() -> None:
    assert [state.value for state in JobState if state.final] == ["done", "failed", "cancelled"]
