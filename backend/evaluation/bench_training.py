"""Our training stages beside the reference procedure: loss, time a step and memory, paired.

Both learn the same pair from the same weights, noise and timesteps, with the paper's settings, and
take turns within one run, so that a busy machine slows both alike.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

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
from backend.evaluation.comparison import STAGES, Comparison, Side
from backend.evaluation.plain_training import PlainTraining, Shown
from backend.jobs import Progress
from backend.models import profiles
from backend.models.loading import Models, is_mixed, load
from backend.models.settings import PAPER_BLOCKS, TrainingSettings
from backend.progress import Meter, Stage

__all__ = ["bench_training", "compare", "device_name", "drawn_pair", "paper_settings"]

_SUBJECTS = ("heart", "flower")
# With a tenth of it the LoRA moves predictions by 3e-4 of their size. Of so little float32 rounds
# the direction, which the contrastive loss looks at, and AdamW enlarges that from step to step.
_START = 0.2
# Then so many steps of stage one, at the starter's learning rate, let it say more than bfloat16
# rounds: stage two never begins with less.
_TAUGHT, _RATE = 100, 1e-3

Step = Callable[[str, int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class _Stepper:
    """One way to train.

    Attributes:
        step: takes one of a stage, by its number; returns its losses.
        begin: start anew from a LoRA.
        optimiser: the one of now.
    """

    step: Step
    begin: Callable[[dict[str, torch.Tensor]], None]
    optimiser: Callable[[], torch.optim.Optimizer]


def paper_settings(models: Models) -> TrainingSettings:
    """The paper's training: batch 1, whole windows, no ControlNets, attention alone."""
    own = models.profile.training.gradient_checkpointing
    return replace(TrainingSettings(), gradient_checkpointing=own)


def bench_training(
    profile_name: str, steps: int, base: str | None = None
) -> Generator[Progress, None, list[Comparison]]:
    """`compare` on a profile's own models: ours as it trains, then in the reference's arithmetic.

    On a CPU the reference computes in float32; on a GPU both in the profile's arithmetic.
    """
    yield Progress(stage="loading", step=0, steps=1)
    profile = profiles.get(profile_name)
    level = replace(profile, cpu_dtype="float32")
    own = [replace(profile, cpu_dtype=profile.cpu_training), level]
    ours = [load(each, base=base) for each in own]
    if _arithmetic(ours[0]) == _arithmetic(ours[1]):
        del ours[1]
    plain = load(level, base=base)
    yield Progress(stage="loading", step=1, steps=1)
    found = yield from compare(ours, plain, steps, paper_settings(plain), taught=_TAUGHT)
    return found


def compare(
    ours: Sequence[Models],
    plain: Models,
    steps: int,
    settings: TrainingSettings,
    *,
    seed: int = 42,
    taught: int = 0,
) -> Generator[Progress, None, list[Comparison]]:
    """Train both ways, in turns, ours on each of `ours`, the reference on `plain`.

    Each is loaded by itself. All start from a LoRA that says something already (`_START`), and has
    learnt for `taught` steps: the contrastive loss compares directions, and those of a fresh LoRA
    are mere rounding.
    Each stage takes two steps more than the `steps` that are timed: a first one to warm up, and a
    last one whose memory is watched, which takes time of its own. At last all take all steps once
    more, for `Side.echo`.
    """
    ours = [replace(each, profile=replace(each.profile, training=settings)) for each in ours]
    torch.nn.utils.convert_conv2d_weight_memory_format(plain.unet, torch.contiguous_format)
    torch.nn.utils.convert_conv2d_weight_memory_format(plain.vae, torch.contiguous_format)
    adapters: list[Adapter] = []
    try:
        for each in ours:
            adapters.append(Adapter(each, PAPER_BLOCKS, rank=settings.rank, seed=seed))
        _shaken(adapters[-1], seed)
        quick = replace(settings, learning_rate=_RATE)
        teacher = _ours(ours[-1], adapters[-1], quick, seed)
        for number in range(taught):
            teacher.step(STAGES[0], 10_000 + number)  # no step that is compared
            yield Progress(stage="teaching", step=number + 1, steps=taught)
        start = adapters[-1].state()
        training = PlainTraining(plain, PAPER_BLOCKS, settings, start)
        steppers = [_reference(training, plain, ours[0], seed)]
        for each, adapter in zip(ours, adapters):
            adapter.restore(start)
            steppers.append(_ours(each, adapter, settings, seed))
        sides = [Side(arithmetic=_arithmetic(each)) for each in (plain, *ours)]
        doers = list(zip(steppers, sides))
        again = len(STAGES) * (steps + 2)
        meter = Meter(
            [*(Stage(stage, steps + 2, 1.0) for stage in STAGES), Stage("echo", again, 1.0)]
        )
        for stage in STAGES:
            for number in range(steps + 2):
                for stepper, side in doers if number % 2 == 0 else reversed(doers):
                    step, device = stepper.step, plain.device
                    if number == steps + 1:
                        side.working[stage] = _watched(step, side, stage, number, device)
                        continue
                    seconds = _timed(step, side, stage, number, device)
                    if number > 0:
                        side.seconds.setdefault(stage, []).append(seconds)
                yield meter.tick(stage)
        moved = {name: _moved(value) for name, value in start.items()}
        for models, (stepper, side) in zip((plain, *ours), doers):
            side.held = _held(models, stepper.optimiser())
            stepper.begin(moved)
        torch.nn.utils.convert_conv2d_weight_memory_format(plain.unet, torch.channels_last)
        for stage, number in itertools.product(STAGES, range(steps + 2)):
            for stepper, side in doers:
                side.note(stage, stepper.step(stage, number), side.echo)
            yield meter.tick("echo")
    finally:
        for adapter in adapters:
            adapter.remove()
    device_title = device_name(plain.device)
    return [Comparison(sides[0], side, settings, device_title, taught) for side in sides[1:]]


def _arithmetic(models: Models) -> str:
    if is_mixed(models.profile, models.device):
        return "mixed"
    return str(models.dtype).removeprefix("torch.")


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


def _reference(training: PlainTraining, plain: Models, models: Models, seed: int) -> _Stepper:
    first, second = (_shown(plain, subject, seed) for subject in _SUBJECTS)
    encoded = _encoded(models, _SUBJECTS[0], seed)

    def step(stage: str, number: int) -> dict[str, float]:
        chance = stage_one.draw(models, encoded, (seed, STAGES.index(stage) + 1, number))
        if stage == STAGES[0]:
            return training.step_one(first, chance.noise, chance.timestep)
        return training.step_two(first, second, chance.noise, chance.timestep)

    return _Stepper(step, training.begin, lambda: training.optimiser)


def _ours(models: Models, adapter: Adapter, settings: TrainingSettings, seed: int) -> _Stepper:
    first, second = (_encoded(models, subject, seed) for subject in _SUBJECTS)
    optimiser = make_optimiser(adapter.parameters, settings)

    def begin(start: dict[str, torch.Tensor]) -> None:
        nonlocal optimiser
        adapter.restore(start)
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

    return _Stepper(step, begin, lambda: optimiser)


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
