"""Restyling beside diffusers' own pipeline, and beside what its networks alone would take.

Both embroider the same artwork in the same untrained style, in the same number of steps from the
bare design; then ours does it as users get it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLControlNetImg2ImgPipeline
from numpy.typing import NDArray

from backend.emolora.adapter import Adapter
from backend.evaluation.bench import artwork
from backend.evaluation.bench_training import device_name, drawn_pair
from backend.evaluation.cost import Cost, matrix_rate, measured, operations
from backend.imaging import edges
from backend.jobs import Progress, RestyleJob
from backend.models import profiles
from backend.models.loading import Models, default_device, load
from backend.models.prediction import control, predict
from backend.models.settings import PAPER_BLOCKS
from backend.restyle.autoencode import to_tensor
from backend.restyle.conditions import Conditions
from backend.restyle.denoise import make_scheduler
from backend.restyle.image import passes, restyle
from backend.styles import BaseModel, Prompts, Style

__all__ = ["PLAIN_MOST", "Restyled", "bench_restyling", "to_text"]

# Largest side that diffusers' pipeline is asked for: it looks at the whole picture at once.
PLAIN_MOST = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Restyled:
    """One size of picture.

    Attributes:
        side: of the square picture, pixels.
        passes: how often the UNet looks at each cell of the picture, at least.
        floor: seconds that its operations and the ControlNets' take at the machine's matrix rate.
        ours: from the bare design; `networks` are the seconds within UNet and ControlNets, whose
            first look at the design is a part of them.
        plain: diffusers' pipeline doing the same; None where the picture is too large for it.
        usual: ours as users get it.
        usual_passes, usual_floor: as above.
    """

    side: int
    passes: int
    floor: float
    ours: Cost
    plain: Cost | None
    usual_passes: int
    usual_floor: float
    usual: Cost


def bench_restyling(
    name: str, sizes: Sequence[int], steps: int | None = None, base: str | None = None
) -> Generator[Progress, None, list[Restyled]]:
    """Time all on square pictures of these sides.

    Args:
        steps: of the whole noise schedule; the profile's if absent.
    """
    profile = profiles.get(name)
    yield Progress(stage="loading", step=0, steps=1)
    models = load(profile, base=base)
    style = _style(models)
    plain = _pipeline(load(replace(profile, cpu_dtype="float32"), base=base), style)
    yield Progress(stage="loading", step=1, steps=1)
    device, found = models.device, []
    ours = RestyleJob(style="style", input="artwork", out="out", start="design", steps=steps)
    usual = replace(ours, start="auto", steps=None)
    of_all = steps or profile.inference.steps
    once_each, usually = (passes(models, style, job) for job in (ours, usual))
    controls = (models.controlnet_canny, models.controlnet_tile)
    looks = (each.controlnet_cond_embedding.look for each in controls)
    networks = (models.unet, *controls, *looks)
    # Whatever is set up once is not part of any size.
    small = _artwork(profile.window)
    yield from restyle(models, style, small, None, replace(ours, steps=1))
    each_window = _operations(models, style, small)
    for side in sizes:
        rgba = _artwork(side)
        with measured(device, networks) as spent:
            yield from restyle(models, style, rgba, None, ours)
        with measured(device, networks) as usually_spent:
            yield from restyle(models, style, rgba, None, usual)
        plainly = None
        if side <= PLAIN_MOST:
            with measured(device) as plainly:
                plain(rgba, of_all)
        yield Progress(stage="plainly", step=1, steps=1)
        once = each_window * (side / profile.window) ** 2 / matrix_rate(device, models.dtype)
        found.append(
            Restyled(
                side=side,
                passes=once_each,
                floor=once * once_each,
                ours=spent,
                plain=plainly,
                usual_passes=usually,
                usual_floor=once * usually,
                usual=usually_spent,
            )
        )
    return found


def to_text(found: Sequence[Restyled]) -> str:
    """A table for the terminal."""
    rows = [
        device_name(default_device()),
        f"{'pixels':<13}{'passes':>16}{'floor':>10}{'networks':>10}{'in all':>10}"
        f"{'÷ floor':>9}{'÷ networks':>12}{'Mpx/s':>9}{'memory':>10}{'B/px':>6}",
    ]
    for each in found:
        size = f"{each.side} × {each.side}"
        both = (
            (f"{each.passes} from design", each.floor, each.ours),
            (f"{each.usual_passes} as usual", each.usual_floor, each.usual),
        )
        for name, floor, cost in both:
            rows.append(
                f"{size:<13}{name:>16}{floor:>8.1f} s{cost.networks:>8.1f} s{cost.seconds:>8.1f} s"
                f"{cost.seconds / floor:>8.2f}×{cost.seconds / cost.networks:>11.2f}×"
                f"{_rate(cost, each.side):>9.3f}" + _memory(cost, each.side)
            )
        if each.plain is None:
            rows.append(f"{size:<13}{'diffusers':>16}   left out: it takes the picture as a whole")
        else:
            rows.append(
                f"{size:<13}{'diffusers':>16}{each.floor:>8.1f} s{'':>10}"
                f"{each.plain.seconds:>8.1f} s{each.plain.seconds / each.floor:>8.2f}×{'':>12}"
                f"{_rate(each.plain, each.side):>9.3f}"
                + _memory(each.plain, each.side)
                + f"   ours is {each.plain.seconds / each.ours.seconds:.1f} times as fast"
            )
    return "\n".join(rows + _growth(found))


def _growth(found: Sequence[Restyled]) -> list[str]:
    """How time and memory grow from the smallest picture to the largest."""
    small, large = (pick(found, key=lambda each: each.side) for pick in (min, max))
    if small.side == large.side:
        return []
    rows = [f"from {small.side} to {large.side} px, {(large.side / small.side) ** 2:.1f} times:"]
    for name, less, more in (
        ("from design", small.ours, large.ours),
        ("as usual", small.usual, large.usual),
    ):
        ratio = _rate(less, small.side) / _rate(more, large.side)
        row = f"  {name}: {ratio:.2f} times the time per megapixel"
        if less.memory is not None and more.memory is not None:
            each = (more.memory - less.memory) / (large.side**2 - small.side**2)
            row += f", {each:.0f} bytes of memory for each pixel more"
        rows.append(row)
    return rows


def _rate(cost: Cost, side: int) -> float:
    """Megapixels a second."""
    return side**2 / 1e6 / cost.seconds


def _memory(cost: Cost, side: int) -> str:
    if cost.memory is None:
        return f"{'—':>10}{'—':>6}"
    return f"{cost.memory / 2**20:>6.0f} MiB{cost.memory / side**2:>6.0f}"


def _artwork(side: int) -> NDArray[np.float32]:
    return np.dstack([artwork(side), np.ones((side, side))]).astype(np.float32)


def _operations(models: Models, style: Style, rgba: NDArray[np.float32]) -> float:
    """Of one pass of the UNet and the ControlNets over one window."""
    side = models.profile.window // models.factor
    latents = torch.zeros((1, int(models.unet.config.in_channels), side, side))
    latents = latents.to(models.device, models.dtype)
    text = models.encode_prompts([style.prompts.embroidery])
    controls = Conditions(models, rgba[..., :3], models.profile.flat)(((0, 0),))

    def once() -> None:
        with torch.no_grad():
            said = None if controls is None else control(models, latents, 500, text, controls)
            predict(models, latents, 500, text, said)

    return operations(once)


def _pipeline(models: Models, style: Style) -> Callable[[NDArray[np.float32], int], object]:
    """Diffusers' own way to embroider (H, W, 4) artwork in so many steps."""
    for network in (models.unet, models.vae, models.controlnet_canny, models.controlnet_tile):
        torch.nn.utils.convert_conv2d_weight_memory_format(network, torch.contiguous_format)
    inference, kind = models.profile.inference, models.profile.flat
    pipeline: Any = StableDiffusionXLControlNetImg2ImgPipeline(
        vae=models.vae,
        text_encoder=models.text_encoder,
        text_encoder_2=models.text_encoder_2,
        tokenizer=models.tokenizer,
        tokenizer_2=models.tokenizer_2,
        unet=models.unet,
        controlnet=[models.controlnet_canny, models.controlnet_tile],
        scheduler=models.scheduler,
    )
    pipeline.load_lora_weights({name: value.clone() for name, value in style.weights.items()})
    pipeline.set_progress_bar_config(disable=True)

    def embroider(rgba: NDArray[np.float32], steps: int) -> object:
        rgb = rgba[..., :3]
        outline = np.repeat(edges.canny(rgb)[..., None], 3, axis=2)
        pipeline.scheduler = make_scheduler(models, steps)
        return pipeline(
            prompt=style.prompts.embroidery,
            negative_prompt=inference.negative,
            image=to_tensor(rgb),
            control_image=[
                to_tensor(outline),
                to_tensor(edges.tile_condition(rgb, models.profile.window)),
            ],
            strength=kind.strength,
            num_inference_steps=steps,
            guidance_scale=inference.guidance,
            controlnet_conditioning_scale=[kind.canny_scale, kind.tile_scale],
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        )

    return embroider


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
