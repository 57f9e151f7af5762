"""The smallest Stable Diffusion 3 with both ControlNets, of the same classes as the real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from backend.models import profiles
from backend.models.profiles import Profile
from backend.starter.architecture import TINY
from backend.starter.vocabulary import make_tokenizer

__all__ = ["save_sd3", "tiny_sdxl_profile", "with_profile"]

_WIDTH = 16
# What transformer and ControlNets have in common.
_SIZES = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 2 * _WIDTH,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 2 * _WIDTH,
    "pos_embed_max_size": 24,
}


def save_sd3(folder: Path, *, t5: bool = False) -> Path:
    """Write one with random weights; its autoencoder is as sure of a picture as the mode is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        networks: dict[str, Any] = {
            "transformer": SD3Transformer2DModel(num_layers=2, **_SIZES),
            "controlnet_canny": _controlnet(),
            "controlnet_tile": _controlnet(),
            "vae": _autoencoder(),
        }
        tokenizer = make_tokenizer(600, 77)
        for name in ("text_encoder", "text_encoder_2"):
            networks[name] = CLIPTextModelWithProjection(
                CLIPTextConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=_WIDTH,
                    intermediate_size=32,
                    projection_dim=_WIDTH,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    max_position_embeddings=77,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            )
        if t5:
            words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("a", -2.0)]
            networks["tokenizer_3"] = T5TokenizerFast(vocab=words, extra_ids=0)
            config = T5Config(
                vocab_size=len(words), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2
            )
            networks["text_encoder_3"] = T5EncoderModel(config)
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer.save_pretrained(folder / name)
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    return folder


def _controlnet() -> SD3ControlNetModel:
    """Shaken, for a fresh one says nothing."""
    network = SD3ControlNetModel(num_layers=1, **_SIZES)
    for part in (network.controlnet_blocks, network.pos_embed_input):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def _autoencoder() -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # the logarithms of the variances
        vae.encoder.conv_out.weight[16:] = 0.0
        vae.encoder.conv_out.bias[16:] = -60.0
    return vae


def tiny_sdxl_profile() -> Profile:
    """Profile sdxl at the tiny models' window and with few steps."""
    profile = profiles.get("sdxl")
    return replace(
        profile,
        window=TINY.window,
        pair=replace(profile.pair, steps=3),
        blocks=replace(profile.blocks, steps=2, segments=2, late=1, renoise_iterations=1),
        training=replace(profile.training, rank=2, checkpoint_every=1),
        complementary=replace(profile.complementary, count=4, steps=2),
        inference=replace(profile.inference, steps=2),
    )


def with_profile(profile: Profile) -> Callable[[str], Profile]:
    """`profiles.get` that knows this one under its name, and all others as they are."""
    known = {name: profiles.get(name) for name in profiles.names()} | {profile.name: profile}
    return known.__getitem__
