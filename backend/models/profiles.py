"""Profiles: every setting of one base model, for training and for inference.

A profile is frozen; whoever wants other values makes a copy with `dataclasses.replace`. Numbers
marked "paper" are those of "One-shot Embroidery Customization via Contrastive LoRA Modulation"
(arXiv 2509.18948) or of its reference code. The starter differs where a small base needs it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from backend.errors import ProfileError
from backend.models.settings import (
    BlockSettings,
    ComplementarySettings,
    DesignerSettings,
    HubModels,
    InferenceSettings,
    KindSettings,
    PairSettings,
    TrainingSettings,
    setting,
)

__all__ = ["Profile", "describe", "get", "names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One base model and all settings that go with it."""

    name: str = setting("", "name on the command line")
    title: str = setting("", "name for people")
    folder: Path | None = field(
        default=None, metadata={"help": "shipped weights in diffusers' pipeline layout"}
    )
    hub: HubModels | None = field(
        default=None, metadata={"help": "where the weights are on the hub"}
    )
    designer: DesignerSettings | None = field(
        default=None, metadata={"help": "who draws designs in the base model's stead, if installed"}
    )
    window: int = setting(1024, "side of the square the UNet was trained on, pixels")
    cpu_dtype: str = setting(
        "float32", "arithmetic on a CPU; in place of a bfloat16 that it has not, float32"
    )
    cpu_training: str = setting(
        "float32",
        "arithmetic of a training on a CPU; mixed: UNet and ControlNets hold weights in bfloat16 "
        "and multiply by them in it, all else is float32, and all is where the CPU has no bfloat16",
    )
    gpu_dtype: str = setting("bfloat16", "arithmetic on a GPU")
    offload: Literal["none", "phase", "network"] = setting(
        "none", "what is parked in main memory: nothing, other phases' networks, all but one"
    )
    vae_tiling: bool = setting(False, "encode and decode in overlapping parts of half a window")
    subject: str = setting("motif", "subject of the prompts if the user names none")
    design_prompt: str = setting("a {subject}", "prompt of a design")
    embroidery_prompt: str = setting("a {subject} in [emb] style", "prompt of an embroidery")
    trigger: str = setting("in [emb] style", "words that call the style")
    licence_note: str = setting("", "what binds a style trained on this base")
    pair: PairSettings = field(default=PairSettings(), metadata={"help": "making the pair"})
    blocks: BlockSettings = field(
        default=BlockSettings(), metadata={"help": "choosing the style blocks"}
    )
    training: TrainingSettings = field(
        default=TrainingSettings(), metadata={"help": "training the LoRA"}
    )
    complementary: ComplementarySettings = field(
        default=ComplementarySettings(), metadata={"help": "complementary data"}
    )
    flat: KindSettings = field(default=KindSettings(), metadata={"help": "flat embroidery"})
    relief: KindSettings = field(
        default=KindSettings(
            canny_scale=0.0, tile_scale=0.4, strength=0.85, colour_correction="none"
        ),
        metadata={"help": "beads, sequins and other relief"},
    )
    inference: InferenceSettings = field(
        default=InferenceSettings(), metadata={"help": "restyling and generating"}
    )

    def kind(self, kind: str) -> KindSettings:
        """Settings of image input for `kind`, "flat" or "relief"."""
        return self.relief if kind == "relief" else self.flat

    def prompts(self, subject: str | None = None) -> tuple[str, str]:
        """Design prompt and embroidery prompt of a subject."""
        subject = " ".join((subject or self.subject).split())
        return (
            self.design_prompt.format(subject=subject),
            self.embroidery_prompt.format(subject=subject),
        )


_STARTER = Profile(
    name="starter",
    title="Starter (shipped, small, runs on a CPU)",
    folder=Path(__file__).parent / "starter",
    window=256,
    # Pictures are float32's up to 51 dB.
    cpu_dtype="bfloat16",
    cpu_training="mixed",
    gpu_dtype="float32",
    licence_note=(
        "Trained on the starter model that ships with Stitchwork. The rights in the reference "
        "photo stay with its owner: share the style only if you may share the photo."
    ),
    pair=PairSettings(
        maker="flatten",
        thread_px=6.5,
        windows=12,
        recoloured=4,
        largest=3.0,
        whole=False,
        steps=20,
        guidance=1.0,
        strength=0.6,
    ),
    blocks=BlockSettings(steps=20, renoise_iterations=1),
    training=TrainingSettings(
        # Four quarters of a window cost as much as the window and tell more.
        batch=4,
        crop=0.5,
        rank=16,
        learning_rate=1e-3,
        steps_one=260,
        steps_two=40,
        gradient_checkpointing=False,
        controls=True,
        convolutions=True,
        # Threads are finer than the finest attention sees: 16 px at a window of 256.
        extra_style_modules=tuple(f"up_blocks.2.resnets.{i}" for i in range(3)),
        cloth_weight=0.25,
    ),
    complementary=ComplementarySettings(
        source="sewn", steps=10, guidance=1.0, strength=0.4, batch=3
    ),
    # Its lightness and colours drift over whole areas.
    flat=KindSettings(colour_correction="shade"),
    relief=KindSettings(canny_scale=0.0, tile_scale=0.4, strength=0.85, colour_correction="coarse"),
    inference=InferenceSettings(
        steps=20,
        guidance=1.0,
        start="preview",
        preview_strength=0.4,
        preview_steps=10,
        preview_inverted=True,
        routing=True,
    ),
)

_SDXL = Profile(
    name="sdxl",
    title="Stable Diffusion XL (the paper's base, needs a GPU)",
    hub=HubModels(
        base="stabilityai/stable-diffusion-xl-base-1.0",
        vae="madebyollin/sdxl-vae-fp16-fix",
        canny="xinsir/controlnet-canny-sdxl-1.0",
        tile="xinsir/controlnet-tile-sdxl-1.0",
    ),
    designer=DesignerSettings(),
    window=1024,
    licence_note=(
        "Trained on Stable Diffusion XL: the CreativeML Open RAIL++-M licence of the base binds "
        "its use. The rights in the reference photo stay with its owner: share the style only "
        "if you may share the photo."
    ),
)

_PROFILES = {profile.name: profile for profile in (_STARTER, _SDXL)}


def names() -> tuple[str, ...]:
    """Names of all profiles."""
    return tuple(_PROFILES)


def get(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        ProfileError: no such profile.
    """
    if name not in _PROFILES:
        raise ProfileError(f"There is no profile {name!r}.", f"Use one of: {', '.join(names())}.")
    return _PROFILES[name]


def describe(settings: Any, prefix: str = "") -> dict[str, str]:
    """Setting → help for a profile or a part of it, nested names joined by dots."""
    found: dict[str, str] = {}
    for each in dataclasses.fields(settings):
        value = getattr(settings, each.name)
        found[prefix + each.name] = each.metadata["help"]
        if dataclasses.is_dataclass(value):
            found.update(describe(value, f"{prefix}{each.name}."))
    return found
