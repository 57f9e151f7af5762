"""What a benchmark is asked for, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from backend.errors import InputError
from backend.models.profiles import Profile

__all__ = ["FULL", "QUICK", "Extent", "Settings", "quickened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is done.

    Attributes:
        looks: references of each held-out stitch family.
        families: how many of those families.
        designs: how many designs.
        prompts: how many of the prompts.
        photo, side: sides of rendered references and of designs, in windows of the profile.
        worded: how many references' styles are asked to draw from words; all if None.
        steps: steps of stage one and stage two; the profile's own if None.
    """

    looks: int
    families: int
    designs: int
    prompts: int
    photo: float
    side: float
    worded: int | None = None
    steps: tuple[int, int] | None = None


FULL = Extent(looks=2, families=3, designs=6, prompts=20, photo=2.0, side=1.5, worded=3)
QUICK = Extent(looks=1, families=1, designs=2, prompts=2, photo=1.0, side=1.0, steps=(12, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A benchmark.

    Attributes:
        out: folder for everything.
        references: folder of further references, photos of embroidery.
        icons: icon sets in Iconify's JSON format; without any, all designs are drawn.
        methods: names of those to compare with ours; all if empty.
        seed: of all randomness, 0 to 2³¹ - 1.
        profile: base model's profile; `base` in place of its model.

    Raises:
        InputError: the seed is out of its range.
    """

    out: Path
    extent: Extent = FULL
    references: Path | None = None
    icons: tuple[Path, ...] = ()
    methods: tuple[str, ...] = ()
    seed: int = 42
    profile: str = "starter"
    base: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise InputError(f"The seed {self.seed} is out of range.", "Give 0 to 2147483647.")


def quickened(profile: Profile) -> Profile:
    """The profile with less of everything that only makes results better."""
    return replace(
        profile,
        pair=replace(profile.pair, windows=1, recoloured=2, largest=1.0),
        blocks=replace(profile.blocks, steps=10),
        complementary=replace(
            profile.complementary, count=2, steps=min(4, profile.complementary.steps)
        ),
        inference=replace(
            profile.inference,
            steps=min(8, profile.inference.steps),
            preview_steps=min(8, profile.inference.preview_steps),
        ),
    )
