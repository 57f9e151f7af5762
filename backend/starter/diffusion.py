"""Training of UNet, text encoders and ControlNets together, on latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from backend.starter.architecture import CONTROLNETS
from backend.starter.data import TRIGGER
from backend.starter.latents import LatentCorpus
from backend.starter.training import halved

__all__ = [
    "TEXTURES",
    "TRAINED",
    "Part",
    "caption",
    "diffusion_loss",
    "encode_text",
    "size_ids",
    "weighed_error",
]

Part = Literal["all", "controlnets", "textures"]

TRAINED = ("unet", "text_encoder", "text_encoder_2", *CONTROLNETS)
"""What `diffusion_loss` gives gradients to."""

TEXTURES = TRAINED[:3]
"""Those of them that learn textiles; the ControlNets only tell the design."""

# Share of batches with no control, canny, tile, both. The scales are those of use (the paper,
# section 4: 0.5 and 0.5), so that the sum of both means what it meant in training.
_CONTROLS = (0.06, 0.08, 0.44, 0.42)
_FLAT_WORDS = ", flat design"
_FLAT_SHARE = 0.25
_NO_WORDS, _NO_SUBJECT = 0.1, 0.3
_POOLED_SUBJECT = 0.25  # share of samples whose pooled text names no textile, as in a routed pass
_SNR_LIMIT = 5.0
_FOCUS, _FOCUS_SPREAD = 0.0, 1.4  # half of the timesteps lie between 280 and 720
# Even at t = 950 a textile's repeat shows through the noise, and its name goes unread. So some
# samples start as in use (the paper, section 4): from the noised design, or from noise alone.
# Where an image starts late its noise still shows the design; pure noise is there only at the end.
_BLIND = 0.35  # share of samples
_FROM_DESIGN, _FROM_NOISE = 0.6, 0.94  # their earliest timesteps, as parts of the schedule
_FULL_EVERY = 6  # every sixth batch sees whole windows, the others quarters of them


def size_ids(batch: int, window: int) -> Tensor:
    """SDXL's size conditions (B, 6) of a whole, uncropped window."""
    return torch.tensor([[window, window, 0, 0, window, window]]).float().repeat(batch, 1)


