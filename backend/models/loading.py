"""A base model in memory: its networks, and the ways to ask them.

Where the networks are read from, `sources` says; where they lie in memory, `residence`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from backend.errors import ProfileError
from backend.models import profiles
from backend.models.designer import Designer
from backend.models.products import halve, has_bfloat16
from backend.models.profiles import Profile
from backend.models.residence import Residence
from backend.models.sources import CONTROLNETS, Source, is_path
from backend.models.upsampling import quicken

__all__ = [
    "Hint",
    "Models",
    "TextEmbedding",
    "default_device",
    "is_available",
    "is_mixed",
    "load",
    "precision",
    "tile",
]

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    # What networks are given and say; their weights are halved, see `products`.
    "mixed": torch.float32,
}
# A power of two, so that it comes out exactly; small gradients would be zero in half precision.
_HALF_LOSS_SCALE = 2.0**12


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
    """A loaded base model, in evaluation mode, without gradients.

    Attributes:
        designer: where the networks are that draw designs in its stead; they are not loaded.
        composer: folder of what draws from words in its stead; it is not loaded.
    """

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
    residence: Residence
    known_fingerprint: str = ""
    designer: Designer | None = None
    composer: Path | None = None

    @property
    def factor(self) -> int:
        """Pixels per latent cell, 8 for all known models."""
        factor: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return factor

    @property
    def loss_scale(self) -> float:
        """What a loss is multiplied by on its way back, and its gradients divided by."""
        return _HALF_LOSS_SCALE if self.dtype == torch.float16 else 1.0

    def encode_prompts(self, prompts: list[str]) -> TextEmbedding:
        """Both text encoders' view of prompts; what exceeds their length is cut off."""
        hidden, pooled = [], None
        for name, tokenizer, encoder in (
            ("text_encoder", self.tokenizer, self.text_encoder),
            ("text_encoder_2", self.tokenizer_2, self.text_encoder_2),
        ):
            self.residence.need(name)
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
        self.residence.need("vae")
        with torch.no_grad():
            pixels = (rgb * 2.0 - 1.0).to(self.device, self.vae.dtype)
            latents = self.vae.encode(pixels).latent_dist.mode()
        scaled: torch.Tensor = latents.float() * self.vae.config.scaling_factor
        return scaled

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """rgb (B, 3, 8H, 8W) in [0, 1], float32, of scaled latents (B, C, H, W)."""
        self.residence.need("vae")
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
        return self.known_fingerprint or _fingerprint(self.unet)


def _fingerprint(unet: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(unet.state_dict().items()):
        if "lora_" in name:
            continue
        # Rounded as coarsely as float32 and bfloat16 both can be.
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
    if source is not None and is_path(source):
        return Path(source).is_file() or (Path(source) / "unet" / "config.json").is_file()
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
    profile: Profile | str,
    *,
    base: str | None = None,
    device: str | torch.device | None = None,
    base_config: str | None = None,
    offline: bool = False,
) -> Models:
    """Load all networks of a profile.

    Args:
        base: folder, hub id or .safetensors checkpoint in place of the profile's base model.
            ControlNets are taken from the folder, or from beside the checkpoint, if they lie
            there, else from the profile.
        device: where to compute; a GPU if there is one.
        base_config: folder or hub id with the configuration that goes with a checkpoint; the
            profile's own base on the hub if absent.
        offline: use only what is on this machine.

    Raises:
        ProfileError: weights are missing, damaged or cannot be downloaded.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    profile = profiles.get(profile) if isinstance(profile, str) else profile
    where = torch.device(device) if device is not None else default_device()
    dtype = precision(profile, where)
    source = Source.of(profile, base, base_config, offline=offline)
    # What was rounded to float16 cannot be rounded to bfloat16 as if it had not been.
    known = _fingerprint(source.unet(torch.bfloat16)) if dtype == torch.float16 else ""
    parts = source.read(dtype)
    if parts["scheduler"].config.prediction_type not in ("epsilon", "v_prediction"):
        raise ProfileError(
            f"{source.base}: prediction type {parts['scheduler'].config.prediction_type!r} is "
            "unknown.",
            "Use a base model that predicts noise or velocity.",
        )
    for name in CONTROLNETS:
        parts[name].controlnet_cond_embedding = Hint(parts[name].controlnet_cond_embedding)
    if where.type == "cpu":
        quicken(parts["vae"])
    networks = {key: part for key, part in parts.items() if isinstance(part, torch.nn.Module)}
    halved = is_mixed(profile, where)
    for name, part in networks.items():
        part.requires_grad_(False).eval()
        if halved and name in ("unet", *CONTROLNETS):
            halve(part)
        if where.type != "mps":
            # Spares convolutions a reordering of all that they are given.
            torch.nn.utils.convert_conv2d_weight_memory_format(part, torch.channels_last)
    if profile.vae_tiling:
        tile(parts["vae"], profile.window // 2)
    return Models(
        profile=profile,
        device=where,
        dtype=dtype,
        base=_identity(profile, base),
        residence=Residence(networks, where, profile.offload),
        known_fingerprint=known,
        composer=source.composer,
        **parts,
    )


def tile(vae: Any, side: int) -> None:
    """Let the autoencoder work in overlapping tiles of `side` pixels, row by row."""
    vae.enable_slicing()
    vae.enable_tiling()
    vae.tile_sample_min_size = side
    vae.tile_latent_min_size = side // 2 ** (len(vae.config.block_out_channels) - 1)


def precision(profile: Profile, where: torch.device) -> torch.dtype:
    """The profile's arithmetic; without bfloat16, float32 on a CPU, float16 on a GPU."""
    if where.type == "cpu":
        found, able = _DTYPES[profile.cpu_dtype], has_bfloat16
    else:
        found, able = _DTYPES[profile.gpu_dtype], lambda: _gpu_has_bfloat16(where)
    if found != torch.bfloat16 or able():
        return found
    return torch.float32 if where.type == "cpu" else torch.float16


def is_mixed(profile: Profile, where: torch.device) -> bool:
    """Whether UNet and ControlNets hold weights in bfloat16 in the midst of float32."""
    return where.type == "cpu" and profile.cpu_dtype == "mixed" and has_bfloat16()


def _gpu_has_bfloat16(where: torch.device) -> bool:
    if where.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return where.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def _identity(profile: Profile, base: str | None) -> str:
    """What a style records as its base: a hub id, or the profile's or folder's bare name."""
    if base is not None:
        return Path(base).name if is_path(base) else base
    return profile.hub.base if profile.hub else profile.name
