"""The methods that are compared: configurations of one trainer and one way to embroider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from backend.errors import InputError
from backend.models.profiles import Profile

__all__ = ["METHODS", "OURS", "Method", "chosen"]

OURS = "ours"


def _same(profile: Profile) -> Profile:
    return profile


def _reference_alone(profile: Profile) -> Profile:
    """No design while training, in no form: neither as a loss, nor a condition, nor recoloured."""
    return replace(
        profile,
        training=replace(profile.training, design=False, controls=False),
        pair=replace(profile.pair, recoloured=1),
        inference=replace(profile.inference, routing=False),
    )


def _b_lora(profile: Profile) -> Profile:
    alone = _reference_alone(profile)
    # Its content block is trained with its style block, and left out afterwards.
    training = replace(alone.training, lora_blocks=("up_blocks.0.attentions.0",))
    return replace(alone, training=training)


def _unrouted(profile: Profile) -> Profile:
    return replace(profile, inference=replace(profile.inference, routing=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One configuration.

    Attributes:
        meaning: what it is, for the report.
        blocks: style blocks: "rule" (by the automatic rule), "lowest two", or a training job's.
        stage_two: whether it has that stage; if not, stage one alone has its own steps.
        all_steps: whether stage one has both stages' steps.
        adjust: the profile it trains and embroiders with.
        style: name of the method whose style it uses; None: its own, which is trained.
        strength: LoRA scale.
        start: what denoising starts from, as a restyling job names it; "none": no denoising, the
            instant preview itself.
        text: whether it is asked to draw from words as well.
        learned: whether it is a rival that learns from the reference.
        lacks: for an ablation, the measures that its missing part is for.
    """

    name: str
    title: str
    meaning: str
    blocks: str = "rule"
    stage_two: bool = True
    all_steps: bool = False
    adjust: Callable[[Profile], Profile] = _same
    style: str | None = None
    strength: float = 1.0
    start: str = "auto"
    text: bool = False
    learned: bool = True
    lacks: tuple[str, ...] = ()


METHODS = (
    Method(
        name=OURS,
        title="ours",
        meaning="both stages, style blocks by the automatic rule, as users get it",
        text=True,
    ),
    Method(
        name="ours-design",
        title="ours, from the design",
        meaning="the same style, denoising started from the bare design and not from the instant "
        "preview",
        style=OURS,
        start="design",
        learned=False,
    ),
    Method(
        name="no-stage-two",
        title="without stage two",
        meaning="stage one only: no generated pair, no contrastive loss (paper's ablation)",
        stage_two=False,
        text=True,
        lacks=("histogram_design", "colour_psnr"),
    ),
    Method(
        name="all-blocks",
        title="all blocks",
        meaning="every attention block is a style block: no modulation (paper's ablation)",
        blocks="all",
        lacks=("shape_loss",),
    ),
    Method(
        name="two-blocks",
        title="two lowest blocks",
        meaning="only the two blocks of lowest similarity (paper's ablation)",
        blocks="lowest two",
        lacks=("band_distance", "true_spectrum"),
    ),
    Method(
        name="fixed-four",
        title="fixed four",
        meaning="the four blocks that the paper picks by hand for SDXL",
        blocks="paper",
    ),
    Method(
        name="db-lora",
        title="DB-LoRA",
        meaning="LoRA on all blocks, learnt from the reference picture alone (DreamBooth, Ruiz et "
        "al., 2023, with LoRA), as many steps as ours",
        blocks="all",
        stage_two=False,
        all_steps=True,
        adjust=_reference_alone,
        text=True,
    ),
    Method(
        name="b-lora",
        title="B-LoRA",
        meaning="LoRA on up 0.0 (content) and up 0.1 (style), learnt from the reference picture "
        "alone; the style block is used (Frenkel et al., 2024), as many steps as ours",
        blocks="up_blocks.0.attentions.1",
        stage_two=False,
        all_steps=True,
        adjust=_b_lora,
        text=True,
    ),
    Method(
        name="base",
        title="base, SDEdit",
        meaning="nothing learnt: the design noised and denoised by the base model with the "
        "embroidery prompt (SDEdit, Meng et al., 2022) and the ControlNets",
        style=OURS,
        strength=0.0,
        start="design",
        adjust=_unrouted,
        text=True,
        learned=False,
    ),
    Method(
        name="preview",
        title="instant preview",
        meaning="no network: the design sewn from patches of the reference (image analogies)",
        style=OURS,
        start="none",
        learned=False,
    ),
)


def chosen(names: tuple[str, ...]) -> tuple[Method, ...]:
    """Ours and the methods of these names, in the report's order; all if none is named.

    Raises:
        InputError: a name that no method has.
    """
    known = [each.name for each in METHODS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"There is no method {', '.join(unknown)}.", f"Choose among: {', '.join(known)}."
        )
    return tuple(each for each in METHODS if not names or each.name in (OURS, *names))
