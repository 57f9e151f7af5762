"""What a paired run of two ways to train shows: time a step, memory, and how far losses part."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backend.models.settings import TrainingSettings

__all__ = ["STAGES", "Comparison", "Side"]

STAGES = ("stage one", "stage two")
_ARITHMETIC = {"mixed": "float32, bfloat16 for frozen weights and products with them"}
_Curves = dict[str, dict[str, list[float]]]


@dataclass(slots=True)
class Side:
    """What one of the two did.

    Attributes:
        seconds: of each timed step, by stage.
        losses: of every step, by stage and name of the loss.
        working: most bytes that a step held beyond networks and optimiser, by stage.
        held: bytes of the networks and of the optimiser's state.
        echo: losses once more, from weights moved by their last bit and, of the reference, with
            maps laid out another way: how far curves part that differ by rounding alone.
        arithmetic: "float32", another type's name, or "mixed" (`Profile.cpu_training`).
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    losses: _Curves = field(default_factory=dict)
    working: dict[str, int] = field(default_factory=dict)
    held: int = 0
    echo: _Curves = field(default_factory=dict)
    arithmetic: str = "float32"

    def note(self, stage: str, losses: dict[str, float], into: _Curves | None = None) -> None:
        """Keep a step's losses; in `losses`, or in `echo` if that is given."""
        curves = (self.losses if into is None else into).setdefault(stage, {})
        for name, value in losses.items():
            curves.setdefault(name, []).append(value)

    def peak(self, stage: str) -> int:
        """Most bytes held at once in a stage."""
        return self.held + self.working[stage]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides of a paired run.

    Attributes:
        taught: steps that their LoRA had learnt before.
    """

    reference: Side
    ours: Side
    settings: TrainingSettings
    device: str
    taught: int = 0

    def speed(self, stage: str) -> float:
        """How many times faster ours is: the median over the pairs of steps."""
        pairs = zip(self.reference.seconds[stage], self.ours.seconds[stage])
        return statistics.median(theirs / own for theirs, own in pairs)

    def whole(self) -> float:
        """How many times faster a training of the settings' steps is, its two stages together."""
        counts = (self.settings.steps_one, self.settings.steps_two)
        theirs, own = (
            sum(n * statistics.median(side.seconds[stage]) for n, stage in zip(counts, STAGES))
            for side in (self.reference, self.ours)
        )
        return theirs / own

    def memory(self) -> float:
        """Our peak as a share of the reference's, over both stages."""
        own, theirs = (max(map(side.peak, STAGES)) for side in (self.ours, self.reference))
        return own / theirs

    def differences(self) -> dict[str, float]:
        """Loss → largest difference between the two sides' curves, as a share of its mean."""
        return _apart(self.reference.losses, self.ours.losses)

    def tolerances(self) -> dict[str, float]:
        """Loss → how far its curves may part.

        Twice as far as either side parts from itself by rounding (the largest of as many steps,
        which chance may double), or what the arithmetic rounds: of float32 1e-3, of bfloat16 five
        units in the last place. After a LoRA has learnt, gradients are small and AdamW, which has
        forgotten how small, moves weights by the sign of what was rounded: 3e-2.
        """
        sides = self.reference, self.ours
        least = 1e-3 if all(side.arithmetic == "float32" for side in sides) else 5 * 2.0**-8
        least = 3e-2 if self.taught else least
        first, second = (_apart(side.losses, side.echo) for side in sides)
        return {name: max(2.0 * max(first[name], second[name]), least) for name in first}

    @property
    def agrees(self) -> bool:
        """Whether the curves are equal within what the arithmetic allows."""
        allowed = self.tolerances()
        return all(apart <= allowed[name] for name, apart in self.differences().items())

    def to_dict(self) -> dict[str, Any]:
        sides = {"reference": self.reference, "ours": self.ours}
        return {
            "device": self.device,
            "speed": {**{stage: self.speed(stage) for stage in STAGES}, "whole": self.whole()},
            "memory": self.memory(),
            "loss_differences": self.differences(),
            "tolerances": self.tolerances(),
            "agrees": self.agrees,
            **{
                name: {
                    "arithmetic": side.arithmetic,
                    "seconds_per_step": {s: statistics.median(side.seconds[s]) for s in STAGES},
                    "peak_bytes": {s: side.peak(s) for s in STAGES},
                    "working_bytes": dict(side.working),
                    "losses": side.losses,
                }
                for name, side in sides.items()
            },
        }

    def to_text(self) -> str:
        """A table for the terminal."""
        kinds = (
            _ARITHMETIC.get(side.arithmetic, side.arithmetic)
            for side in (self.reference, self.ours)
        )
        rows = ["{} · reference: {}; ours: {}".format(self.device, *kinds)]
        rows.append(f"{'':<26}{'reference':>12}{'ours':>12}{'ratio':>10}")
        for stage in STAGES:
            theirs, own = (
                statistics.median(side.seconds[stage]) for side in (self.reference, self.ours)
            )
            rows.append(
                f"{stage + ', s a step':<26}{theirs:>12.3f}{own:>12.3f}{self.speed(stage):>9.2f}×"
            )
        steps = f"{self.settings.steps_one} + {self.settings.steps_two} steps"
        rows.append(f"{steps:<26}{'':>24}{self.whole():>9.2f}× faster")
        for stage in STAGES:
            for what, of in (("peak", Side.peak), ("beyond networks", _working)):
                theirs, own = (of(side, stage) / 2**20 for side in (self.reference, self.ours))
                title = f"{stage}, {what}"
                rows.append(f"{title:<26}{theirs:>8.0f} MiB{own:>8.0f} MiB{own / theirs:>9.2f}×")
        verdict = "agree" if self.agrees else "DIFFER"
        allowed = self.tolerances()
        apart = ", ".join(
            f"{name} by {value:.0e} of its mean (allowed {allowed[name]:.0e})"
            for name, value in self.differences().items()
        )
        rows.append(f"loss curves {verdict}: {apart}")
        return "\n".join(rows)


def _working(side: Side, stage: str) -> int:
    return side.working[stage]


def _apart(first: _Curves, second: _Curves) -> dict[str, float]:
    found: dict[str, float] = {}
    for stage, curves in first.items():
        for name, values in curves.items():
            one, other = np.array(values), np.array(second[stage][name])
            apart = float(np.abs(one - other).max() / np.abs(one).mean())
            found[name] = max(apart, found.get(name, 0.0))
    return found
