"""Turns steps into `Progress` values with an estimate of the seconds left in the whole job."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.jobs import Progress

__all__ = ["Meter", "Show", "Stage", "outcome", "unseen"]

T = TypeVar("T")
# Takes a picture (H, W, 3) of how far the work is; where it can be seen, or None.
Show = Callable[[NDArray[np.float32]], str | None]


def unseen(picture: NDArray[np.float32]) -> str | None:
    """Where nobody looks."""
    return None


def outcome(steps: Generator[Any, None, T]) -> T:
    """Run a generator to its end, whatever it yields; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


@dataclass(frozen=True, slots=True)
class Stage:
    """One planned stage: its name, number of steps and expected seconds a step."""

    name: str
    steps: int
    seconds_per_step: float


class Meter:
    """Counts steps over a plan of stages and estimates the time left.

    The expectation of stages that have not begun is scaled by how the finished part ran against
    its own expectation, so a slower machine is noticed within the first stage.

    Attributes:
        preview: path of the newest preview picture, which all later progress names.
    """

    def __init__(
        self, plan: Sequence[Stage], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.preview: str | None = None
        self._plan = {stage.name: stage for stage in plan}
        self._done = {stage.name: 0 for stage in plan}
        self._timed = {stage.name: 0 for stage in plan}
        self._seconds = {stage.name: 0.0 for stage in plan}
        self._clock = clock
        self._last = clock()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds spent so far, by stage."""
        return dict(self._seconds)

    def skip(self, stage: str, *, steps: int) -> None:
        """Count steps that an earlier run did; they say nothing about this machine's pace."""
        self._done[stage] = min(self._done[stage] + steps, self._plan[stage].steps)
        self._last = self._clock()

    def tick(self, stage: str, *, steps: int = 1, message: str = "") -> Progress:
        """Record `steps` finished steps of `stage`; the time since the last tick is theirs."""
        now = self._clock()
        self._seconds[stage] += now - self._last
        self._last = now
        planned = self._plan[stage]
        self._timed[stage] += steps
        self._done[stage] = min(self._done[stage] + steps, planned.steps)
        return Progress(
            stage=stage,
            step=self._done[stage],
            steps=planned.steps,
            seconds_left=self._seconds_left(),
            message=message,
            preview=self.preview,
        )

    def within(self, stage: str, work: Generator[Any, None, T]) -> Generator[Progress, None, T]:
        """Let `work` be cancelled wherever it yields, though it is one step of its stage."""
        try:
            while True:
                try:
                    made = next(work)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(made, Progress):
                    self.preview = made.preview or self.preview
                yield self.tick(stage, steps=0)
        finally:
            work.close()

    def _seconds_left(self) -> float | None:
        expected = spent = 0.0
        for name, planned in self._plan.items():
            expected += self._timed[name] * planned.seconds_per_step
            spent += self._seconds[name]
        if expected == 0.0:
            return None
        pace = spent / expected
        left = 0.0
        for name, planned in self._plan.items():
            timed, remaining = self._timed[name], planned.steps - self._done[name]
            own = self._seconds[name] / timed if timed >= 5 else pace * planned.seconds_per_step
            left += remaining * own
        return left
