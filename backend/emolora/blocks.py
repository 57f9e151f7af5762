"""Which attention blocks carry the style (paper, section 3.1).

Both images of the pair are inverted and denoised side by side; every self-attention layer's output
F = f_o(softmax(QKᵀ/√d)V) is compared between them. Near 1: the block says the same of both, so it
carries content. Lowest, above all late in denoising: style.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from backend.emolora.adapter import attention_blocks
from backend.emolora.inversion import invert
from backend.errors import InputError
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import (
    Controls,
    ddim_step,
    hints,
    noise_of,
    predict,
    timesteps,
)
from backend.models.settings import PAPER_BLOCKS, BlockSettings

__all__ = [
    "LEAST_WEIGHT",
    "Judgement",
    "Recorder",
    "choose",
    "judge",
    "measure",
    "named",
    "passes",
    "plot",
    "recording",
    "segment_of",
    "soft_weights",
]


# A block that weighs less is left out: it would cost as much as any other and change nothing.
LEAST_WEIGHT = 0.1
# Two pictures of which a block says the same but for this much are the same to it.
_SAME = 1e-3


@dataclass(slots=True)
class Recorder:
    """Sums cosine similarities of row 0's features to the other rows', by block and segment.

    Attributes:
        segment: the segment that passes now count for; set it before each pass.
        rows: how many rows, the first included, are compared; further ones are left out.
    """

    blocks: tuple[str, ...]
    total: torch.Tensor
    count: torch.Tensor
    rows: int
    segment: int = 0

    def add(self, block: int, features: torch.Tensor) -> None:
        """Take in one layer's features (B, N, C): per place cosines, averaged over places."""
        values = features[: self.rows].detach().float()
        cosine = torch.nn.functional.cosine_similarity(values[:1], values[1:], dim=-1)
        # In two steps: a device may have no float64.
        self.total[:, block, self.segment] += cosine.mean(dim=-1).cpu().to(self.total)
        self.count[block, self.segment] += 1

    def similarities(self) -> torch.Tensor:
        """(rows - 1, blocks, segments); NaN where no pass was seen."""
        return self.total / self.count


