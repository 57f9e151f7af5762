"""Starts the autoencoder as a linear codec, so that training only has to add what is missing.

A fresh autoencoder spends its first thousands of pictures on learning colours. Here the encoder
begins as the principal components of 8 × 8 patches (reached through three Haar-like steps, since
its convolutions halve the picture three times), the decoder as the mean colour of each patch, and
every residual branch as zero.

Group normalisation and SiLU stand between the last features and the latent. Both are made to act
linearly on a pair (f, -f): silu(f) - silu(-f) = f, and large constant channels in the same group
keep its scale from depending on the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import nn

__all__ = ["linear_start"]

_CONSTANT = 24.0
_LUMA_CHROMA = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
_HAAR = np.array([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 4


@torch.no_grad()
def linear_start(vae: AutoencoderKL, patches: npt.NDArray[np.float32]) -> None:
    """Set the weights of a fresh autoencoder in place.

    Args:
        vae: four levels, two normalisation groups, no attention.
        patches: (N, 3, 8, 8) of training pictures in [-1, 1].
    """
    latents = vae.config["latent_channels"]
    for module in vae.modules():
        if type(module).__name__ == "ResnetBlock2D":
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                _pass_on(module.conv_shortcut, min(module.conv_shortcut.weight.shape[:2]))
    components, mean, colours = _components(patches, latents)
    _encoder(vae, components, mean)
    _decoder(vae, colours, patches.mean((0, 2, 3)))


def _pass_on(convolution: Any, channels: int) -> None:
    """Make the first `channels` outputs copies of the first `channels` inputs."""
    middle = convolution.kernel_size[0] // 2
    convolution.weight[:channels] = 0
    convolution.bias[:channels] = 0
    index = torch.arange(channels)
    convolution.weight[index, index, middle, middle] = 1


def _haar_bands(patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(N, 3, 8, 8) → (N, 30, 2, 2): what the encoder's first two halvings leave."""
    first = _halve(np.einsum("ij,njhw->nihw", _LUMA_CHROMA, patches), range(3))
    return _halve(first, _SECOND)


# Channels after the first halving are 4 bands of Y, Cb, Cr: means 0 4 8, luma details 1 2 3.
_KEPT = ((0, 4, 8), (1, 2, 3))
_SECOND = (*_KEPT[0], *_KEPT[1])
_REST = (5, 6, 7, 9, 10, 11)


def _halve(
    maps: npt.NDArray[np.float64], channels: range | tuple[int, ...]
) -> npt.NDArray[np.float64]:
    count, _, height, width = maps.shape
    cells = maps.reshape(count, -1, height // 2, 2, width // 2, 2)
    bands = [np.einsum("nhawb,ab->nhw", cells[:, c], band) for c in channels for band in _HAAR]
    if len(channels) > 3:
        mean = _HAAR[0]
        bands += [np.einsum("nhawb,ab->nhw", cells[:, c], mean) for c in _REST]
    return np.stack(bands, 1)


def _components(
    patches: npt.NDArray[np.float32], latents: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Principal components of the bands, whitened, and the map from them to mean colours."""
    bands = _haar_bands(patches).reshape(len(patches), -1)
    mean = bands.mean(0)
    values, vectors = np.linalg.eigh(np.cov((bands - mean).T))
    best = np.argsort(values)[::-1][:latents]
    components = (vectors[:, best] / np.sqrt(values[best] + 1e-6)).T
    codes = (bands - mean) @ components.T
    target = patches.mean((2, 3)) - patches.mean((0, 2, 3))
    colours = np.linalg.lstsq(codes, target, rcond=None)[0].T
    return components, mean, colours


def _encoder(
    vae: AutoencoderKL, components: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]
) -> None:
    encoder, latents = vae.encoder, len(components)
    encoder.conv_in.weight[:3] = 0
    encoder.conv_in.bias[:3] = 0
    encoder.conv_in.weight[:3, :, 1, 1] = torch.tensor(_LUMA_CHROMA, dtype=torch.float32)
    _set_halving(encoder.down_blocks[0].downsamplers[0].conv, range(3))
    _set_halving(encoder.down_blocks[1].downsamplers[0].conv, _SECOND)
    third = encoder.down_blocks[2].downsamplers[0].conv
    taps = torch.tensor(components.reshape(latents, -1, 2, 2), dtype=torch.float32)
    third.weight[:latents] = 0
    third.weight[:latents, : taps.shape[1], :2, :2] = taps
    third.bias[:latents] = torch.tensor(-(components @ mean), dtype=torch.float32)

    fan = encoder.down_blocks[3].resnets[0].conv_shortcut
    group = fan.out_channels // 2
    fan.weight[:group] = 0
    fan.bias[:group] = 0
    index = torch.arange(latents)
    fan.weight[index, index, 0, 0] = 1
    fan.weight[index + latents, index, 0, 0] = -1
    constants = group - 2 * latents
    fan.bias[2 * latents : group] = _CONSTANT * (1 - 2 * (torch.arange(constants) % 2))
    _linear_end(encoder, group, constants)
    encoder.conv_out.weight.mul_(0.02)
    encoder.conv_out.bias.zero_()
    encoder.conv_out.weight[index, index, 1, 1] += 1
    encoder.conv_out.weight[index, index + latents, 1, 1] += -1
    encoder.conv_out.bias[latents:] = -6.0
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        _pass_on(convolution, convolution.out_channels)


def _set_halving(convolution: Any, channels: range | tuple[int, ...]) -> None:
    bands = torch.tensor(_HAAR, dtype=torch.float32)
    rows = [(c, band) for c in channels for band in bands]
    if len(channels) > 3:
        rows += [(c, bands[0]) for c in _REST]
    convolution.weight[: len(rows)] = 0
    convolution.bias[: len(rows)] = 0
    for row, (channel, band) in enumerate(rows):
        convolution.weight[row, channel, :2, :2] = band


def _linear_end(part: Any, group: int, constants: int) -> None:
    """Let the last normalisation pass its first group on unscaled."""
    part.conv_norm_out.weight[:group] = _CONSTANT * (constants / group) ** 0.5
    part.conv_norm_out.bias[:group] = 0


def _decoder(
    vae: AutoencoderKL, colours: npt.NDArray[np.float64], mean: npt.NDArray[np.float32]
) -> None:
    decoder, latents = vae.decoder, colours.shape[1]
    _pass_on(decoder.conv_in, latents)
    for block in decoder.up_blocks:
        for upsampler in block.upsamplers or ():
            _pass_on(upsampler.conv, latents)
    fan = decoder.up_blocks[3].resnets[0].conv_shortcut
    group = fan.out_channels // 2
    fan.weight[:group] = 0
    rows = torch.tensor(colours, dtype=torch.float32)
    fan.weight[0:3, :latents, 0, 0] = rows
    fan.weight[3:6, :latents, 0, 0] = -rows
    fan.bias[:group] = 0
    fan.bias[6:group] = _CONSTANT * (1 - 2 * (torch.arange(group - 6) % 2))
    _linear_end(decoder, group, group - 6)
    decoder.conv_out.weight.mul_(0.1)
    for channel in range(3):
        decoder.conv_out.weight[channel, :group] = 0
        decoder.conv_out.weight[channel, channel, 1, 1] = 1
        decoder.conv_out.weight[channel, channel + 3, 1, 1] = -1
    decoder.conv_out.bias.copy_(torch.from_numpy(np.asarray(mean, np.float32)))
