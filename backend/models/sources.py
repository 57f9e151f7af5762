"""Where a base model's parts are read from: a folder, the hub, or a single-file checkpoint.

A folder has diffusers' pipeline layout (unet/, vae/, text_encoder/, text_encoder_2/, tokenizer/,
tokenizer_2/, scheduler/) with `controlnet_canny/` and `controlnet_tile/` in it. A checkpoint is one
.safetensors file in Stability AI's layout, as trainers and web interfaces share them; it holds
weights only, so the configuration and the tokenizers come from a folder or from the hub's copy of
the profile's base. Only safetensors are read: a pickle can run code.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    create_diffusers_clip_model_from_ldm,
    load_single_file_checkpoint,
)
from diffusers.schedulers import EulerDiscreteScheduler
from diffusers.utils import logging
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
)

from backend.errors import ProfileError
from backend.models.motif_words import composer_in
from backend.models.profiles import Profile

__all__ = ["Source", "is_path"]

CONTROLNETS = ("controlnet_canny", "controlnet_tile")
_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
# What is only in checkpoints of other kinds.
_OTHERS = {
    "cond_stage_model.transformer.": "Stable Diffusion 1",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "joint_blocks.": "Stable Diffusion 3",
    "double_blocks.": "FLUX",
    "lora_": "a LoRA",
    "control_model.": "a ControlNet",
}
_WHOLE = "Give a whole SDXL checkpoint; a LoRA, or one of another model, cannot serve."
_ENDS = ("input_blocks.0.0", "out.2")
# What a ControlNet has in common with its UNet.
_SHARED = (
    "in_channels",
    "block_out_channels",
    "cross_attention_dim",
    "projection_class_embeddings_input_dim",
)
_PLAIN = {
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "scheduler": EulerDiscreteScheduler,
}


def is_path(source: str) -> bool:
    """Whether a base is a file or folder here, not a name on the hub."""
    looks = Path(source).is_absolute() or source.startswith(".")
    return looks or os.path.exists(source) or source.endswith((".safetensors", *_PICKLES))


@dataclass(frozen=True, slots=True)
class Source:
    """A base model's place.

    Attributes:
        base: folder, hub id or checkpoint.
        layout: folder or hub id with configuration, tokenizers and scheduler; `base` itself
            unless that is a checkpoint.
        offline: never ask the network.
    """

    profile: Profile
    base: str
    layout: str
    offline: bool = False

    @classmethod
    def of(
        cls,
        profile: Profile,
        base: str | None = None,
        layout: str | None = None,
        *,
        offline: bool = False,
    ) -> Source:
        """The place of a profile's base model, or of another base in its stead.

        Raises:
            ProfileError: nothing is there, or a file of another kind.
        """
        source = base or (str(profile.folder) if profile.folder else None)
        if source is None:
            assert profile.hub is not None
            return cls(profile, profile.hub.base, profile.hub.base, offline)
        if not is_path(source):
            return cls(profile, source, source, offline)
        path = Path(source)
        if path.suffix.lower() in _PICKLES:
            raise ProfileError(
                f"{source}: checkpoints of this kind can run code and are not read.",
                "Give a .safetensors file; most web interfaces can convert to it.",
            )
        if path.suffix.lower() == ".safetensors":
            return cls._of_checkpoint(profile, path, layout, offline)
        if not (path / "unet" / "config.json").is_file():
            remedy = (
                "Give a folder in diffusers' pipeline layout, or a .safetensors checkpoint."
                if base
                else "The shipped weights are missing; install Stitchwork again."
            )
            raise ProfileError(f"{source}: no base model of profile {profile.name} here.", remedy)
        return cls(profile, source, source, offline)

    @classmethod
    def _of_checkpoint(
        cls, profile: Profile, path: Path, layout: str | None, offline: bool
    ) -> Source:
        if not path.is_file():
            raise ProfileError(f"{path}: there is no such file.", "Check the path.")
        if layout is None and profile.hub is not None:
            layout = profile.hub.base
        if layout is None or (is_path(layout) and not (Path(layout) / "unet").is_dir()):
            raise ProfileError(
                f"{path}: a checkpoint needs a configuration, "
                f"{'and none is given' if layout is None else f'which is not in {layout}'}.",
                "Give --base-config a folder in diffusers' pipeline layout; weights need not "
                "be in it.",
            )
        return cls(profile, str(path), layout, offline)

    @property
    def is_checkpoint(self) -> bool:
        """Whether the weights lie in a single file."""
        return self.base != self.layout

    @property
    def composer(self) -> Path | None:
        """Folder of what draws from words, if the base has networks of its own for it."""
        return composer_in(self.base)

    def read(self, dtype: torch.dtype) -> dict[str, Any]:
        """All parts by their names in `Models`, on the CPU.

        Raises:
            ProfileError: weights are missing, damaged or cannot be downloaded.
        """
        if self.is_checkpoint:
            parts = self._checkpoint(dtype)
        else:
            parts = {"unet": self.unet(dtype)}
            for name, kind in _ENCODERS.items():
                parts[name] = self.component(kind, name, dtype)
            parts["vae"] = self._vae(dtype)
        layout = replace(self, base=self.layout)
        for name, kind in _PLAIN.items():
            parts[name] = layout.component(kind, name, None)
        _check_base(self.base, parts)
        for name in CONTROLNETS:
            place, sub = self._controlnet(name)
            parts[name] = replace(self, base=place).component(ControlNetModel, sub, dtype)
            _check_controlnet(f"{place}/{sub}" if sub else place, parts[name], parts["unet"])
        return parts

    def unet(self, dtype: torch.dtype) -> Any:
        """The UNet alone.

        Raises:
            ProfileError: as `read`.
        """
        if self.is_checkpoint:
            return self._checkpoint(dtype, only="unet")["unet"]
        unet = self.component(UNet2DConditionModel, "unet", dtype)
        _check_unet(self.base, unet.config)
        return unet

    def _vae(self, dtype: torch.dtype) -> Any:
        hub = self.profile.hub
        own = hub.vae if hub and not is_path(self.base) else ""
        place = replace(self, base=own) if own else self
        sub = "" if own else "vae"
        vae = place.component(AutoencoderKL, sub, dtype)
        return _safe_in_half(vae, lambda: place.component(AutoencoderKL, sub, torch.float32))

    def _controlnet(self, name: str) -> tuple[str, str]:
        """Folder or hub id, and subfolder: in the base, beside the checkpoint, or of the hub."""
        inside = [self.base, str(Path(self.base).parent)] if self.is_checkpoint else [self.base]
        for place in [*inside, self.layout]:
            if is_path(place) and (Path(place) / name).is_dir():
                return place, name
        hub = getattr(self.profile.hub, name.removeprefix("controlnet_"), "")
        return (hub, "") if hub else (self.layout, name)

    def _checkpoint(self, dtype: torch.dtype, only: str | None = None) -> dict[str, Any]:
        options = {"config": self.layout, "local_files_only": self._local}

        def read() -> dict[str, Any]:
            tensors = load_single_file_checkpoint(self.base, local_files_only=True)
            _check_is_sdxl(self.base, tensors)

            def network(kind: Any, name: str, precision: torch.dtype) -> Any:
                return kind.from_single_file(
                    dict(tensors), subfolder=name, torch_dtype=precision, **options
                )

            found = {"unet": network(UNet2DConditionModel, "unet", dtype)}
            if only == "unet":
                return found
            for name, kind in _ENCODERS.items():
                found[name] = create_diffusers_clip_model_from_ldm(
                    kind, tensors, subfolder=name, torch_dtype=dtype, **options
                )
            found["vae"] = _safe_in_half(
                network(AutoencoderKL, "vae", dtype),
                lambda: network(AutoencoderKL, "vae", torch.float32),
            )
            for name, part in found.items():
                missing = [key for key, value in part.state_dict().items() if value.is_meta]
                if missing:
                    raise ValueError(f"{name} lacks {missing[0]}")
            return found

        return self._guarded(read, self.base)

    @property
    def _local(self) -> bool:
        return self.offline or (is_path(self.base) and is_path(self.layout))

    def component(self, kind: Any, sub: str, dtype: torch.dtype | None) -> Any:
        """One part, on the CPU.

        Args:
            kind: its class.
            sub: its subfolder; empty: none.
            dtype: of its weights; None: it has none.

        Raises:
            ProfileError: as `read`.
        """
        options: dict[str, Any] = {"subfolder": sub} if sub else {}
        weights = dtype is not None
        if weights:
            options |= {"torch_dtype": dtype, "use_safetensors": True}
            if issubclass(kind, PreTrainedModel):
                options["dtype"] = options.pop("torch_dtype")
        what = f"{self.base}/{sub}" if sub else self.base
        if is_path(self.base):
            folder = Path(self.base) / sub
            half, whole = folder.glob("*.fp16.*"), folder.glob("*model.safetensors")
            if weights and any(half) and not any(whole):
                options["variant"] = "fp16"
            options["local_files_only"] = True
            return self._guarded(lambda: kind.from_pretrained(self.base, **options), what)
        options["local_files_only"] = self.offline
        return self._guarded(lambda: _from_hub(kind, self.base, options, half=weights), what)

    def _guarded(self, read: Callable[[], Any], what: str) -> Any:
        before = logging.get_verbosity()
        logging.set_verbosity(logging.CRITICAL)  # what it has to say, its exceptions say too
        hub = self.profile.hub
        lone = hub is not None and what in (hub.canny, hub.tile)
        local = "put it into the base's folder (README says how)" if lone else "give a local --base"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of options that libraries pass each other
                return read()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            if Path(what).is_file():
                remedy = "The file is damaged, incomplete, or not of this kind of model."
            elif is_path(self.base):
                remedy = (
                    "The folder is damaged or incomplete, or its weights are not in safetensors; "
                    "copy it again."
                )
            elif self.offline:
                remedy = f"Leave out --offline to download it, or {local}."
            elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
                remedy = f"Unset HF_HUB_OFFLINE to download it, or {local}."
            else:
                remedy = f"Connect to the network to download it, or {local}."
            raise ProfileError(f"{what}: cannot be loaded ({first_line}).", remedy) from error
        finally:
            logging.set_verbosity(before)


def _from_hub(kind: Any, source: str, options: dict[str, Any], *, half: bool) -> Any:
    """Half-precision files where the repository has them: they spare half the download."""
    if half:
        try:
            return kind.from_pretrained(source, variant="fp16", **options)
        except (OSError, ValueError):
            pass
    return kind.from_pretrained(source, **options)


def _safe_in_half(vae: Any, again: Callable[[], Any]) -> Any:
    """An autoencoder that overflows in float16, as SDXL's own does, is read in float32."""
    return again() if vae.dtype == torch.float16 and vae.config.force_upcast else vae


