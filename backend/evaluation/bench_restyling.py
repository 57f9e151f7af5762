"""Restyling beside the same work done plainly: windows one by one, in float32, nothing kept.

Both embroider the same artwork in the same untrained style and take turns within one run, so that
a busy machine slows both alike.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.adapter import Adapter
from backend.evaluation.bench import artwork
from backend.evaluation.bench_training import device_name, drawn_pair
from backend.jobs import Progress, RestyleJob
from backend.models import profiles
from backend.models.loading import Models, default_device, load
from backend.models.settings import PAPER_BLOCKS
from backend.restyle.image import restyle
from backend.styles import BaseModel, Prompts, Style

__all__ = ["Restyled", "bench_restyling", "plainly", "to_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restyled:
    """One size of picture.

    Attributes:
        side: of the square picture, pixels.
        plain, ours: seconds; the median of the rounds.
        faster: how many times; the median over the rounds' pairs.
        psnr: how alike both pictures are where embroidered, dB.
        same: whether ours came out the same to the bit in every round.
    """

    side: int
    plain: float
    ours: float
    faster: float
    psnr: float
    same: bool


class _Anew(torch.nn.Module):
    """A ControlNet that looks at its picture again in every pass."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.controlnet_cond_embedding = torch.nn.Identity()

    def forward(self, *values: object, **named: object) -> object:
        return self.network(*values, **named)


def plainly(models: Models) -> Models:
    """The same networks as a plain script would run them."""
    for network in (models.unet, models.vae, models.controlnet_canny, models.controlnet_tile):
        torch.nn.utils.convert_conv2d_weight_memory_format(network, torch.contiguous_format)
    inference = replace(models.profile.inference, batch=1)
    return replace(
        models,
        profile=replace(models.profile, inference=inference),
        controlnet_canny=_Anew(models.controlnet_canny),
        controlnet_tile=_Anew(models.controlnet_tile),
    )


def bench_restyling(
    name: str, sizes: Sequence[int], rounds: int, base: str | None = None
) -> Generator[Progress, None, list[Restyled]]:
    """Time both on square pictures of these sides, and compare what they made."""
    profile = profiles.get(name)
    yield Progress(stage="loading", step=0, steps=1)
    doers = {
        "plain": plainly(load(replace(profile, cpu_dtype="float32"), base=base)),
        "ours": load(profile, base=base),
    }
    style = _style(doers["ours"])
    yield Progress(stage="loading", step=1, steps=1)
    found = []
    for side in sizes:
        rgba = np.dstack([artwork(side), np.ones((side, side))]).astype(np.float32)
        seconds: dict[str, list[float]] = {each: [] for each in doers}
        pictures: dict[str, list[NDArray[np.float32]]] = {each: [] for each in doers}
        for number in range(rounds):
            for each in doers if number % 2 == 0 else reversed(doers):
                began = time.perf_counter()
                job = RestyleJob(style="style", input="artwork", out="result")
                pictures[each].append((yield from restyle(doers[each], style, rgba, None, job)))
                seconds[each].append(time.perf_counter() - began)
        error = float(np.square(pictures["ours"][0] - pictures["plain"][0])[..., :3].mean())
        found.append(
            Restyled(
                side=side,
                plain=statistics.median(seconds["plain"]),
                ours=statistics.median(seconds["ours"]),
                faster=statistics.median(
                    plain / ours for plain, ours in zip(seconds["plain"], seconds["ours"])
                ),
                psnr=-10.0 * math.log10(max(error, 1e-12)),
                same=all(np.array_equal(each, pictures["ours"][0]) for each in pictures["ours"]),
            )
        )
    return found


def to_text(found: Sequence[Restyled]) -> str:
    """A table for the terminal."""
    rows = [device_name(default_device())]
    rows.append(f"{'pixels':<14}{'plain':>10}{'ours':>10}{'ratio':>10}{'alike':>12}")
    for each in found:
        size = f"{each.side} × {each.side}"
        rows.append(
            f"{size:<14}{each.plain:>8.1f} s{each.ours:>8.1f} s{each.faster:>9.2f}×"
            f"{each.psnr:>9.1f} dB{'' if each.same else '  NOT THE SAME TWICE'}"
        )
    return "\n".join(rows)


def _style(models: Models) -> Style:
    """What no training made: thread on a disc, and LoRA weights that change every pass."""
    training = models.profile.training
    adapter = Adapter(models, PAPER_BLOCKS, rank=training.rank, seed=0)
    weights = adapter.style_weights()
    adapter.remove()
    generator = torch.Generator().manual_seed(0)
    for name, value in weights.items():
        if name.endswith("lora_B.weight"):
            weights[name] = torch.randn(value.shape, generator=generator) * 0.02
    pair = drawn_pair(models, "heart", 0)
    return Style(
        name="untrained",
        created="",
        profile=models.profile.name,
        base=BaseModel(models.base, models.fingerprint()),
        blocks=PAPER_BLOCKS,
        prompts=Prompts(
            *models.profile.prompts(), models.profile.inference.negative, models.profile.trigger
        ),
        steps={"one": 0, "two": 0},
        seed=0,
        rank=training.rank,
        kind="flat",
        thread_width_px=models.profile.pair.thread_px,
        licence_note="",
        weights=weights,
        reference=pair.embroidery,
        design=pair.design,
        mask=pair.mask,
    )
