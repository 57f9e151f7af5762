"""Loads a profile's networks from a folder or from the hub.

A folder has diffusers' pipeline layout (unet/, vae/, text_encoder/, text_encoder_2/, tokenizer/,
tokenizer_2/, scheduler/) with `controlnet_canny/` and `controlnet_tile/` beside. Only safetensors
are read: a pickle can run code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.schedulers import EulerDiscreteScheduler
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from backend.errors import ProfileError
from backend.models import profiles
from backend.models.profiles import Profile

__all__ = ["Hint", "Models", "TextEmbedding", "default_device", "is_available", "load"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CONTROLNETS = ("controlnet_canny", "controlnet_tile")


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """Encoded prompts.

    Attributes:
        hidden: (B, L, D), both encoders' last but one layers side by side, for cross-attention.
        pooled: (B, P), the second encoder's projected summary.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor

    def __getitem__(self, rows: Any) -> TextEmbedding:
        return TextEmbedding(self.hidden[rows], self.pooled[rows])

    def expand(self, batch: int) -> TextEmbedding:
        """The one prompt of this embedding, `batch` times."""
        return TextEmbedding(self.hidden.expand(batch, -1, -1), self.pooled.expand(batch, -1))


class Hint(torch.nn.Module):
    """A ControlNet's first look at a picture; what has been looked at passes as it is.

    It knows neither latents nor timestep, and on a CPU it takes as long as all the rest of its
    ControlNet, so whoever asks twice about a picture keeps the answer (see `prediction.hints`).
    """

    def __init__(self, look: torch.nn.Module) -> None:
        super().__init__()
        self.look = look

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) features of a picture (B, 3, H, W), or of features themselves."""
        if picture.shape[1] != 3:
            return picture
        features: torch.Tensor = self.look(picture)
        return features


@dataclass(slots=True)
class Models:
    """A loaded base model, in evaluation mode, without gradients."""

    profile: Profile
    unet: Any
    vae: Any
    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any
    scheduler: Any
    controlnet_canny: Any
    controlnet_tile: Any
    device: torch.device
    dtype: torch.dtype
    base: str

    @property
    def factor(self) -> int:
        """Pixels per latent cell, 8 for all known models."""
        factor: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return factor

    def encode_prompts(self, prompts: list[str]) -> TextEmbedding:
        """Both text encoders' view of prompts; what exceeds their length is cut off."""
        hidden, pooled = [], None
        for tokenizer, encoder in (
            (self.tokenizer, self.text_encoder),
            (self.tokenizer_2, self.text_encoder_2),
        ):
            tokens = tokenizer(
                prompts,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids.to(self.device)
            with torch.no_grad():
                output = encoder(tokens, output_hidden_states=True)
            pooled = output[0]  # the second encoder's is the one that stays
            hidden.append(output.hidden_states[-2])
        assert pooled is not None
        return TextEmbedding(torch.cat(hidden, dim=-1).to(self.dtype), pooled.to(self.dtype))

    def encode_image(self, rgb: torch.Tensor) -> torch.Tensor:
        """Scaled latents (B, C, H/8, W/8) of rgb (B, 3, H, W) in [0, 1]; the mode, no sampling.

        Latents are float32 throughout: only what a network is given has the networks' precision.
        """
        with torch.no_grad():
            pixels = (rgb * 2.0 - 1.0).to(self.device, self.vae.dtype)
            latents = self.vae.encode(pixels).latent_dist.mode()
        scaled: torch.Tensor = latents.float() * self.vae.config.scaling_factor
        return scaled

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """rgb (B, 3, 8H, 8W) in [0, 1], float32, of scaled latents (B, C, H, W)."""
        with torch.no_grad():
            scaled = latents.to(self.device, self.vae.dtype) / self.vae.config.scaling_factor
            rgb = self.vae.decode(scaled).sample
        return (rgb.float() / 2.0 + 0.5).clamp(0.0, 1.0)

    def time_ids(self, batch: int, height: int, width: int) -> torch.Tensor:
        """SDXL's size conditions (B, 6): original size, crop corner, target size, in pixels."""
        ids = torch.tensor([[height, width, 0, 0, height, width]])
        return ids.repeat(batch, 1).to(self.device, self.dtype)

    def alphas(self) -> torch.Tensor:
        """Cumulative product of alphas, ᾱ_t for t = 0…T-1, float32 on the device."""
        table: torch.Tensor = self.scheduler.alphas_cumprod
        return table.to(self.device, torch.float32)

    def fingerprint(self) -> str:
        """Identifies the UNet's weights whatever files or precision they came in (16 hex digits).

        Samples every tensor, so that a large model takes no longer than a small one.
        """
        digest = hashlib.sha256()
        for name, value in sorted(self.unet.state_dict().items()):
            if "lora_" in name:
                continue
            # Rounded as coarsely as any precision does that weights are loaded in.
            sample = value.detach().flatten()[:16].to("cpu", torch.bfloat16).float()
            digest.update(name.replace(".base_layer", "").encode())
            digest.update(str(tuple(value.shape)).encode())
            digest.update(sample.numpy().tobytes())
        return digest.hexdigest()[:16]


def default_device() -> torch.device:
    """The first GPU that torch can use, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def is_available(profile: Profile | str, *, base: str | None = None) -> bool:
    """Whether the weights are in a folder, or all in the hub's cache; reads no network."""
    profile = profiles.get(profile) if isinstance(profile, str) else profile
    source = base or (str(profile.folder) if profile.folder else None)
    if source is not None and _is_path(source):
        return (Path(source) / "unet" / "config.json").is_file()
    from huggingface_hub import try_to_load_from_cache

    if profile.hub is None:
        return False
    wanted = (
        (source or profile.hub.base, "unet/config.json"),
        (profile.hub.canny, "config.json"),
        (profile.hub.tile, "config.json"),
    )
    return all(isinstance(try_to_load_from_cache(name, file), str) for name, file in wanted if name)


def load(
    profile: Profile | str, *, base: str | None = None, device: str | torch.device | None = None
) -> Models:
    """Load all networks of a profile.

    Args:
        base: folder or hub id in place of the profile's base model. ControlNets are taken from
            the folder if they lie in it, else from the profile.
        device: where to compute; a GPU if there is one.

    Raises:
        ProfileError: weights are missing, damaged or cannot be downloaded.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    profile = profiles.get(profile) if isinstance(profile, str) else profile
    where = torch.device(device) if device is not None else default_device()
    dtype = _precision(profile, where)
    source = _source(profile, base)
    parts: dict[str, Any] = {
        name: _component(kind, source, name, dtype)
        for name, kind in {
            "unet": UNet2DConditionModel,
            "text_encoder": CLIPTextModel,
            "text_encoder_2": CLIPTextModelWithProjection,
        }.items()
    }
    parts["tokenizer"] = _component(CLIPTokenizer, source, "tokenizer", None)
    parts["tokenizer_2"] = _component(CLIPTokenizer, source, "tokenizer_2", None)
    parts["scheduler"] = _component(EulerDiscreteScheduler, source, "scheduler", None)
    own_vae = profile.hub.vae if profile.hub and not _is_path(source) else ""
    parts["vae"] = _component(AutoencoderKL, own_vae or source, "" if own_vae else "vae", dtype)
    for name in _CONTROLNETS:
        hub_name = getattr(profile.hub, name.removeprefix("controlnet_")) if profile.hub else ""
        inside = _is_path(source) and (Path(source) / name).is_dir()
        place, sub = (source, name) if inside or not hub_name else (hub_name, "")
        parts[name] = _component(ControlNetModel, place, sub, dtype)
        parts[name].controlnet_cond_embedding = Hint(parts[name].controlnet_cond_embedding)
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval().to(where)
            # Spares convolutions a reordering of all that they are given.
            torch.nn.utils.convert_conv2d_weight_memory_format(part, torch.channels_last)
    if parts["scheduler"].config.prediction_type not in ("epsilon", "v_prediction"):
        raise ProfileError(
            f"{source}: prediction type {parts['scheduler'].config.prediction_type!r} is unknown.",
            "Use a base model that predicts noise or velocity.",
        )
    return Models(
        profile=profile, device=where, dtype=dtype, base=_identity(profile, base), **parts
    )


def _precision(profile: Profile, where: torch.device) -> torch.dtype:
    """The profile's arithmetic; float32 on a CPU that has no bfloat16 of its own."""
    if where.type != "cpu":
        return _DTYPES[profile.gpu_dtype]
    found = _DTYPES[profile.cpu_dtype]
    return torch.float32 if found == torch.bfloat16 and not _cpu_has_bfloat16() else found


def _cpu_has_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _is_path(source: str) -> bool:
    return Path(source).exists() or Path(source).is_absolute() or source.startswith(".")


def _source(profile: Profile, base: str | None) -> str:
    source = base or (str(profile.folder) if profile.folder else None)
    if source is None:
        assert profile.hub is not None
        return profile.hub.base
    if _is_path(source) and not (Path(source) / "unet" / "config.json").is_file():
        remedy = (
            "Give a folder in diffusers' pipeline layout."
            if base
            else "The shipped weights are missing; install Stitchwork again."
        )
        raise ProfileError(f"{source}: no base model of profile {profile.name} here.", remedy)
    return source


def _identity(profile: Profile, base: str | None) -> str:
    """What a style records as its base: a hub id, or the profile's or folder's bare name."""
    if base is not None:
        return Path(base).name if _is_path(base) else base
    return profile.hub.base if profile.hub else profile.name


def _component(kind: Any, source: str, sub: str, dtype: torch.dtype | None) -> Any:
    options: dict[str, Any] = {"subfolder": sub} if sub else {}
    weights = dtype is not None
    if weights:
        options |= {"torch_dtype": dtype, "use_safetensors": True}
        if kind in (CLIPTextModel, CLIPTextModelWithProjection):
            options["dtype"] = options.pop("torch_dtype")
    what = f"{source}/{sub}" if sub else source
    if _is_path(source):
        folder = Path(source) / sub
        if weights and any(folder.glob("*.fp16.*")) and not any(folder.glob("*model.safetensors")):
            options["variant"] = "fp16"
        return _guarded(
            lambda: kind.from_pretrained(source, local_files_only=True, **options), what
        )
    return _guarded(lambda: _from_hub(kind, source, options, half=weights), what)


def _from_hub(kind: Any, source: str, options: dict[str, Any], *, half: bool) -> Any:
    """Half-precision files where the repository has them: they spare half the download."""
    if half:
        try:
            return kind.from_pretrained(source, variant="fp16", **options)
        except (OSError, ValueError):
            pass
    return kind.from_pretrained(source, **options)


def _guarded(read: Callable[[], Any], what: str) -> Any:
    try:
        return read()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if Path(what).exists():
            remedy = "The folder is damaged or incomplete; copy it again."
        elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
            remedy = "Unset HF_HUB_OFFLINE to download it, or give a local folder with --base."
        else:
            remedy = "Connect to the network to download it, or give a local folder with --base."
        raise ProfileError(f"{what}: cannot be loaded ({first_line}).", remedy) from error
