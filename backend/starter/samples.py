"""Look at a model: textiles drawn over designs it has not seen, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backend.imaging.edges import canny, tile_condition
from backend.imaging.files import write_png
from backend.starter.architecture import Components
from backend.starter.autoencoder import psnr
from backend.starter.data import Sample
from backend.starter.designs import Design
from backend.starter.diffusion import encode_text, size_ids
from backend.starter.stitches import book_look, render
from backend.starter.stitches.book import BOOK, CELL

__all__ = ["band_energy", "detail", "recognised", "reconstructed", "redraw", "sheet", "survey"]

Picture = npt.NDArray[np.float32]


@torch.no_grad()
def redraw(
    parts: Components,
    flat: npt.NDArray[np.floating],
    captions: Sequence[str],
    *,
    strength: float = 1.0,
    steps: int = 6,
    scales: tuple[float, float] = (0.5, 0.5),
    seed: int = 0,
) -> Picture:
    """Noise a design and denoise it under each caption (the paper, section 4).

    Every estimate of z_0 is noised anew for the next step (multistep sampling; Song et al., 2023,
    "Consistency Models", algorithm 1): DDIM, which keeps its noise, let a small model's errors add
    up to blotches.

    Args:
        parts: the model; its autoencoder's `scaling_factor` must be set.
        flat: (H, W, 3) in [0, 1].
        captions: one picture each.
        strength: share of the schedule that is redone.
        steps: of the whole schedule.
        scales: of Canny and Tile.
        seed: of the noise, the same for all captions.

    Returns:
        (B, H, W, 3) in [0, 1].
    """
    vae, batch = parts["vae"], len(captions)
    scale = float(vae.config["scaling_factor"])
    pixels = _to_torch(flat)
    z = vae.encode(pixels * 2 - 1).latent_dist.mode() * scale
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(z.shape, generator=generator)
    alphas = parts["scheduler"].alphas_cumprod
    times = [round(len(alphas) * strength * (steps - n) / steps) - 1 for n in range(steps)]
    z = (alphas[times[0]].sqrt() * z + (1 - alphas[times[0]]).sqrt() * noise).repeat(batch, 1, 1, 1)
    hidden, pooled = encode_text(parts, list(captions))
    text: dict[str, Any] = {
        "encoder_hidden_states": hidden,
        "added_cond_kwargs": {
            "text_embeds": pooled,
            "time_ids": size_ids(batch, flat.shape[0]),
        },
    }
    edges = np.repeat(canny(flat)[..., None], 3, axis=2)
    pictures = (edges, tile_condition(flat, flat.shape[0]))
    for index, t in enumerate(times):
        velocity = _predict(parts, z, t, text, pictures, scales)
        now = alphas[t]
        then = alphas[times[index + 1]] if index + 1 < steps else torch.tensor(1.0)
        clean = now.sqrt() * z - (1 - now).sqrt() * velocity
        noise = torch.randn(noise.shape, generator=generator)
        z = then.sqrt() * clean + (1 - then).sqrt() * noise
    decoded = vae.decode(z / scale).sample / 2 + 0.5
    return np.asarray(decoded.clamp(0, 1).permute(0, 2, 3, 1).numpy(), np.float32)


def _predict(
    parts: Mapping[str, Any],
    z: Tensor,
    t: int,
    text: dict[str, Any],
    pictures: tuple[Picture, Picture],
    scales: tuple[float, float],
) -> Tensor:
    down: list[Tensor] = []
    middle: Tensor | None = None
    for name, picture, scale in zip(("canny", "tile"), pictures, scales):
        if scale == 0:
            continue
        skips, bottom = parts[f"controlnet_{name}"](
            z,
            t,
            controlnet_cond=_to_torch(picture).expand(len(z), -1, -1, -1),
            conditioning_scale=scale,
            return_dict=False,
            **text,
        )
        down = [a + b for a, b in zip(down, skips)] if down else list(skips)
        middle = bottom if middle is None else middle + bottom
    controls: dict[str, Any] = {}
    if middle is not None:
        controls = {
            "down_block_additional_residuals": tuple(down),
            "mid_block_additional_residual": middle,
        }
    predicted: Tensor = parts["unet"](z, t, **text, **controls).sample
    return predicted


@torch.no_grad()
def reconstructed(parts: Components, picture: Picture) -> Picture:
    """A picture, (H, W, 3) in [0, 1], as the autoencoder gives it back."""
    latent = parts["vae"].encode(_to_torch(picture) * 2 - 1).latent_dist.mode()
    decoded = (parts["vae"].decode(latent).sample / 2 + 0.5).clamp(0, 1)
    return np.ascontiguousarray(decoded[0].permute(1, 2, 0).numpy(), np.float32)


def survey(parts: Components, samples: Sequence[Sample]) -> dict[str, float]:
    """Mean PSNR in decibels of the autoencoder on flat designs and on each textile family."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, picture in (("flat", sample.flat), (sample.family, sample.textile)):
            pixels = picture.astype(np.float32) / np.float32(255)
            same = reconstructed(parts, pixels)
            found.setdefault(name, []).append(float(psnr(_to_torch(same), _to_torch(pixels))))
    return {name: float(np.mean(values)) for name, values in found.items()}


def recognised(pictures: Mapping[str, Picture], design: Design) -> dict[str, str]:
    """To which family's true picture of a design each picture of it is nearest.

    Nearest is what correlates most, in detail finer than a latent cell and on the artwork, with
    the design sewn by the book.

    Args:
        pictures: (H, W, 3) in [0, 1] by the family that was asked for.
        design: what was to be sewn.

    Returns:
        Family asked for -> family found.
    """
    inside = cv2.erode(design.art.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    rng = np.random.default_rng(0)
    true = {
        name: detail(render(design.flat, design.art, book_look(name, rng)))[inside] for name in BOOK
    }

    def nearest(picture: Picture) -> str:
        own = detail(picture)[inside]
        return max(true, key=lambda name: float(np.corrcoef(own, true[name])[0, 1]))

    return {name: nearest(picture) for name, picture in pictures.items()}


def detail(picture: Picture) -> Picture:
    """(H, W) what of a picture's lightness is finer than a latent cell."""
    light = np.asarray(picture, np.float32).mean(-1)
    return np.asarray(light - cv2.GaussianBlur(light, (0, 0), CELL / 2), np.float32)


def band_energy(picture: npt.NDArray[Any], low: float = 1 / 12, high: float = 1 / 3) -> float:
    """RMS lightness of a picture between two spatial frequencies, in cycles a pixel.

    The default band holds threads of 3 to 12 px; a flat design has little there but outlines.

    Args:
        picture: (H, W, 3) in [0, 1].
    """
    light = np.asarray(picture, np.float64).mean(-1)
    spectrum = np.fft.fft2(light - light.mean()) / light.size
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in light.shape), indexing="ij"))
    band = (frequency >= low) & (frequency < high)
    return float(np.sqrt((np.abs(spectrum[band]) ** 2).sum()))


def sheet(rows: Sequence[Sequence[npt.NDArray[Any]]], path: Path) -> None:
    """Write pictures of equal size, in [0, 1], as one PNG grid."""
    write_png(path, np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0))


def _to_torch(picture: npt.NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
