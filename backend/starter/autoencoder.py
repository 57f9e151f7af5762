"""Training of the autoencoder: crops of designs, textiles and random textures, edges weighted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from backend.starter.data import Corpus
from backend.starter.training import halved

__all__ = ["autoencoder_loss", "psnr", "random_textures", "reconstruction_loss"]

_KL = 1e-6
_TEXTURE_SHARE = 0.15
_UNSURE = 0.15  # most noise that a decoder trained alone gets, in standard deviations of latents


def autoencoder_loss(
    vae: AutoencoderKL,
    corpus: Corpus,
    *,
    batch: int = 4,
    crop: int = 128,
    device: str = "cpu",
    decoder: bool = False,
) -> Callable[[torch.Generator], Tensor]:
    """The loss of one random batch, for `training.fit`.

    Args:
        vae: the autoencoder.
        corpus: training pictures; textiles are drawn three times as often as flat designs.
        batch: crops a step.
        crop: side of a crop in pixels.
        device: where `vae` is.
        decoder: train the decoder alone, so that latents stay what the UNet knows; every second
            batch is one whole picture, and latents are a little noisy, as the UNet's are.
    """

    def loss(generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        if decoder and rng.random() < 0.5:
            crops = [_whole(corpus, rng)]
        else:
            crops = [_crop(corpus, crop, rng) for _ in range(batch)]
        pictures = torch.stack(crops).to(device, memory_format=torch.channels_last) * 2 - 1
        with halved(device):
            with torch.set_grad_enabled(not decoder):
                posterior = vae.encode(pictures).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
            spread = rng.uniform(0, _UNSURE) * posterior.mean.std() if decoder else posterior.std
            decoded = vae.decode(posterior.mean + spread * noise).sample
        loss = reconstruction_loss(decoded.float(), pictures)
        return loss if decoder else loss + _KL * posterior.kl().mean()

    return loss


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 of colours and, at full and half size, of differences between neighbours.

    The second part keeps stitches from being averaged away.

    Args:
        decoded, pictures: (B, 3, H, W) in [-1, 1].
    """
    error = decoded - pictures
    total = error.abs().mean()
    for weight in (1.0, 0.5):
        total = total + weight * error.diff(dim=-1).abs().mean()
        total = total + weight * error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return total


def psnr(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in decibels; both (B, 3, H, W) in [0, 1]."""
    return -10 * torch.log10((decoded - pictures).pow(2).mean(dim=(1, 2, 3)))


def random_textures(rng: np.random.Generator, crop: int) -> Tensor:
    """A (3, crop, crop) picture of noise and gratings of any scale, so unseen stitches survive."""
    y, x = np.mgrid[:crop, :crop]
    field = np.zeros((crop, crop))
    for _ in range(int(rng.integers(1, 4))):
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, 20)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        field += rng.uniform(0, 1) * (np.sign(wave) * np.abs(wave) ** rng.uniform(0.3, 2))
    cells = max(2, int(crop / rng.uniform(2, 10)))
    coarse = torch.from_numpy(rng.normal(0, 1, (1, 1, cells, cells)))
    noise = F.interpolate(coarse, (crop, crop), mode="bicubic")[0, 0].numpy()
    field = field + rng.uniform(0, 1) * noise
    first, second = rng.uniform(0, 1, (2, 3, 1, 1))
    mix = 1 / (1 + np.exp(-field * rng.uniform(0.5, 3)))
    return torch.from_numpy(first + (second - first) * mix).float()


def _whole(corpus: Corpus, rng: np.random.Generator) -> Tensor:
    """A textile as it lies on the latent grid: by the book, all its cells are alike."""
    picture = np.asarray(corpus.textiles[int(rng.integers(len(corpus.textiles)))])
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1) / 255


def _crop(corpus: Corpus, crop: int, rng: np.random.Generator) -> Tensor:
    if rng.random() < _TEXTURE_SHARE:
        return random_textures(rng, crop)
    pictures = corpus.flats if rng.random() < 0.2 else corpus.textiles
    full = pictures.shape[1]
    taken = min(full, int(crop * rng.choice([1.0, 1.0, rng.uniform(0.7, 1.5)])))
    y, x = (int(n) for n in rng.integers(0, full - taken + 1, 2))
    piece = np.array(pictures[int(rng.integers(len(pictures))), y : y + taken, x : x + taken])
    if rng.random() < 0.5:
        piece = piece.transpose(1, 0, 2)
    if rng.random() < 0.3:
        piece = piece[..., rng.permutation(3)]
    tensor = torch.from_numpy(np.ascontiguousarray(piece)).permute(2, 0, 1).float() / 255
    if taken != crop:
        tensor = F.interpolate(tensor[None], (crop, crop), mode="bilinear", antialias=True)[0]
    return tensor