def encode_text(
    parts: Mapping[str, Any], captions: list[str], pooled: list[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Tokens (B, L, D) of both encoders side by side, and the second's pooled text (B, P).

    The tokens are those of the last layer but one, as `StableDiffusionXLPipeline` takes them.

    Args:
        parts: text encoders and tokenizer.
        captions: B captions, which cross-attention reads.
        pooled: captions of the pooled text, if they are others.
    """
    if pooled is not None:
        hidden, both = encode_text(parts, [*captions, *pooled])
        return hidden[: len(captions)], both[len(captions) :]
    tokenizer = parts["tokenizer"]
    device = next(parts["text_encoder"].parameters()).device
    ids = tokenizer(
        captions, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids.to(device)
    first = parts["text_encoder"](ids, output_hidden_states=True)
    second = parts["text_encoder_2"](ids, output_hidden_states=True)
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    return hidden, second.text_embeds


def caption(note: Mapping[str, str], flat: bool, rng: np.random.Generator) -> str:
    """Words for a picture: sometimes none, sometimes "motif" in place of the subject.

    Args:
        note: the pair's captions.
        flat: whether the picture is the design rather than the textile.
        rng: randomness of this sample.
    """
    if rng.random() < _NO_WORDS:
        return ""
    subject = note["flat"].removesuffix(_FLAT_WORDS)
    text = subject if flat and rng.random() < 0.5 else note["flat" if flat else "textile"]
    if rng.random() < _NO_SUBJECT:
        text = text.replace(subject, "a motif")
    if not flat and TRIGGER not in text and rng.random() < 0.15:
        text = f"{text.split(',')[0]} {TRIGGER}"
    return text


def diffusion_loss(
    parts: Mapping[str, Any],
    corpus: LatentCorpus,
    *,
    batch: int = 16,
    device: str = "cpu",
    part: Part = "all",
) -> Callable[[torch.Generator], Tensor]:
    """The loss of one random batch, for `training.fit`.

    ‖v − v_θ(z_t, t, text, controls)‖² (Salimans and Ho, 2022), which weighs a wrong z_0 by SNR + 1,
    here cut off at 6 as by Hang et al. (2023). Predicting v keeps the design's colours where z_t
    is nearly noise. In some samples z_t holds the design or nothing in place of the textile, and v
    is what leads from there to it: then the caption alone tells the textile. A quarter of the
    pooled texts name none, as in a routed pass (the paper, section 3.3): so cross-attention must
    learn textiles, and there LoRA can teach new ones. Mostly on quarters of the window, since
    texture is local and they cost less.

    Args:
        parts: what `architecture.build` returned.
        corpus: latents and control pictures.
        batch: quarter windows a step; whole windows come a quarter as many.
        device: where the networks are.
        part: "all"; "controlnets", then no batch is left without one; or "textures", UNet and text
            encoders alone, at the timesteps where thread takes form.
    """
    shares = np.array(_CONTROLS) * [part != "controlnets", 1, 1, 1]
    alphas = parts["scheduler"].alphas_cumprod.to(device)
    window = corpus.tiles.shape[1]

    def loss(generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        whole = rng.integers(_FULL_EVERY) == 0
        count, side = (max(1, batch // 4), window // 8) if whole else (batch, window // 16)
        latents, designs, edges, tiles, captions, pooled_captions = _batch(corpus, count, side, rng)
        z = latents.to(device) * corpus.scale
        noise = torch.randn(z.shape, generator=generator).to(device)
        t = _timesteps(len(alphas), count, part, generator)
        start, t = _start(z, designs.to(device) * corpus.scale, t, len(alphas), rng)
        t = t.to(device)
        alpha = alphas[t].view(-1, 1, 1, 1)
        noisy = (alpha.sqrt() * start + (1 - alpha).sqrt() * noise).to(
            memory_format=torch.channels_last
        )
        velocity = (alpha.sqrt() * noisy - z) / (1 - alpha).sqrt()  # z_0 = √ᾱ z_t − √(1−ᾱ) v
        with halved(device):
            hidden, pooled = encode_text(parts, captions, pooled_captions)
            added = {"text_embeds": pooled, "time_ids": size_ids(count, window).to(device)}
            kind = int(rng.choice(len(shares), p=shares / shares.sum()))
            alone = float(rng.uniform(0.4, 1.0))
            chosen = {
                "controlnet_canny": (edges, (0.0, alone, 0.0, 0.5)[kind]),
                "controlnet_tile": (tiles, (0.0, 0.0, alone, 0.5)[kind]),
            }
            with torch.set_grad_enabled(part != "textures"):
                controls = _controls(parts, noisy, t, hidden, added, chosen)
            predicted = parts["unet"](
                noisy, t, encoder_hidden_states=hidden, added_cond_kwargs=added, **controls
            ).sample
        return weighed_error(predicted, velocity, alphas[t])

    return loss


def weighed_error(predicted: Tensor, velocity: Tensor, alphas: Tensor) -> Tensor:
    """Mean squared error of velocities (B, C, h, w), weighed by min(SNR, 5) + 1 of z_0's.

    Args:
        alphas: (B,) cumulative products of their timesteps.
    """
    error = (predicted.float() - velocity).pow(2).mean(dim=(1, 2, 3))
    snr = alphas / (1 - alphas)
    return (error * (snr.clamp(max=_SNR_LIMIT) + 1) / (snr + 1)).mean()


def _timesteps(count: int, batch: int, part: Part, generator: torch.Generator) -> Tensor:
    """(batch,) timesteps: uniform, or logit-normal (Esser et al., 2024, section 3.1)."""
    if part != "textures":
        return torch.randint(count, (batch,), generator=generator)
    normal = torch.randn((batch,), generator=generator) * _FOCUS_SPREAD + _FOCUS
    return (normal.sigmoid() * count).long().clamp(max=count - 1)


def _start(
    z: Tensor, designs: Tensor, t: Tensor, steps: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What is noised, and until when: z, or for blind samples the design or nothing, late."""
    start, t = z.clone(), t.clone()
    for row in range(len(z)):
        if rng.random() < _BLIND:
            bare = rng.random() < 0.4
            start[row] = 0 if bare else designs[row]
            earliest = _FROM_NOISE if bare else _FROM_DESIGN
            t[row] = int(rng.integers(round(earliest * steps), steps))
    return start, t


def _batch(
    corpus: LatentCorpus, count: int, side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str], list[str]]:
    latents, designs, edges, tiles, captions, pooled = [], [], [], [], [], []
    for _ in range(count):
        row = int(rng.integers(len(corpus.notes)))
        y, x = (int(n) for n in rng.integers(0, corpus.flats.shape[2] - side + 1, 2))
        flat = bool(rng.random() < _FLAT_SHARE)
        source = corpus.flats if flat else corpus.textiles
        cells = (row, slice(None), slice(y, y + side), slice(x, x + side))
        latents.append(np.asarray(source[cells], np.float32))
        designs.append(np.asarray(corpus.flats[cells], np.float32))
        crop = (row, slice(8 * y, 8 * (y + side)), slice(8 * x, 8 * (x + side)))
        edges.append(np.asarray(corpus.edges[crop], np.float32)[None].repeat(3, 0))
        tiles.append(np.asarray(corpus.tiles[crop], np.float32).transpose(2, 0, 1) / 255)
        captions.append(caption(corpus.notes[row], flat, rng))
        subject = corpus.notes[row]["flat"].removesuffix(_FLAT_WORDS)
        pooled.append(subject if rng.random() < _POOLED_SUBJECT else captions[-1])
    stacked = [torch.from_numpy(np.stack(arrays)) for arrays in (latents, designs, edges, tiles)]
    return stacked[0], stacked[1], stacked[2], stacked[3], captions, pooled


def _controls(
    parts: Mapping[str, nn.Module],
    noisy: Tensor,
    t: Tensor,
    hidden: Tensor,
    added: dict[str, Tensor],
    chosen: Mapping[str, tuple[Tensor, float]],
) -> dict[str, Any]:
    """What the chosen ControlNets, each with its picture and scale, add to the UNet's skips."""
    down: list[Tensor] = []
    middle: Tensor | None = None
    for name, (picture, scale) in chosen.items():
        if scale == 0.0:
            continue
        skips, bottom = parts[name](
            noisy,
            t,
            encoder_hidden_states=hidden,
            controlnet_cond=picture.to(noisy.device, memory_format=torch.channels_last),
            conditioning_scale=scale,
            added_cond_kwargs=added,
            return_dict=False,
        )
        down = [a + b for a, b in zip(down, skips, strict=True)] if down else list(skips)
        middle = bottom if middle is None else middle + bottom
    if middle is None:
        return {}
    return {
        "down_block_additional_residuals": tuple(down),
        "mid_block_additional_residual": middle,
    }
