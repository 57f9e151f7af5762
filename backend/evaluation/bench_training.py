"""Our training stages beside the reference procedure: loss, time a step and memory, paired.

Both learn the same pair from the same weights, noise and timesteps, with the paper's settings, and
take turns within one run, so that a busy machine slows both alike.
"""

from __future__ import annotations

import itertools
import platform
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from backend.emolora import stage_one, stage_two
from backend.emolora.adapter import Adapter
from backend.emolora.encoded import EncodedPair
from backend.emolora.motifs import draw_motif
from backend.emolora.optimiser import make_optimiser, take_step
from backend.emolora.pair import Pair
from backend.emolora.sampling import to_tensor
from backend.evaluation.plain_training import PlainTraining, Shown
from backend.jobs import Progress
from backend.models import profiles
from backend.models.loading import Models, load
from backend.models.settings import PAPER_BLOCKS, TrainingSettings
from backend.progress import Meter, Stage

__all__ = [
    "Comparison",
    "Side",
    "bench_training",
    "compare",
    "device_name",
    "drawn_pair",
    "paper_settings",
]

STAGES = ("stage one", "stage two")
_SUBJECTS = ("heart", "flower")
# With a tenth of it the LoRA moves predictions by 3e-4 of their size. Of so little float32 rounds
# the direction, which the contrastive loss looks at, and AdamW enlarges that from step to step.
_START = 0.2

Step = Callable[[str, int], dict[str, float]]