def _check_is_sdxl(name: str, tensors: dict[str, torch.Tensor]) -> None:
    for mark, other in _OTHERS.items():
        if any(mark in key for key in tensors):
            raise ProfileError(f"{name}: this file is {other}, not Stable Diffusion XL.", _WHOLE)
    first, last = (tensors.get(f"model.diffusion_model.{end}.weight") for end in _ENDS)
    if first is not None and last is not None and first.shape[1] != last.shape[0]:
        raise _no_plain_sdxl(name, first.shape[1], last.shape[0])
    parts = {
        "model.diffusion_model.": "UNet",
        "conditioner.embedders.0.": "first text encoder",
        "conditioner.embedders.1.": "second text encoder",
        "first_stage_model.": "autoencoder",
    }
    for prefix, part in parts.items():
        if not any(key.startswith(prefix) for key in tensors):
            raise ProfileError(
                f"{name}: this checkpoint has no {part} of Stable Diffusion XL.",
                _WHOLE,
            )


def _check_unet(name: str, config: Any) -> None:
    """Refuse a folder or repository of another model, before its other parts are read."""
    if config.addition_embed_type != "text_time":
        raise ProfileError(
            f"{name}: this model is not Stable Diffusion XL (its UNet reads one text encoder; "
            "those of Stable Diffusion 1 and 2 do).",
            "Give a model of Stable Diffusion XL.",
        )


