"""A tiny SDXL, and the same as one checkpoint under the names of Stability AI's own networks.

Widths are tiny; all else is as in SDXL 1.0's configuration and that of ControlNets for it: kinds
and numbers of blocks, transformer layers in each (1, 2 and 10 by level, 70 in all), two encoders
of different widths, two ways to pad a prompt, noise that is predicted on SDXL's own schedule.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from backend.starter.architecture import CONTROLNETS, TINY, build, save

__all__ = ["LAYOUT", "save_checkpoint", "tiny_sdxl"]

Tensors = dict[str, torch.Tensor]
# Checkpoints tell SDXL's encoders apart by their widths, which must differ.
_WIDTHS = (8, 24)
# What SDXL's UNet and its ControlNets have in common, but for their widths.
LAYOUT: dict[str, Any] = {
    "in_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
}
_UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OPENCLIP = {
    "text_model.": "",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "final_layer_norm": "ln_final",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
}


def tiny_sdxl(folder: Path) -> dict[str, Any]:
    """Build a tiny SDXL with encoders of two widths and save it in diffusers' layout."""
    parts = build(TINY, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layout = LAYOUT | {
            "block_out_channels": TINY.unet_channels,
            "attention_head_dim": TINY.heads,
            "norm_num_groups": TINY.unet_groups,
            "cross_attention_dim": sum(_WIDTHS),
            "addition_time_embed_dim": TINY.time_width,
            "projection_class_embeddings_input_dim": 6 * TINY.time_width + _WIDTHS[1],
        }
        size = TINY.window // 8
        parts["unet"] = UNet2DConditionModel(sample_size=size, up_block_types=_UP, **layout)
        for name in CONTROLNETS:
            parts[name] = _controlnet(layout)
        parts["vae"] = AutoencoderKL.from_config(
            {
                **parts["vae"].config,
                "mid_block_add_attention": True,
                "scaling_factor": 0.13025,
            }
        )
        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        for name, kind, width in zip(("text_encoder", "text_encoder_2"), kinds, _WIDTHS):
            config = parts[name].config.to_dict()
            sizes = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width}
            parts[name] = kind(CLIPTextConfig(**{**config, **sizes})).eval()
    parts["tokenizer_2"] = copy.deepcopy(parts["tokenizer"])
    parts["tokenizer_2"].pad_token = "!"
    parts["scheduler"] = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
    )
    save(parts, folder)
    return parts


def _controlnet(layout: dict[str, Any]) -> ControlNetModel:
    """Shaken, for a fresh one says nothing."""
    network = ControlNetModel(conditioning_embedding_out_channels=TINY.control_channels, **layout)
    said = (*network.controlnet_down_blocks, network.controlnet_mid_block)
    for part in (*said, network.controlnet_cond_embedding.conv_out):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def save_checkpoint(parts: dict[str, Any], path: Path) -> None:
    """Write one file with UNet, both encoders and autoencoder."""
    tensors: Tensors = {}
    for name, value in parts["unet"].state_dict().items():
        tensors[f"model.diffusion_model.{_unet_name(name)}"] = value
    for name, value in parts["text_encoder"].state_dict().items():
        tail = name.removeprefix("text_model.")
        tensors[f"conditioner.embedders.0.transformer.text_model.{tail}"] = value
    for name, value in _openclip(parts["text_encoder_2"].state_dict()).items():
        tensors[f"conditioner.embedders.1.model.{name}"] = value
    levels = len(parts["vae"].config.block_out_channels)
    for name, value in parts["vae"].state_dict().items():
        theirs = _vae_name(name, levels)
        # Its attention is made of convolutions of one pixel.
        convolved = ".mid.attn_1." in theirs and value.ndim == 2
        tensors[f"first_stage_model.{theirs}"] = value[..., None, None] if convolved else value
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def _unet_name(name: str) -> str:
    known = DIFFUSERS_TO_LDM_MAPPING["unet"]
    for table in (known["layers"], known["addition_embed_type"]):
        if name in table:
            return str(table[name])
    if match := re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name):
        side, stage, what, place, tail = match[1], int(match[2]), match[3], int(match[4]), match[5]
        group, first = ("input_blocks", 1) if side == "down" else ("output_blocks", 0)
        if what == "downsamplers":
            return f"input_blocks.{3 * (stage + 1)}.0.op.{tail.removeprefix('conv.')}"
        if what == "upsamplers":
            return f"output_blocks.{3 * stage + 2}.2.{tail}"
        inner = _resnet(tail) if what == "resnets" else tail
        return f"{group}.{first + 3 * stage + place}.{int(what == 'attentions')}.{inner}"
    match = re.fullmatch(r"mid_block\.(\w+)\.(\d)\.(.+)", name)
    assert match is not None, name
    if match[1] == "attentions":
        return f"middle_block.1.{match[3]}"
    return f"middle_block.{2 * int(match[2])}.{_resnet(match[3])}"


def _resnet(tail: str) -> str:
    part, _, rest = tail.partition(".")
    return f"{_RESNET[part]}.{rest}"


def _vae_name(name: str, levels: int) -> str:
    table = DIFFUSERS_TO_LDM_MAPPING["vae"]
    if name in table:
        return str(table[name])
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    name = name.replace("down_blocks.", "down.").replace(".resnets.", ".block.")
    name = name.replace(".downsamplers.0.", ".downsample.").replace(".upsamplers.0.", ".upsample.")
    name = name.replace("conv_shortcut", "nin_shortcut")
    for ours, theirs in {
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }.items():
        name = name.replace(f"mid_block.attentions.0.{ours}", f"mid.attn_1.{theirs}")
    return name


def _openclip(state: Tensors) -> Tensors:
    found: Tensors = {}
    for name, value in state.items():
        theirs = name
        for ours, other in _OPENCLIP.items():
            theirs = theirs.replace(ours, other)
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif match := re.fullmatch(r"(.+\.attn)\.q_proj\.(weight|bias)", theirs):
            joined = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            found[f"{match[1]}.in_proj_{match[2]}"] = torch.cat(joined)
        elif not re.search(r"\.[kv]_proj\.", theirs):
            found[theirs] = value
    return found