@dataclass(slots=True)
class Side:
    """What one of the two did.

    Attributes:
        seconds: of each timed step, by stage.
        losses: of every step, by stage and name of the loss.
        working: most bytes that a step held beyond networks and optimiser, by stage.
        held: bytes of the networks and of the optimiser's state.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    working: dict[str, int] = field(default_factory=dict)
    held: int = 0

    def note(self, stage: str, losses: dict[str, float]) -> None:
        curves = self.losses.setdefault(stage, {})
        for name, value in losses.items():
            curves.setdefault(name, []).append(value)

    def peak(self, stage: str) -> int:
        """Most bytes held at once in a stage."""
        return self.held + self.working[stage]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides of a paired run.

    Attributes:
        echo: losses of the reference once more, from weights moved by their last bit and with maps
            laid out another way: how far curves part that differ by rounding alone.
    """

    reference: Side
    ours: Side
    echo: Side
    settings: TrainingSettings
    device: str
    dtype: torch.dtype

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
        return _apart(self.reference, self.ours)

    def tolerances(self) -> dict[str, float]:
        """Loss → how far its curves may part.

        Twice as far as the reference parts from itself by rounding (the largest of as many steps,
        which chance may double), or by what the arithmetic rounds in one step.
        """
        least = 1e-3 if self.dtype == torch.float32 else 5e-2
        return {
            name: max(2.0 * apart, least)
            for name, apart in _apart(self.reference, self.echo).items()
        }

    @property
    def agrees(self) -> bool:
        """Whether the curves are equal within what the arithmetic allows."""
        allowed = self.tolerances()
        return all(apart <= allowed[name] for name, apart in self.differences().items())

    def to_dict(self) -> dict[str, Any]:
        sides = {"reference": self.reference, "ours": self.ours}
        return {
            "device": self.device,
            "dtype": str(self.dtype).removeprefix("torch."),
            "speed": {**{stage: self.speed(stage) for stage in STAGES}, "whole": self.whole()},
            "memory": self.memory(),
            "loss_differences": self.differences(),
            "tolerances": self.tolerances(),
            "agrees": self.agrees,
            **{
                name: {
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
        rows = [f"{self.device} · {str(self.dtype).removeprefix('torch.')}"]
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


def _apart(first: Side, second: Side) -> dict[str, float]:
    found: dict[str, float] = {}
    for stage, curves in first.losses.items():
        for name, values in curves.items():
            one, other = np.array(values), np.array(second.losses[stage][name])
            apart = float(np.abs(one - other).max() / np.abs(one).mean())
            found[name] = max(apart, found.get(name, 0.0))
    return found


def paper_settings(models: Models) -> TrainingSettings:
    """The paper's training: batch 1, whole windows, no ControlNets, attention alone."""
    own = models.profile.training.gradient_checkpointing
    return replace(TrainingSettings(), gradient_checkpointing=own)


def bench_training(
    profile_name: str, steps: int, base: str | None = None
) -> Generator[Progress, None, Comparison]:
    """`compare` on a profile's own models."""
    yield Progress(stage="loading", step=0, steps=1)
    # On a CPU both in float32, in which the engine trains.
    profile = replace(profiles.get(profile_name), cpu_dtype="float32")
    models, plain = (load(profile, base=base) for _ in range(2))
    yield Progress(stage="loading", step=1, steps=1)
    comparison = yield from compare(models, plain, steps, paper_settings(models))
    return comparison


def compare(
    models: Models, plain: Models, steps: int, settings: TrainingSettings, *, seed: int = 42
) -> Generator[Progress, None, Comparison]:
    """Train both ways, in turns, ours on `models`, the reference on `plain`, loaded by itself.

    Both start from a LoRA that says something already (`_START`): the contrastive loss compares
    directions, and those of a fresh LoRA are mere rounding.
    Each stage takes two steps more than the `steps` that are timed: a first one to warm up, and a
    last one whose memory is watched, which takes time of its own. At last the reference takes all
    steps once more, for `Comparison.echo`.
    """
    models = replace(models, profile=replace(models.profile, training=settings))
    torch.nn.utils.convert_conv2d_weight_memory_format(plain.unet, torch.contiguous_format)
    torch.nn.utils.convert_conv2d_weight_memory_format(plain.vae, torch.contiguous_format)
    adapter = Adapter(models, PAPER_BLOCKS, rank=settings.rank, seed=seed)
    try:
        start = _shaken(adapter, seed)
        sides = {"reference": Side(), "ours": Side()}
        training = PlainTraining(plain, PAPER_BLOCKS, settings, start)
        reference = _reference(training, plain, models, seed)
        ours, own = _ours(models, adapter, settings, seed)
        doers = {"reference": reference, "ours": ours}
        meter = Meter([*(Stage(stage, steps + 2, 1.0) for stage in STAGES), Stage("echo", 1, 1.0)])
        for stage in STAGES:
            for number in range(steps + 2):
                order = list(doers) if number % 2 == 0 else list(reversed(doers))
                for name in order:
                    side, step = sides[name], doers[name]
                    if number == steps + 1:
                        side.working[stage] = _watched(step, side, stage, number, models.device)
                        continue
                    seconds = _timed(step, side, stage, number, models.device)
                    if number > 0:
                        side.seconds.setdefault(stage, []).append(seconds)
                yield meter.tick(stage)
        sides["reference"].held = _held(plain, training.optimiser)
        sides["ours"].held = _held(models, own)
        training.begin({name: _moved(value) for name, value in start.items()})
        torch.nn.utils.convert_conv2d_weight_memory_format(plain.unet, torch.channels_last)
        echo = Side()
        for stage, number in itertools.product(STAGES, range(steps + 2)):
            echo.note(stage, reference(stage, number))
        yield meter.tick("echo")
    finally:
        adapter.remove()
    device = device_name(models.device)
    return Comparison(sides["reference"], sides["ours"], echo, settings, device, models.dtype)


def device_name(device: torch.device) -> str:
    """For the head of a table."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"


def _shaken(adapter: Adapter, seed: int) -> dict[str, torch.Tensor]:
    """The adapter's weights once its second factors are not zero any more."""
    state, generator = adapter.state(), torch.Generator().manual_seed(seed)
    for name, value in state.items():
        if name.endswith("lora_B.weight"):
            state[name] = _START * torch.randn(value.shape, generator=generator)
    adapter.restore(state)
    return state


def _moved(value: torch.Tensor) -> torch.Tensor:
    """The next larger float32 numbers."""
    return torch.nextafter(value, torch.full_like(value, torch.inf))


def _reference(training: PlainTraining, plain: Models, models: Models, seed: int) -> Step:
    first, second = (_shown(plain, subject, seed) for subject in _SUBJECTS)
    encoded = _encoded(models, _SUBJECTS[0], seed)

    def step(stage: str, number: int) -> dict[str, float]:
        chance = stage_one.draw(models, encoded, (seed, STAGES.index(stage) + 1, number))
        if stage == STAGES[0]:
            return training.step_one(first, chance.noise, chance.timestep)
        return training.step_two(first, second, chance.noise, chance.timestep)

    return step


def _ours(
    models: Models, adapter: Adapter, settings: TrainingSettings, seed: int
) -> tuple[Step, torch.optim.Optimizer]:
    first, second = (_encoded(models, subject, seed) for subject in _SUBJECTS)
    optimiser = make_optimiser(adapter.parameters, settings)

    def step(stage: str, number: int) -> dict[str, float]:
        optimiser.zero_grad(set_to_none=True)
        chance = stage_one.draw(models, first, (seed, STAGES.index(stage) + 1, number))
        if stage == STAGES[0]:
            losses = stage_one.accumulate(models, adapter, PAPER_BLOCKS, first, chance)
        else:
            losses = stage_two.accumulate(models, adapter, PAPER_BLOCKS, first, second, chance)
        take_step(models, adapter.parameters, optimiser)
        return losses

    return step, optimiser


def _shown(models: Models, subject: str, seed: int) -> Shown:
    made = drawn_pair(models, subject, seed)
    pictures = to_tensor(made.design), to_tensor(made.embroidery)
    return Shown(*pictures, *models.profile.prompts(subject))


def _encoded(models: Models, subject: str, seed: int) -> EncodedPair:
    made = drawn_pair(models, subject, seed)
    design, embroidery = (
        models.encode_image(to_tensor(picture)) for picture in (made.design, made.embroidery)
    )
    text = models.encode_prompts(list(models.profile.prompts(subject)))
    weight = torch.ones_like(design[:, :1], dtype=torch.float32)
    return EncodedPair(design, embroidery, weight, text[:1], text[1:], None)


def drawn_pair(models: Models, subject: str, seed: int) -> Pair:
    """A drawn motif and the same under slanted thread."""
    side = models.profile.window
    design, mask = draw_motif(subject, side, np.random.default_rng(seed))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    thread = 0.8 + 0.2 * np.sin((x + 0.5 * y) * (2 * np.pi / models.profile.pair.thread_px))
    shade = np.where(mask > 0.5, thread, 1.0).astype(np.float32)
    return Pair(design, design * shade[..., None], mask)


def _timed(step: Step, side: Side, stage: str, number: int, device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    side.note(stage, step(stage, number))
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _watched(step: Step, side: Side, stage: str, number: int, device: torch.device) -> int:
    """Most bytes that torch held at once during a step beyond what it held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        side.note(stage, step(stage, number))
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        side.note(stage, step(stage, number))
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes))


def _held(models: Models, optimiser: torch.optim.Optimizer) -> int:
    """Bytes of what training needs throughout: UNet with LoRA, encoders, optimiser."""
    networks = (models.unet, models.vae, models.text_encoder, models.text_encoder_2)
    tensors = [each for network in networks for each in network.parameters()]
    for state in optimiser.state.values():
        tensors += [each for each in state.values() if isinstance(each, torch.Tensor)]
    return sum(each.numel() * each.element_size() for each in tensors)
