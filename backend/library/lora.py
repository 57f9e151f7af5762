"""A style's LoRA under the names that other programs read.

diffusers: as the style stores it. kohya: the names of Stability AI's own UNet, as kohya's training
scripts write them for SDXL and ComfyUI, A1111 and diffusers read them. Prompt routing (paper,
section 3.2) is no property of weights and is not carried along: elsewhere every block reads the
same words.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from backend.errors import InputError, ResourceError, StyleError

if TYPE_CHECKING:
    import torch

    from backend.styles import Style

__all__ = ["export_lora", "to_kohya"]

# Every stage of SDXL's encoder has two ResNets and a sampler, of its decoder three ResNets.
_STAGE = 3
_INNER = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_LAYER = re.compile(r"unet\.(down_blocks|mid_block|up_blocks)\.(.+)\.lora_A\.weight")


def export_lora(style: Style, form: str, out: Path) -> None:
    """Write a style's weights for another program, one safetensors file.

    Args:
        form: one of `library.FORMATS`.

    Raises:
        InputError: `out` exists, or does not end in .safetensors.
        StyleError: a layer that SDXL does not have.
        ResourceError: the file cannot be written.
    """
    import safetensors.torch

    if out.suffix != ".safetensors":
        raise InputError(
            f"{out}: weights are written as safetensors.", "Let the name end in .safetensors."
        )
    if out.exists():
        raise InputError(f"{out}: there is something already.", "Give --out another name.")
    kohya = form == "kohya"
    tensors = to_kohya(style.weights) if kohya else dict(style.weights)
    temporary: str | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        os.close(handle)
        safetensors.torch.save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            temporary,
            metadata=_about(style, kohya),
        )
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
        temporary = None
    except (OSError, SafetensorError) as error:
        raise ResourceError(
            f"{out}: cannot be written ({getattr(error, 'strerror', None) or error}).",
            "Choose a folder that may be written to, on a disk with free space.",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _about(style: Style, kohya: bool) -> dict[str, str]:
    """What programs show of a LoRA: the words that wake it, its rank, its base."""
    about = {
        "format": "pt",
        "modelspec.title": style.name,
        "modelspec.date": style.created,
        "modelspec.license": style.licence_note,
        "modelspec.trigger_phrase": style.prompts.trigger,
    }
    if style.profile == "sdxl":
        about["modelspec.architecture"] = "stable-diffusion-xl-v1-base/lora"
    if kohya:
        rank = str(style.rank)
        about |= {"ss_network_module": "networks.lora", "ss_network_dim": rank}
        about |= {"ss_network_alpha": rank, "ss_output_name": style.name}
        if style.profile == "sdxl":
            about["ss_base_model_version"] = "sdxl_base_v1-0"
    return about


def to_kohya(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LoRA tensors of a UNet of SDXL's layout under kohya's names.

    A reader adds `alpha / rank · up · down`; a style adds `up · down`, so alpha is the rank.

    Args:
        weights: names as diffusers stores them, "unet.….lora_A.weight" and "…lora_B.weight".

    Raises:
        StyleError: a layer that SDXL does not have.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    for name, down in weights.items():
        if name.endswith(".lora_B.weight"):
            continue
        layer = _LAYER.fullmatch(name)
        up = weights.get(name.replace("lora_A", "lora_B"))
        if layer is None or up is None:
            raise _unknown(name)
        theirs = f"lora_unet_{_stability_name(layer[1], layer[2]).replace('.', '_')}"
        found[f"{theirs}.lora_down.weight"] = down
        found[f"{theirs}.lora_up.weight"] = up
        found[f"{theirs}.alpha"] = torch.tensor(float(down.shape[0]), dtype=down.dtype)
    return found


def _stability_name(part: str, path: str) -> str:
    """Where Stability AI's UNet has a layer that diffusers has at `part`.`path`."""
    match = re.fullmatch(r"(?:(\d+)\.)?(attentions|resnets)\.(\d+)\.(.+)", path)
    if match is None or (part == "mid_block") != (match[1] is None):
        raise _unknown(f"{part}.{path}")
    stage, place, rest = int(match[1] or 0), int(match[3]), match[4]
    attention = match[2] == "attentions"
    if not attention:
        inner, dot, tail = rest.partition(".")
        if inner not in _INNER:
            raise _unknown(f"{part}.{path}")
        rest = _INNER[inner] + dot + tail
    if part == "mid_block":
        # A ResNet, the attention, another ResNet.
        return f"middle_block.{1 if attention else 2 * place}.{rest}"
    # The encoder's first block is the convolution that takes the latents in.
    name, first = ("input_blocks", 1) if part == "down_blocks" else ("output_blocks", 0)
    return f"{name}.{first + _STAGE * stage + place}.{int(attention)}.{rest}"


def _unknown(layer: str) -> StyleError:
    return StyleError(
        f"The style's layer {layer} has no name in other programs.", "Use --format diffusers."
    )