def _check_base(name: str, parts: Mapping[str, Any]) -> None:
    """Refuse parts of different models, before a tensor's shape does in other words."""
    unet, vae = parts["unet"].config, parts["vae"].config
    if unet.in_channels != unet.out_channels:
        raise _no_plain_sdxl(name, unet.in_channels, unet.out_channels)
    words = sum(parts[encoder].config.hidden_size for encoder in _ENCODERS)
    if vae.latent_channels != unet.in_channels or words != unet.cross_attention_dim:
        what = "text encoders" if words != unet.cross_attention_dim else "autoencoder"
        raise ProfileError(
            f"{name}: UNet and {what} belong to different models.",
            "Take all parts from one model of Stable Diffusion XL.",
        )


def _check_controlnet(name: str, controlnet: Any, unet: Any) -> None:
    if any(controlnet.config[key] != unet.config[key] for key in _SHARED):
        raise ProfileError(
            f"{name}: this ControlNet was made for another base model.",
            "Give one for Stable Diffusion XL, or take it away: then the profile's own is used.",
        )


def _no_plain_sdxl(name: str, taken: int, given: int) -> ProfileError:
    return ProfileError(
        f"{name}: this model takes {taken} channels and gives {given}, as those for inpainting or "
        "editing do.",
        "Give a plain model of Stable Diffusion XL.",
    )
