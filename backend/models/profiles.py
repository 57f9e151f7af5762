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

__all__ = [
    "ATTENTION_BLOCKS",
    "PAPER_BLOCKS",
    "BlockSettings",
    "ComplementarySettings",
    "HubModels",
    "InferenceSettings",
    "KindSettings",
    "PairSettings",
    "Profile",
    "TrainingSettings",
    "describe",
    "get",
    "names",
]

# The 11 attention blocks of SDXL's UNet in the order data passes them (paper, section 3.1).
ATTENTION_BLOCKS = (
    "down_blocks.1.attentions.0",
    "down_blocks.1.attentions.1",
    "down_blocks.2.attentions.0",
    "down_blocks.2.attentions.1",
    "mid_block.attentions.0",
    "up_blocks.0.attentions.0",
    "up_blocks.0.attentions.1",
    "up_blocks.0.attentions.2",
    "up_blocks.1.attentions.0",
    "up_blocks.1.attentions.1",
    "up_blocks.1.attentions.2",
)
# The paper's result for embroidery on SDXL.
PAPER_BLOCKS = (
    "down_blocks.1.attentions.1",
    "down_blocks.2.attentions.0",
    "up_blocks.0.attentions.1",
    "up_blocks.0.attentions.2",
)


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModels:
    """Names on the Hugging Face hub, used where no folder is given."""

    base: str = _setting("", "pipeline with UNet, text encoders, tokenizers and scheduler")
    vae: str = _setting("", "autoencoder in place of the pipeline's own; empty: its own")
    canny: str = _setting("", "ControlNet that reads Canny edges")
    tile: str = _setting("", "ControlNet that reads a blurred picture")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """Making the pair design → embroidery from one photo (paper, section 3.1)."""

    maker: Literal["models", "flatten"] = _setting(
        "models", "who makes a missing design: the profile's own models, or flattening alone"
    )
    design: Literal["artwork", "smooth", "lines"] = _setting(
        "artwork",
        "what a design is: flat artwork, a smooth picture, or the reference's edges on black",
    )
    located: bool = _setting(
        True, "find the motif in the photo; else the whole picture counts, if no mask is given"
    )
    prompt: str = _setting(
        "flat design, vector graphic design, digital design, cartoon design, clean lines, "
        "uniform color blocks, smooth surface, high quality",
        "what is added to the subject when the models make the design",
    )
    negative: str = _setting(
        "embroidery, lowres, bad anatomy, cropped, worst quality, low quality",
        "negative prompt when the models make the design",
    )
    steps: int = _setting(28, "denoising steps")
    guidance: float = _setting(4.0, "classifier-free guidance scale")
    strength: float = _setting(0.8, "share of the schedule that is redone")
    canny_scale: float = _setting(0.2, "ControlNet-Canny scale")
    tile_scale: float = _setting(0.8, "ControlNet-Tile scale")
    thread_px: float = _setting(
        8.0, "thread width in pixels that the pair is scaled to; 0: the picture fills a window"
    )
    enlarge_at_most: float = _setting(4.0, "limit of the enlargement; more only adds blur")
    windows: int = _setting(1, "window-sized crops of the pair that training draws from")
    recoloured: int = _setting(
        1, "versions of each window: as it is, then with exchanged colour channels, at most 6"
    )
    largest: float = _setting(1.0, "largest side of the scaled pair, in windows")
    whole: bool = _setting(
        True, "show the whole motif even if its threads become thin; else keep their width and crop"
    )
    colours: int = _setting(10, "most colours of a design made by flattening")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSettings:
    """Finding the blocks that carry the style (paper, section 3.1)."""

    steps: int = _setting(50, "denoising steps of the analysis")
    segments: int = _setting(10, "equal parts the steps are cut into")
    late: int = _setting(5, "first of the late segments, where styles differ most")
    inversion: Literal["renoise", "ddim"] = _setting("renoise", "how both images are inverted")
    renoise_iterations: int = _setting(4, "fixed-point iterations a step")
    threshold: float = _setting(
        0.5, "standard deviations below the mean at which a block counts as style"
    )
    at_least: int = _setting(2, "fewest style blocks of the automatic rule")
    at_most: int = _setting(5, "most style blocks of the automatic rule")
    automatic: Literal["paper", "measure"] = _setting(
        "paper", "what `auto` means: the paper's blocks, or measure the similarities"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Two-stage contrastive LoRA (paper, section 3.2)."""

    rank: int = _setting(32, "LoRA rank")
    batch: int = _setting(1, "crops of each pair that a step sees")
    crop: float = _setting(1.0, "side of these crops, share of a window")
    learning_rate: float = _setting(1e-4, "AdamW learning rate, constant")
    weight_decay: float = _setting(1e-2, "AdamW weight decay")
    steps_one: int = _setting(400, "steps of stage one")
    steps_two: int = _setting(200, "steps of stage two")
    reference_weight: float = _setting(1.0, "weight of the reference pair in stage two")
    generated_weight: float = _setting(0.1, "weight of the generated pair in stage two")
    contrastive_weight: float = _setting(1e-4, "weight of the contrastive loss")
    temperature: float = _setting(1.0, "temperature of the contrastive loss")
    checkpoint_every: int = _setting(25, "steps between checkpoints")
    cloth_weight: float = _setting(1.0, "weight of the loss on bare cloth; on the motif it is 1")
    gradient_checkpointing: bool = _setting(
        True, "compute parts twice to need half the memory; not worth it for a small base"
    )
    controls: bool = _setting(
        False, "give the ControlNets the design while training, as inference will"
    )
    canny_scale: float = _setting(0.5, "ControlNet-Canny scale while training")
    tile_scale: float = _setting(0.5, "ControlNet-Tile scale while training")
    eight_bit: bool = _setting(
        False, "keep the optimiser's moments in 8 bits where bitsandbytes is installed"
    )
    convolutions: bool = _setting(
        False, "adapt also projections, feed-forward layers and the resnets beside a style block"
    )
    extra_style_modules: tuple[str, ...] = _setting(
        (), "further modules whose convolutions belong to the style, such as up_blocks.2.resnets.0"
    )
    lora_blocks: tuple[str, ...] = _setting(
        (), "attention blocks that are trained beside the style blocks; empty: all others"
    )
    design: bool = _setting(
        True,
        "learn the design as well; without it, as DB-LoRA and B-LoRA do, stage one learns the "
        "embroidery alone, with all of the LoRA and no routing",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplementarySettings:
    """The second pair of stage two (paper, section 3.3)."""

    source: Literal["text", "drawn"] = _setting(
        "text", "generated from words, or simple drawn motifs that are embroidered"
    )
    count: int = _setting(10, "candidates N; half stay for style, a quarter for content")
    steps: int = _setting(30, "denoising steps")
    guidance: float = _setting(7.0, "classifier-free guidance scale")
    strength: float = _setting(1.0, "share of the schedule that is redone, if drawn")
    batch: int = _setting(1, "candidates denoised at a time")
    colours: tuple[str, ...] = _setting(
        ("yellow", "silver", "red", "blue", "green", "pink", "orange", "purple", "white", "brown"),
        "colours of the prompts",
    )
    objects: tuple[str, ...] = _setting(
        ("dog", "robot", "car", "bird", "tree", "flower", "fish", "house", "cat", "butterfly"),
        "objects of the prompts",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSettings:
    """Image input for one kind of embroidery (paper, section 3.4)."""

    canny_scale: float = _setting(0.5, "ControlNet-Canny scale")
    tile_scale: float = _setting(0.5, "ControlNet-Tile scale")
    strength: float = _setting(0.95, "share of the schedule that is redone")
    colour_correction: bool = _setting(
        True, "keep the design's colours: lightness of the output, A and B of the design"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSettings:
    """Restyling and generating (paper, section 3.4)."""

    steps: int = _setting(30, "denoising steps")
    guidance: float = _setting(7.0, "classifier-free guidance scale; 1 or less: off")
    negative: str = _setting(
        "lowres, bad anatomy, cropped, worst quality, low quality", "negative prompt"
    )
    reads: Literal["picture", "drawing", "edges"] = _setting(
        "picture",
        "what the image input becomes first: nothing else, the lines of a drawing, or its edges",
    )
    canny_low: int = _setting(50, "Canny's lower threshold")
    canny_high: int = _setting(100, "Canny's upper threshold")
    overlap: float = _setting(0.25, "overlap of neighbouring windows, share of a window")
    start: Literal["design", "preview", "colour"] = _setting(
        "design",
        "what SDEdit starts from: the bare design, the instant preview, or the reference's mean "
        "colour where a design has none",
    )
    preview_strength: float = _setting(
        0.35, "share of the schedule that is redone where the preview is the start"
    )
    preview_inverted: bool = _setting(
        False, "noise the preview by DDIM inversion instead of at random, so that its thread stays"
    )
    batch: int = _setting(0, "windows a pass takes at a time; 0: as many as suit the device")
    routing: bool = _setting(
        False, "route prompts as in training: the embroidery prompt to the style blocks only"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One base model and all settings that go with it."""

    name: str = _setting("", "name on the command line")
    title: str = _setting("", "name for people")
    folder: Path | None = field(
        default=None, metadata={"help": "shipped weights in diffusers' pipeline layout"}
    )
    hub: HubModels | None = field(
        default=None, metadata={"help": "where the weights are on the hub"}
    )
    window: int = _setting(1024, "side of the square the UNet was trained on, pixels")
    cpu_dtype: str = _setting(
        "float32", "arithmetic on a CPU; in place of a bfloat16 that it has not, float32"
    )
    gpu_dtype: str = _setting("bfloat16", "arithmetic on a GPU")
    offload: Literal["none", "phase", "network"] = _setting(
        "none", "what is parked in main memory: nothing, other phases' networks, all but one"
    )
    vae_tiling: bool = _setting(False, "encode and decode in overlapping parts of half a window")
    subject: str = _setting("motif", "subject of the prompts if the user names none")
    design_prompt: str = _setting("a {subject}", "prompt of a design")
    embroidery_prompt: str = _setting("a {subject} in [emb] style", "prompt of an embroidery")
    trigger: str = _setting("in [emb] style", "words that call the style")
    licence_note: str = _setting("", "what binds a style trained on this base")
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
            canny_scale=0.0, tile_scale=0.4, strength=0.85, colour_correction=False
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
    # Pictures are float32's up to 51 dB. Training, where it gains nothing, stays float32.
    cpu_dtype="bfloat16",
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
    blocks=BlockSettings(steps=20, renoise_iterations=1, automatic="measure"),
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
        source="drawn", count=6, steps=12, guidance=1.0, strength=0.9, batch=3
    ),
    inference=InferenceSettings(
        steps=20,
        guidance=1.0,
        start="preview",
        preview_strength=0.4,
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
