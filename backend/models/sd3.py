"""Stable Diffusion 3 with two ControlNets in memory, and the ways to ask it (paper, section 3.1).

It is there to draw designs, for a moment each time, so its networks take turns on the device in
every memory mode: words, pictures, denoising. At half precision the largest turn is T5's, 8.9 GiB
of weights, where it is installed; then that of transformer and ControlNets, 5.8 GiB. Where networks
come one at a time (memory mode 8) T5 is left out, for it would not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3MultiControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
)
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from backend.errors import ProfileError
from backend.models.designer import Designer
from backend.models.loading import TextEmbedding, precision, tile
from backend.models.profiles import Profile
from backend.models.quiet import quiet
from backend.models.residence import Residence
from backend.models.sources import Source

__all__ = ["SD3", "load"]

_NETWORKS = {
    "transformer": SD3Transformer2DModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModelWithProjection,
    "text_encoder_2": CLIPTextModelWithProjection,
}
_PLAIN = {
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "scheduler": FlowMatchEulerDiscreteScheduler,
}
# What a ControlNet has in common with its transformer.
_SHARED = ("in_channels", "patch_size", "joint_attention_dim", "pooled_projection_dim")
_PHASES = (
    ("text_encoder", "text_encoder_2"),
    ("text_encoder_3",),
    ("vae",),
    ("transformer", "controlnet_canny", "controlnet_tile"),
)


@dataclass(frozen=True, slots=True)
class SD3:
    """The networks, without gradients, in diffusers' own pipeline."""

    pipeline: Any
    residence: Residence
    device: torch.device
    dtype: torch.dtype

    @property
    def cell(self) -> int:
        """Pixels that sides of pictures must be multiples of, 16."""
        return int(self.pipeline.vae_scale_factor * self.pipeline.transformer.config.patch_size)

    def fits(self, prompt: str) -> bool:
        """Whether the CLIP encoders read a prompt to its end."""
        words = self.pipeline.tokenizer(prompt, verbose=False).input_ids
        return len(words) <= self.pipeline.tokenizer_max_length

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> TextEmbedding:
        """All text encoders' view of prompts; where T5 is absent, zeros are in its place."""
        with quiet():  # CLIP reads less than T5, which is known
            hidden, _, pooled, _ = self.pipeline.encode_prompt(
                prompts, None, None, self.device, do_classifier_free_guidance=False
            )
        return TextEmbedding(hidden.to(self.dtype), pooled.to(self.dtype))

    @torch.no_grad()
    def encode_condition(self, rgb: torch.Tensor) -> torch.Tensor:
        """What a ControlNet is given of a picture (1, 3, H, W) in [0, 1]: latents (1, C, h, w).

        The posterior's mode, no sample: the same picture gives the same condition.
        """
        self.residence.need("vae")
        vae = self.pipeline.vae
        latents = vae.encode((rgb * 2.0 - 1.0).to(self.device, vae.dtype)).latent_dist.mode()
        # InstantX trained theirs without the shift, as diffusers' pipeline knows, too.
        shift = 0.0 if self._without_pooled else vae.config.shift_factor
        scaled: torch.Tensor = (latents - shift) * vae.config.scaling_factor
        return scaled

    @torch.no_grad()
    def velocity(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        conditions: list[torch.Tensor],
        scales: list[float],
    ) -> torch.Tensor:
        """The predicted velocity (B, C, h, w), float32, under both ControlNets.

        Args:
            latents: (B, C, h, w).
            timestep: of the scheduler, one number.
            text: B rows.
            conditions, scales: of the ControlNets Canny and Tile, (1, C, h, w) each.
        """
        rows = latents.to(self.dtype)
        count = rows.shape[0]
        times = timestep.to(self.device).expand(count)
        given = torch.zeros_like(text.pooled) if self._without_pooled else text.pooled
        added = self.pipeline.controlnet(
            hidden_states=rows,
            timestep=times,
            encoder_hidden_states=text.hidden,
            pooled_projections=given,
            controlnet_cond=[each.expand(count, -1, -1, -1) for each in conditions],
            conditioning_scale=scales,
            return_dict=False,
        )[0]
        velocity = self.pipeline.transformer(
            hidden_states=rows,
            timestep=times,
            encoder_hidden_states=text.hidden,
            pooled_projections=text.pooled,
            block_controlnet_hidden_states=added,
            return_dict=False,
        )[0]
        return velocity.float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """rgb (B, 3, H, W) in [0, 1], float32, of latents (B, C, h, w)."""
        self.residence.need("vae")
        vae = self.pipeline.vae
        scaled = latents / vae.config.scaling_factor + vae.config.shift_factor
        rgb = vae.decode(scaled.to(self.device, vae.dtype)).sample
        return (rgb.float() / 2.0 + 0.5).clamp(0.0, 1.0)

    @property
    def _without_pooled(self) -> bool:
        return bool(self.pipeline.controlnet.nets[0].config.force_zeros_for_pooled_projection)


