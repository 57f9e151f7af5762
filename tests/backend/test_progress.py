"""Estimates of the time left, by a clock that the tests turn."""

from __future__ import annotations

import pytest

from backend.progress import Meter, Stage


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_slow_machine_is_noticed_within_the_first_stage() -> None:
    clock = Clock()
    meter = Meter([Stage("one", 10, 1.0), Stage("two", 5, 2.0)], clock)
    for _ in range(5):
        clock.now += 3.0
        progress = meter.tick("one")
    # Five steps of 3 s are left here; stage two's expectation is scaled by the same factor.
    assert progress.seconds_left == pytest.approx(5 * 3.0 + 5 * 2.0 * 3.0)
    assert (progress.step, progress.steps) == (5, 10)


def test_own_pace_replaces_the_expectation() -> None:
    clock = Clock()
    meter = Meter([Stage("one", 2, 1.0), Stage("two", 20, 1.0)], clock)
    for _ in range(2):
        clock.now += 1.0
        meter.tick("one")
    for _ in range(10):
        clock.now += 0.1
        progress = meter.tick("two")
    assert progress.seconds_left == pytest.approx(1.0)


def test_the_end_has_no_time_left_and_all_seconds_are_counted() -> None:
    clock = Clock()
    meter = Meter([Stage("one", 4, 1.0), Stage("two", 1, 9.0)], clock)
    clock.now += 2.0
    meter.tick("one", steps=4)
    clock.now += 5.0
    meter.preview = "/p.png"
    last = meter.tick("two", message="over")
    assert last.seconds_left == 0.0
    assert (last.message, last.preview) == ("over", "/p.png")
    assert meter.seconds == {"one": 2.0, "two": 5.0}


def test_more_steps_than_planned_do_not_pass_the_end() -> None:
    meter = Meter([Stage("one", 3, 1.0)], Clock())
    assert meter.tick("one", steps=8).step == 3


def test_skipped_work_leaves_no_false_hurry() -> None:
    """Steps that a resumed training finds done say nothing about the pace."""
    clock = Clock()
    meter = Meter([Stage("one", 100, 2.0), Stage("two", 50, 2.0)], clock)
    meter.skip("one", steps=90)
    for _ in range(5):
        clock.now += 2.0
        progress = meter.tick("one")
    assert progress.step == 95
    assert progress.seconds_left == pytest.approx(5 * 2.0 + 50 * 2.0)


def test_an_empty_plan_knows_nothing() -> None:
    meter = Meter([Stage("one", 1, 0.0)], Clock())
    assert meter.tick("one").seconds_left is None
