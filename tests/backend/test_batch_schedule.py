"""Which jobs a batch's free worker is given, what it has of its machine, and what it says."""

from __future__ import annotations

import socket
from collections.abc import Generator

import pytest

from backend.batch.cluster import Cluster, share
from backend.batch.ray import Actor
from backend.batch.schedule import choose
from backend.batch.workers import Failed, read
from backend.errors import InputError, ResourceError
from backend.jobs import GenerateJob, Job, Progress, RestyleJob, Result, job_to_dict


@pytest.mark.parametrize(
    ("warm", "waiting", "held", "chosen"),
    [
        (None, {}, {}, None),
        ("satin", {"satin": 0}, {}, None),
        (None, {"satin": 3, "knit": 5}, {}, "satin"),  # the manifest's order
        ("knit", {"satin": 3, "knit": 1}, {}, "knit"),  # warm first
        ("knit", {"satin": 3, "knit": 1}, {"knit": 2}, "knit"),  # although others hold it too
        ("knit", {"satin": 3, "knit": 0}, {"satin": 1}, "satin"),
        (None, {"satin": 9, "knit": 1}, {"satin": 1}, "knit"),  # one that nobody holds
        (None, {"satin": 9, "knit": 5}, {"satin": 3, "knit": 1}, "knit"),  # where help is scarcest
        (None, {"satin": 9, "knit": 2}, {"satin": 3, "knit": 1}, "satin"),
    ],
)
def test_a_free_worker_s_next_style(
    warm: str | None, waiting: dict[str, int], held: dict[str, int], chosen: str | None
) -> None:
    assert choose(warm, waiting, held) == chosen


def test_all_is_done_with_few_changes_of_style() -> None:
    waiting, warm, changes = {"a": 7, "b": 7, "c": 1}, [None, None], 0
    while any(waiting.values()):
        for worker in (0, 1):
            other = warm[1 - worker]
            style = choose(warm[worker], waiting, {other: 1} if other else {})
            if style is not None:
                changes += style != warm[worker]
                warm[worker] = style
                waiting[style] -= 1
    assert changes == 3


@pytest.mark.parametrize(
    ("processors", "count", "size"),
    [
        ([16], 1, 16),
        ([16], 3, 5),
        ([2], 3, 1),
        ([0, 8, 8], 3, 4),  # a head without processors; two on a machine
        ([4, 16], 3, 5),
        ([], 2, 1),
    ],
)
def test_workers_of_a_cluster_share_its_processors(
    processors: list[int], count: int, size: int
) -> None:
    assert share(processors, count) == size


def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else's, and nobody listens
        for address, message in {
            f"127.0.0.1:{taken.getsockname()[1]}": "nothing answers",
            "127.0.0.1:99999": "nothing answers",
            "ray://127.0.0.1:10001": "no host:port",
            "head": "no host:port",
        }.items():
            monkeypatch.setenv("RAY_ADDRESS", address)
            with pytest.raises(ResourceError, match=message):
                Cluster(2)


@pytest.mark.parametrize(
    "job",
    [
        RestyleJob(style="/s", input="/i.png", out="/o.png"),
        GenerateJob(style="/s", prompt="a red heart", out="/o.png"),
    ],
    ids=lambda job: job.kind,
)
def test_an_actor_says_what_a_worker_process_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: Job
) -> None:
    class Engine:
        error: Exception | None = None

        def run(self, given: Job) -> Generator[Progress, None, Result]:
            assert given == job
            for step in range(1000):
                yield Progress(stage="first" if step < 500 else "second", step=step, steps=1000)
            if self.error is not None:
                raise self.error
            return Result(outputs={"image": job.out})

    monkeypatch.setattr("backend.engine.Engine", Engine)
    told, actor = job_to_dict(job), Actor()
    *progress, last = (read(each) for each in actor.run(told))
    assert last == Result(outputs={"image": "/o.png"})
    stages = [each.stage for each in progress if isinstance(each, Progress)]
    assert list(dict.fromkeys(stages)) == ["first", "second"]
    assert len(progress) < 100  # not every step
    monkeypatch.setattr(Engine, "error", InputError("Too dark.", "Light it."))
    assert [read(each) for each in actor.run(told)][-1] == Failed("Too dark. Light it.")
    monkeypatch.setattr(Engine, "error", KeyError("gone"))
    (failed,) = (each for each in map(read, actor.run(told)) if isinstance(each, Failed))
    assert "Unexpected KeyError: 'gone'" in failed.error
    assert "KeyError" in capsys.readouterr().err  # with its place, for the log
    for odd in ({}, {"progress": 1}, {"cancel": "x"}):
        with pytest.raises(ValueError, match="a worker said"):
            read(odd)
