"""Which jobs a batch's free worker is given, and what each worker has of its machine."""

from __future__ import annotations

import pytest

from backend.batch.cluster import share
from backend.batch.local import variables
from backend.batch.schedule import choose


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


def test_local_workers_share_gpus_and_processors() -> None:
    assert variables(1, [], 8) == [{}]
    assert variables(3, [], 8) == [{"OMP_NUM_THREADS": "2"}] * 3
    shared = variables(3, ["GPU-a", "GPU-b"], 2)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in shared] == ["GPU-a", "GPU-b", "GPU-a"]
    assert {each["OMP_NUM_THREADS"] for each in shared} == {"1"}