def load(found: Designer, profile: Profile, device: torch.device) -> SD3:
    """Read all networks from this machine; they come to the device when they are asked.

    Args:
        profile: whose arithmetic and memory mode they keep to.

    Raises:
        ProfileError: weights are damaged, or do not fit together.
    """
    dtype = precision(profile, device)
    source = Source(profile, str(found.base), str(found.base), offline=True)
    parts = {name: source.component(kind, name, dtype) for name, kind in _NETWORKS.items()}
    parts |= {name: source.component(kind, name, None) for name, kind in _PLAIN.items()}
    parts |= {"text_encoder_3": None, "tokenizer_3": None}
    with_t5 = (found.base / "text_encoder_3" / "config.json").is_file()
    if with_t5 and profile.offload != "network":
        parts["text_encoder_3"] = source.component(T5EncoderModel, "text_encoder_3", dtype)
        parts["tokenizer_3"] = source.component(T5TokenizerFast, "tokenizer_3", None)
    controlnets = {}
    for name, folder in (("controlnet_canny", found.canny), ("controlnet_tile", found.tile)):
        place = Source(profile, str(folder), str(folder), offline=True)
        controlnets[name] = place.component(SD3ControlNetModel, "", dtype)
    _check(parts, controlnets, found)
    networks = {
        name: part
        for name, part in {**parts, **controlnets}.items()
        if isinstance(part, torch.nn.Module)
    }
    if profile.vae_tiling:
        tile(parts["vae"], profile.window // 2)
    offload = "network" if profile.offload == "network" else "phase"
    residence = Residence(networks, device, offload, _PHASES)
    for name, part in networks.items():
        part.requires_grad_(False).eval()
        part.register_forward_pre_hook(partial(_bring, residence, name))
    pipeline = StableDiffusion3ControlNetPipeline(
        **parts, controlnet=SD3MultiControlNetModel(list(controlnets.values()))
    )
    return SD3(pipeline, residence, device, dtype)


def _bring(residence: Residence, name: str, *_: object) -> None:
    residence.need(name)


def _check(parts: Mapping[str, Any], controlnets: Mapping[str, Any], found: Designer) -> None:
    """Refuse parts of different models, before a tensor's shape does in other words."""
    transformer = parts["transformer"]
    if parts["vae"].config.latent_channels != transformer.config.in_channels:
        raise ProfileError(
            f"{found.base}: autoencoder and transformer belong to different models.",
            "Copy the folder again, as a whole.",
        )
    for name, controlnet in controlnets.items():
        same = all(controlnet.config[key] == transformer.config[key] for key in _SHARED)
        if not same or controlnet.inner_dim != transformer.inner_dim:
            folder = found.canny if name == "controlnet_canny" else found.tile
            raise ProfileError(
                f"{folder}: this ControlNet belongs to another model than {found.base}.",
                "Give one that was made for Stable Diffusion 3 medium.",
            )
