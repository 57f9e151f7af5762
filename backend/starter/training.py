"""One training loop for all of the starter's parts: resumable, seeded, and it yields as it goes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from backend.models.products import has_bfloat16
from backend.starter.parallel import agreed, average_gradients, gathered, rank

__all__ = ["Budget", "Optimisers", "Report", "adamw", "fit", "halved"]

Optimisers = Callable[[Mapping[str, nn.Module], float], Sequence[Optimizer]]
"""Makes what moves the weights of some modules, by its highest learning rate."""

_WARM_UP = 100  # steps


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: whichever of the two ends first; both count earlier runs in."""

    steps: int | None = None
    minutes: float | None = None

    def spent(self, step: int, seconds: float) -> float:
        """The part of the budget used up, 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(by_steps, by_time)


@dataclass(frozen=True, slots=True)
class Report:
    """Where a training stands: steps and seconds in all runs together, and the last loss."""

    step: int
    seconds: float
    loss: float
    spent: float


def halved(device: str | torch.device) -> torch.autocast:
    """Products in bfloat16; not on a processor that only imitates it, a hundred times as slowly."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or has_bfloat16())


def adamw(modules: Mapping[str, nn.Module], rate: float) -> list[Optimizer]:
    """AdamW for every weight that is trained."""
    weights = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    return [AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=1e-2)]


def fit(
    modules: Mapping[str, nn.Module],
    loss: Callable[[torch.Generator], Tensor],
    budget: Budget,
    checkpoint: Path,
    *,
    seed: int,
    rate: float = 1e-3,
    average: float = 0.999,
    cool_down: float = 0.35,
    every: float = 60.0,
    optimisers: Optimisers = adamw,
) -> Generator[Report, None, None]:
    """Train modules together until the budget is spent, or go on from the checkpoint.

    The rate rises over the first steps, stays, and falls to zero over the last part of the
    budget, so that a longer budget can be given to a run that has not begun to cool down.
    At the end, and in the checkpoint's "average", the weights are their moving average.

    Args:
        modules: what is trained, by name.
        loss: draws a batch with the given generator and returns its loss.
        budget: when to stop.
        checkpoint: file written now and then and at the end.
        seed: of the generator that `loss` gets; two runs with equal steps give equal weights
            (if as many processes did them, see `parallel`).
        rate: highest learning rate.
        average: how slowly the moving average follows (fewer steps average over fewer).
        cool_down: last part of the budget over which the rate falls.
        every: seconds between checkpoints.
        optimisers: makes what moves the modules' weights, by its highest rate.
    """
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    movers = optimisers(modules, rate)
    rates = [each.param_groups[0]["lr"] for each in movers]
    generator = torch.Generator().manual_seed(seed + 7919 * rank())
    mean = {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}
    step, earlier = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        for each, known in zip(movers, state["optimisers"], strict=True):
            each.load_state_dict(known)
        if rank() < len(state["generators"]):
            generator.set_state(state["generators"][rank()])
        mean, step, earlier = state["average"], state["step"], state["seconds"]
    began = saved = time.monotonic()

    def seconds() -> float:
        return earlier + time.monotonic() - began

    def save() -> None:
        generators = gathered(generator.get_state())
        if rank() > 0:
            return
        state = {
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "average": mean,
            "optimisers": [each.state_dict() for each in movers],
            "generators": generators,
            "step": step,
            "seconds": seconds(),
        }
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)

    while True:
        late = time.monotonic() - saved > every
        spent, saving = agreed([budget.spent(step, seconds()), late])
        if spent >= 1:
            break
        factor = min(1, (step + 1) / _WARM_UP, (1 - spent) / cool_down)
        for each, highest in zip(movers, rates, strict=True):
            for group in each.param_groups:
                group["lr"] = highest * factor
        value = loss(generator)
        value.backward()
        average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for each in movers:
            each.step()
            each.zero_grad(set_to_none=True)
        step += 1
        _follow(mean, modules, min(average, step / (step + 10)))
        if saving:
            save()
            saved = time.monotonic()
        yield Report(step, seconds(), float(value.detach()), spent)
    save()
    for name, module in modules.items():
        module.load_state_dict(mean[name])


@torch.no_grad()
def _follow(
    mean: Mapping[str, Mapping[str, Tensor]], modules: Mapping[str, nn.Module], keep: float
) -> None:
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                mean[name][key].lerp_(value.to(mean[name][key]), 1 - keep)
            else:
                mean[name][key].copy_(value)