@contextmanager
def recording(models: Models, *, rows: int, segments: int) -> Iterator[Recorder]:
    """Within, passes of the UNet feed the recorder."""
    blocks = attention_blocks(models)
    recorder = Recorder(
        blocks=blocks,
        total=torch.zeros(rows - 1, len(blocks), segments, dtype=torch.float64),
        count=torch.zeros(len(blocks), segments, dtype=torch.float64),
        rows=rows,
    )
    handles = []
    for index, block in enumerate(blocks):
        for name, module in models.unet.get_submodule(block).named_modules():
            if name.endswith(".attn1"):

                def hook(_m: object, _a: object, output: torch.Tensor, index: int = index) -> None:
                    recorder.add(index, output)

                handles.append(module.register_forward_hook(hook))
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def segment_of(step: int, steps: int, segments: int) -> int:
    """The segment, 0 (noisy) to segments - 1 (clean), of a denoising step."""
    return min(step * segments // steps, segments - 1)


def passes(settings: BlockSettings) -> int:
    """How many values `measure` yields before its result."""
    return 2 * settings.steps


@torch.no_grad()
def measure(
    models: Models,
    design: torch.Tensor,
    embroidery: torch.Tensor,
    text: TextEmbedding,
    settings: BlockSettings,
    controls: Controls | None = None,
) -> Generator[NDArray[np.float64] | None, None, None]:
    """Similarity of the pair's self-attention features.

    Args:
        design, embroidery: latents (1, C, h, w).
        text: of one row, used for both images, so that words make no difference.

    Yields:
        None after each step of inversion and of denoising, `passes(settings)` times; at last the
        table (blocks, segments).
    """
    both, words = torch.cat([design, embroidery]), text.expand(2)
    conditions = None if controls is None else hints(models, controls.expand(2))
    iterations = settings.renoise_iterations if settings.inversion == "renoise" else 0
    trajectory = yield from invert(
        models, both, words, steps=settings.steps, iterations=iterations, controls=conditions
    )
    schedule = timesteps(models, settings.steps)
    current = trajectory[schedule[0]]
    with recording(models, rows=2, segments=settings.segments) as recorder:
        for step, (here, there) in enumerate(zip(schedule, [*schedule[1:], -1])):
            recorder.segment = segment_of(step, settings.steps, settings.segments)
            output = predict(models, current, here, words, conditions)
            noise = noise_of(models, current, output, here)
            current = ddim_step(models, current, noise, here, there)
            yield None
    yield recorder.similarities()[0].numpy()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the automatic rule says of one block.

    Attributes:
        late: mean similarity over the late segments.
        deviations: how far that lies above the mean of all blocks, in standard deviations of
            -ln(1 - late).
        style: whether the block is taken for the style.
        why: the reason in words.
    """

    block: str
    late: float
    deviations: float
    style: bool
    why: str


def judge(
    table: NDArray[np.float64], blocks: Sequence[str], settings: BlockSettings
) -> tuple[Judgement, ...]:
    """The automatic rule: blocks whose late similarity is statistically low carry the style.

    What a block says differs by 1 - s, s its mean similarity over the late segments. That goes over
    orders of magnitude from block to block, so it is compared as a logarithm: else one very
    different block hides that others are different too. A block counts as style if it lies
    `threshold` standard deviations on the different side of the mean of all blocks; at least and
    at most so many as the settings say, most different first.

    Args:
        table: (blocks, segments).

    Returns:
        a judgement a block, in the order of `blocks`.
    """
    late = table[:, settings.late :].mean(axis=1)
    alike = -np.log(np.maximum(1.0 - late, _SAME))
    spread = float(alike.std())
    deviations = (alike - alike.mean()) / spread if spread > 1e-9 else np.zeros_like(late)
    low = deviations < -settings.threshold
    order = np.argsort(late, kind="stable")
    count = int(np.clip(low.sum(), settings.at_least, settings.at_most))
    chosen = set(order[:count].tolist())
    found = []
    for index, block in enumerate(blocks):
        side = "below" if deviations[index] < 0.0 else "above"
        why = f"{abs(deviations[index]):.2f} standard deviations {side} the mean of all blocks"
        if low[index] and index not in chosen:
            why += f"; {settings.at_most} blocks are still lower, and no more are taken"
        elif index in chosen and not low[index]:
            why += f"; {settings.at_least} blocks are taken at least, lowest first"
        else:
            why += f"; style begins at {settings.threshold:g} below"
        style = index in chosen
        found.append(Judgement(block, float(late[index]), float(deviations[index]), style, why))
    return tuple(found)


def choose(
    table: NDArray[np.float64], blocks: Sequence[str], settings: BlockSettings
) -> tuple[str, ...]:
    """The style blocks by the automatic rule (see `judge`)."""
    return tuple(each.block for each in judge(table, blocks, settings) if each.style)


def soft_weights(
    table: NDArray[np.float64],
    blocks: Sequence[str],
    settings: BlockSettings,
    chosen: Sequence[str] | None = None,
) -> dict[str, float]:
    """A LoRA scale for each style block in place of a hard choice (the paper's future work).

    A block weighs nothing at the mean late similarity of all blocks, and 1 from twice the hard
    rule's `threshold` below it; on that threshold itself, one half.

    Args:
        table: (blocks, segments).
        chosen: blocks that someone named: those get at least `LEAST_WEIGHT`, and no others any.

    Returns:
        weights in (0, 1], in the order of `blocks`; those of the hard rule's lowest `at_least`
        blocks are one half at least.
    """
    judged = judge(table, blocks, settings)
    weights = {
        each.block: float(np.clip(-each.deviations / max(2.0 * settings.threshold, 1e-6), 0.0, 1.0))
        for each in judged
    }
    if chosen is not None:
        return {name: max(weights[name], LEAST_WEIGHT) for name in blocks if name in set(chosen)}
    lowest = sorted(judged, key=lambda each: each.late)[: settings.at_least]
    for each in lowest:
        weights[each.block] = max(weights[each.block], 0.5)
    return {name: weight for name, weight in weights.items() if weight >= LEAST_WEIGHT}


def named(choice: str, models: Models) -> tuple[str, ...] | None:
    """Blocks of a user's choice: "paper", "all", or names joined by commas; None for "auto".

    Raises:
        InputError: a name the base model does not have.
    """
    blocks = attention_blocks(models)
    if choice == "auto":
        return None
    if choice == "paper":
        return PAPER_BLOCKS
    if choice == "all":
        return blocks
    wanted = {name.strip() for name in choice.split(",") if name.strip()}
    unknown = sorted(wanted - set(blocks))
    if unknown or not wanted:
        raise InputError(
            f"blocks: the base model has no {', '.join(unknown) or 'block without a name'}.",
            f"Use auto, paper, all, or names out of: {', '.join(blocks)}.",
        )
    return tuple(block for block in blocks if block in wanted)


def plot(
    table: NDArray[np.float64],
    blocks: Sequence[str],
    chosen: Sequence[str],
    *,
    late: int | None = None,
) -> NDArray[np.float32]:
    """Picture of the similarities: a row a block, a column a segment, style blocks marked.

    Args:
        late: first of the segments that the rule looks at; if given, their mean is shown as well.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    cell, left, top, gap = (56, 26), 250, 58, 12
    columns = [(str(column), table[:, column]) for column in range(table.shape[1])]
    if late is not None:
        columns.append(("mean", table[:, late:].mean(axis=1)))
    width, height = left + cell[0] * len(columns) + gap + 10, top + cell[1] * len(blocks) + 10
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    draw.text((8, 8), "Self-attention: how alike design and embroidery are", "black", font)
    draw.text((8, 32), "segment, noisy to clean", "black", font)
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    for column, (title, values) in enumerate(columns):
        x = left + column * cell[0] + (gap if column == table.shape[1] else 0)
        draw.text((x + cell[0] // 2, 32), title, "black", font, anchor="ma")
        for row, value in enumerate(values):
            y = top + row * cell[1]
            share = (value - low) / (high - low) if high > low else 1.0
            colour = tuple(
                round(a + (b - a) * share) for a, b in zip((200, 40, 80), (245, 245, 245))
            )
            draw.rectangle((x, y, x + cell[0] - 2, y + cell[1] - 2), fill=colour)
            ink = "white" if share < 0.3 else "black"
            draw.text((x + cell[0] // 2, y + 4), f"{value:.2f}", ink, font, anchor="ma")
    for row, block in enumerate(blocks):
        is_style = block in chosen
        text = f"> {block}" if is_style else f"   {block}"
        place = (8, top + row * cell[1] + 4)
        draw.text(place, text, "#b3123f" if is_style else "black", font)
    if late is not None and late < table.shape[1]:
        x, end = left + late * cell[0], left + table.shape[1] * cell[0] - 2
        draw.line((x, top - 4, end, top - 4), fill="#b3123f", width=2)
    return np.asarray(image, dtype=np.float32) / np.float32(255.0)
