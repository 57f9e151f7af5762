"""Settings of the parts of a profile: what each means, and the paper's value as its default.

Paper and released code are those of "One-shot Embroidery Customization via Contrastive LoRA
Modulation" (arXiv 2509.18948).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "ATTENTION_BLOCKS",
    "PAPER_BLOCKS",
    "BlockSettings",
    "ComplementarySettings",
    "DesignerSettings",
    "HubModels",
    "InferenceSettings",
    "KindSettings",
    "PairSettings",
    "TrainingSettings",
    "setting",
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


def setting(default: Any, help: str) -> Any:
    """A field with its default and what it is for."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModels:
    """Names on the Hugging Face hub, used where no folder is given."""

    base: str = setting("", "pipeline with UNet, text encoders, tokenizers and scheduler")
    vae: str = setting("", "autoencoder in place of the pipeline's own; empty: its own")
    canny: str = setting("", "ControlNet that reads Canny edges")
    tile: str = setting("", "ControlNet that reads a blurred picture")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """Making the pair design → embroidery from one photo (paper, section 3.1)."""

    maker: Literal["models", "flatten"] = setting(
        "models", "who makes a missing design: the profile's own models, or flattening alone"
    )
    design: Literal["artwork", "smooth", "lines"] = setting(
        "artwork",
        "what a design is: flat artwork, a smooth picture, or the reference's edges on black",
    )
    located: bool = setting(
        True, "find the motif in the photo; else the whole picture counts, if no mask is given"
    )
    prompt: str = setting(
        "flat design, vector graphic design, digital design, cartoon design, clean lines, "
        "uniform color blocks, smooth surface, high quality",
        "what is added to the subject when the models make the design",
    )
    negative: str = setting(
        "embroidery, lowres, bad anatomy, cropped, worst quality, low quality",
        "negative prompt when the models make the design",
    )
    steps: int = setting(28, "denoising steps")
    guidance: float = setting(4.0, "classifier-free guidance scale")
    strength: float = setting(0.8, "share of the schedule that is redone")
    canny_scale: float = setting(0.2, "ControlNet-Canny scale")
    tile_scale: float = setting(0.8, "ControlNet-Tile scale")
    thread_px: float = setting(
        8.0, "thread width in pixels that the pair is scaled to; 0: the picture fills a window"
    )
    enlarge_at_most: float = setting(4.0, "limit of the enlargement; more only adds blur")
    windows: int = setting(1, "window-sized crops of the pair that training draws from")
    recoloured: int = setting(
        1, "versions of each window: as it is, then with exchanged colour channels, at most 6"
    )
    largest: float = setting(1.0, "largest side of the scaled pair, in windows")
    whole: bool = setting(
        True, "show the whole motif even if its threads become thin; else keep their width and crop"
    )
    colours: int = setting(10, "most colours of a design made by flattening")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignerSettings:
    """Stable Diffusion 3 as the one who draws a photo's design (paper, section 3.1).

    Steps, guidance, scales and words are those of `PairSettings`; names are of the hub.
    """

    base: str = setting("stabilityai/stable-diffusion-3-medium-diffusers", "pipeline")
    canny: str = setting("InstantX/SD3-Controlnet-Canny", "ControlNet that reads soft edges")
    tile: str = setting("InstantX/SD3-Controlnet-Tile", "ControlNet that reads a blurred picture")
    edges: str = setting("lllyasviel/Annotators", "where ControlNetHED.pth is, which finds edges")
    tagger: str = setting("SmilingWolf/wd-v1-4-moat-tagger-v2", "tagger that words come from")
    edge_side: int = setting(
        512, "side that the soft edges of a window are shrunk to and back, so that no thread stays"
    )
    tag_threshold: float = setting(0.35, "likelihood from which a tag is believed")
    ignored_tags: tuple[str, ...] = setting(
        (
            "embroider",
            "stitch",
            "thread",
            "yarn",
            "needle",
            "sewing",
            "knit",
            "fabric",
            "photo",
            "realistic",
            "blur",
            "depth of field",
            "monochrome",
            "traditional media",
        ),
        "what no tag may hold, for it tells of the sewing or of the photo, not of the design",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSettings:
    """Finding the blocks that carry the style (paper, section 3.1)."""

    steps: int = setting(50, "denoising steps of the analysis")
    segments: int = setting(10, "equal parts the steps are cut into")
    late: int = setting(5, "first of the late segments, where styles differ most")
    inversion: Literal["renoise", "ddim"] = setting("renoise", "how both images are inverted")
    renoise_iterations: int = setting(4, "fixed-point iterations a step")
    threshold: float = setting(
        0.5,
        "standard deviations below the mean, in the logarithm of what differs, at which a block "
        "counts as style",
    )
    at_least: int = setting(2, "fewest style blocks of the automatic rule")
    at_most: int = setting(5, "most style blocks of the automatic rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Two-stage contrastive LoRA (paper, section 3.2)."""

    rank: int = setting(32, "LoRA rank")
    batch: int = setting(1, "crops of each pair that a step sees")
    crop: float = setting(1.0, "side of these crops, share of a window")
    learning_rate: float = setting(1e-4, "AdamW learning rate, constant")
    weight_decay: float = setting(1e-2, "AdamW weight decay")
    steps_one: int = setting(400, "steps of stage one")
    steps_two: int = setting(200, "steps of stage two")
    reference_weight: float = setting(1.0, "weight of the reference pair in stage two")
    generated_weight: float = setting(0.1, "weight of the generated pair in stage two")
    contrastive_weight: float = setting(1e-4, "weight of the contrastive loss")
    temperature: float = setting(1.0, "temperature of the contrastive loss")
    checkpoint_every: int = setting(25, "steps between checkpoints")
    cloth_weight: float = setting(1.0, "weight of the loss on bare cloth; on the motif it is 1")
    gradient_checkpointing: bool = setting(
        True, "compute parts twice to need half the memory; not worth it for a small base"
    )
    controls: bool = setting(
        False, "give the ControlNets the design while training, as inference will"
    )
    canny_scale: float = setting(0.5, "ControlNet-Canny scale while training")
    tile_scale: float = setting(0.5, "ControlNet-Tile scale while training")
    eight_bit: bool = setting(
        False, "keep the optimiser's moments in 8 bits where bitsandbytes is installed"
    )
    convolutions: bool = setting(
        False, "adapt also projections, feed-forward layers and the resnets beside a style block"
    )
    extra_style_modules: tuple[str, ...] = setting(
        (), "further modules whose convolutions belong to the style, such as up_blocks.2.resnets.0"
    )
    lora_blocks: tuple[str, ...] = setting(
        (), "attention blocks that are trained beside the style blocks; empty: all others"
    )
    design: bool = setting(
        True,
        "learn the design as well; without it, as DB-LoRA and B-LoRA do, stage one learns the "
        "embroidery alone, with all of the LoRA and no routing",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplementarySettings:
    """The second pair of stage two (paper, section 3.3)."""

    source: Literal["text", "drawn", "sewn"] = setting(
        "text",
        "generated from words; or simple drawn motifs, embroidered from the bare design, or as "
        "restyling does from the instant preview, inverted",
    )
    count: int = setting(10, "candidates N; half stay for style, a quarter for content")
    steps: int = setting(30, "denoising steps")
    guidance: float = setting(7.0, "classifier-free guidance scale")
    strength: float = setting(1.0, "share of the schedule that is redone, if drawn or sewn")
    batch: int = setting(1, "candidates denoised at a time")
    colours: tuple[str, ...] = setting(
        ("yellow", "silver", "red", "blue", "green", "pink", "orange", "purple", "white", "brown"),
        "colours of the prompts",
    )
    objects: tuple[str, ...] = setting(
        ("dog", "robot", "car", "bird", "tree", "flower", "fish", "house", "cat", "butterfly"),
        "objects of the prompts",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSettings:
    """Image input for one kind of embroidery (paper, section 3.4)."""

    canny_scale: float = setting(0.5, "ControlNet-Canny scale")
    tile_scale: float = setting(0.5, "ControlNet-Tile scale")
    strength: float = setting(0.95, "share of the schedule that is redone")
    colour_correction: Literal["none", "paper", "shade", "coarse"] = setting(
        "paper",
        "what the result takes of the design's colours (CIELAB): nothing; A and B, as the paper "
        "has it; also the lightness of whole areas; or lightness, A and B of whole areas only",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSettings:
    """Restyling and generating (paper, section 3.4)."""

    steps: int = setting(30, "denoising steps")
    sampler: Literal["ddim", "dpm++"] = setting(
        "ddim", "DDIM, or DPM-Solver++ (2M), which needs a third fewer steps for as much"
    )
    guidance: float = setting(7.0, "classifier-free guidance scale; 1 or less: off")
    negative: str = setting(
        "lowres, bad anatomy, cropped, worst quality, low quality", "negative prompt"
    )
    reads: Literal["picture", "drawing", "edges"] = setting(
        "picture",
        "what the image input becomes first: nothing else, the lines of a drawing, or its edges",
    )
    canny_low: int = setting(50, "Canny's lower threshold")
    canny_high: int = setting(100, "Canny's upper threshold")
    overlap: float = setting(0.25, "overlap of neighbouring windows, share of a window")
    start: Literal["design", "preview", "colour"] = setting(
        "design",
        "what SDEdit starts from: the bare design, the instant preview, or the reference's mean "
        "colour where a design has none",
    )
    preview_strength: float = setting(
        0.35, "share of the schedule that is redone where the preview is the start"
    )
    preview_steps: int = setting(
        0, "denoising steps where the preview is the start, which needs fewer; 0: as many as else"
    )
    preview_inverted: bool = setting(
        False, "noise the preview by DDIM inversion instead of at random, so that its thread stays"
    )
    batch: int = setting(0, "windows a pass takes at a time; 0: as many as suit the device")
    routing: bool = setting(
        False, "route prompts as in training: the embroidery prompt to the style blocks only"
    )
