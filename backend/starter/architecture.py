"""The starter model's architecture: SDXL's layout and block names at a size a CPU can run.

A `StableDiffusionXLPipeline` loads the saved folder, so everything written for SDXL (LoRA files,
ControlNets, block names of the paper, section 3.2) works on the starter unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from backend.starter.colour_start import colour_start
from backend.starter.vocabulary import make_tokenizer
from backend.starter.word_start import word_start

__all__ = ["CONTROLNETS", "STARTER", "TINY", "Architecture", "Components", "build", "save"]

Components = dict[str, Any]
"""The pipeline's parts by diffusers' own names, plus the two of `CONTROLNETS`."""

CONTROLNETS = ("controlnet_canny", "controlnet_tile")

_DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
_UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
_CONTROL_GAIN = 0.5
_LOG_VARIANCE = -6.0
_TIME_IDS = 6  # original, crop and target size of SDXL's added conditions


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a starter model; names and block layout are always SDXL's.

    Attributes:
        window: pixels along a side of the pictures it is trained on.
        unet_channels: channels of the three resolution levels.
        heads: attention heads of the three levels.
        unet_groups: groups of the UNet's and the ControlNets' normalisation.
        text_width: width of each text encoder (cross-attention sees both, side by side).
        text_layers: transformer layers of each text encoder.
        text_tokens: tokens a prompt may have.
        words: tokens in the vocabulary, or fewer if the word list holds fewer.
        latent_channels: channels of the latent at an eighth of the picture's size.
        vae_channels: channels of the autoencoder's four levels.
        vae_groups: groups of the autoencoder's normalisation.
        control_channels: channels with which the ControlNets read their picture.
        time_width: width of each embedded number of the added size conditions.
    """

    window: int
    unet_channels: tuple[int, int, int]
    heads: tuple[int, int, int]
    unet_groups: int
    text_width: int
    text_layers: int
    text_tokens: int
    words: int
    latent_channels: int
    vae_channels: tuple[int, int, int, int]
    vae_groups: int
    control_channels: tuple[int, int, int, int]
    time_width: int


STARTER = Architecture(
    window=256,
    unet_channels=(64, 128, 192),
    heads=(2, 4, 6),
    unet_groups=8,
    text_width=96,
    text_layers=2,
    text_tokens=48,
    words=3072,
    latent_channels=16,
    vae_channels=(16, 36, 96, 160),
    vae_groups=2,
    control_channels=(16, 32, 64, 96),
    time_width=32,
)
"""The shipped model."""

TINY = Architecture(
    window=64,
    unet_channels=(16, 32, 32),
    heads=(1, 2, 2),
    unet_groups=8,
    text_width=16,
    text_layers=1,
    text_tokens=48,
    words=600,
    latent_channels=4,
    vae_channels=(8, 8, 16, 16),
    vae_groups=2,
    control_channels=(8, 8, 16, 16),
    time_width=8,
)
"""The same classes at a size for tests."""


def build(architecture: Architecture, seed: int) -> Components:
    """Make all parts with fresh weights.

    Args:
        architecture: sizes, usually `STARTER` or `TINY`.
        seed: of the initial weights; the global random state is left as it was.

    Returns:
        `unet`, `vae`, `text_encoder`, `text_encoder_2`, `tokenizer`, `tokenizer_2`, `scheduler`,
        `controlnet_canny` and `controlnet_tile`, all on the CPU in float32.
    """
    tokenizer = make_tokenizer(architecture.words, architecture.text_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {
            "unet": _unet(architecture),
            "vae": _autoencoder(architecture),
            "text_encoder": _text_encoder(architecture, tokenizer, CLIPTextModel),
            "text_encoder_2": _text_encoder(architecture, tokenizer, CLIPTextModelWithProjection),
            "tokenizer": tokenizer,
            "tokenizer_2": tokenizer,
            "scheduler": EulerDiscreteScheduler(
                num_train_timesteps=1000,
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type="v_prediction",
                timestep_spacing="leading",
                steps_offset=1,
            ),
            **{name: _controlnet(architecture) for name in CONTROLNETS},
        }


def save(components: Mapping[str, Any], folder: Path, *, half: bool = False) -> None:
    """Write a folder that `StableDiffusionXLPipeline.from_pretrained` reads.

    Args:
        components: what `build` returned.
        folder: made if missing; the ControlNets go into subfolders of their names.
        half: store the weights in half precision.
    """
    parts: Components = {
        name: _half(part) if half and isinstance(part, nn.Module) else part
        for name, part in components.items()
    }
    for name in CONTROLNETS:
        parts.pop(name).save_pretrained(folder / name)
    StableDiffusionXLPipeline(**parts, add_watermarker=False).save_pretrained(folder)


def _half(module: nn.Module) -> nn.Module:
    half: nn.Module = copy.deepcopy(module)
    half.to(torch.float16)
    return half


def _unet(a: Architecture) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=a.window // 8,
        in_channels=a.latent_channels,
        out_channels=a.latent_channels,
        down_block_types=_DOWN,
        up_block_types=_UP,
        mid_block_type="UNetMidBlock2DCrossAttn",
        block_out_channels=a.unet_channels,
        layers_per_block=2,
        transformer_layers_per_block=1,
        norm_num_groups=a.unet_groups,
        attention_head_dim=a.heads,
        **_conditions(a),
    )
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def _controlnet(a: Architecture) -> ControlNetModel:
    """A ControlNet that fits the UNet's skips; without attention, since the picture says it all.

    Its outputs do not begin at zero, as is usual beside a trained UNet: here both learn together,
    and the design must be heard from the first step.
    """
    controlnet = ControlNetModel(
        in_channels=a.latent_channels,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        block_out_channels=a.unet_channels,
        layers_per_block=2,
        norm_num_groups=a.unet_groups,
        attention_head_dim=a.heads,
        conditioning_embedding_out_channels=a.control_channels,
        **_conditions(a),
    )
    controlnet.controlnet_cond_embedding.conv_out.reset_parameters()
    colour_start(controlnet)
    for convolution in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        nn.init.orthogonal_(convolution.weight, gain=_CONTROL_GAIN)
    return controlnet


def _conditions(a: Architecture) -> dict[str, Any]:
    """SDXL's conditions: both encoders' tokens, the pooled text and the sizes of the picture."""
    return {
        "cross_attention_dim": 2 * a.text_width,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": a.time_width,
        "projection_class_embeddings_input_dim": _TIME_IDS * a.time_width + a.text_width,
    }


def _autoencoder(a: Architecture) -> AutoencoderKL:
    levels = len(a.vae_channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=a.vae_channels,
        layers_per_block=1,
        latent_channels=a.latent_channels,
        norm_num_groups=a.vae_groups,
        sample_size=a.window,
        scaling_factor=1.0,
        force_upcast=False,
        mid_block_add_attention=False,  # a window's latent must not depend on its far corner
    )
    with torch.no_grad():  # begin with little noise on the latent, or learning begins in the dark
        vae.quant_conv.bias[a.latent_channels :].fill_(_LOG_VARIANCE)
        for name, parameter in vae.named_parameters():
            if ".conv2." in name:  # every residual block begins as the identity
                parameter.zero_()
    return vae


def _text_encoder(a: Architecture, tokenizer: CLIPTokenizer, kind: type[Any]) -> Any:
    encoder = kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=a.text_width,
            intermediate_size=4 * a.text_width,
            projection_dim=a.text_width,
            num_hidden_layers=a.text_layers,
            num_attention_heads=max(1, a.text_width // 32),
            max_position_embeddings=a.text_tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    word_start(encoder, tokenizer.eos_token_id)
    return encoder
