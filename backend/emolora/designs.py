"""Designs for pictures of embroidery: drawn by a model, or made without any (paper, section 3.1).

The paper has Stable Diffusion 3 draw them, the profile's designer; where that is not at hand, the
base model does it under its own ControlNets. Flattening needs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.inversion import redone
from backend.emolora.sampling import controls_of, denoise, seeded_noise, to_tensor
from backend.emolora.sd3 import Order, draw_designs, drawing_passes
from backend.imaging.flatten import flatten, smooth
from backend.imaging.lines import edge_lines
from backend.models.designer import Designer
from backend.models.loading import Models
from backend.models.profiles import Profile

__all__ = [
    "Draw",
    "Picture",
    "by_base",
    "by_designer",
    "design_passes",
    "designs_of",
    "draws",
    "eight_bit",
    "made_plainly",
    "plain",
]

Picture = NDArray[np.float32]
Draw = Callable[[Picture, Picture], Generator[None, None, Picture]]
"""Draws the design of a picture of embroidery; given are both it and its `plain` design."""


def draws(profile: Profile) -> bool:
    """Whether models draw designs; lines need none."""
    return profile.pair.maker == "models" and profile.pair.design != "lines"


def plain(
    profile: Profile, embroidery: Picture, art: NDArray[np.float32] | None, seed: int
) -> Picture:
    """The design (H, W, 3) of a picture, made without any model.

    Args:
        art: (H, W), 1 on the motif; None: everywhere.
    """
    settings, inference = profile.pair, profile.inference
    if settings.design == "lines":
        return edge_lines(embroidery, inference.canny_low, inference.canny_high, profile.window)
    if settings.design == "smooth":
        return smooth(embroidery)
    return flatten(embroidery, art, colours=settings.colours, seed=seed)


def made_plainly(profile: Profile) -> str:
    """What a style records of a design that `plain` made, a key of `backend.styles.DESIGNED`."""
    return {"artwork": "flattened", "smooth": "smoothed", "lines": "lines"}[profile.pair.design]


def eight_bit(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """As a PNG will keep it, so that a resumed training sees the very same pair."""
    return (np.round(np.clip(image, 0.0, 1.0) * 255.0) / 255.0).astype(np.float32)


def designs_of(
    models: Models, embroideries: Sequence[Picture], subjects: Sequence[str], seed: int
) -> Generator[None, None, list[Picture]]:
    """The designs of pictures (H, W, 3) that show embroidery at training scale.

    Yields `design_passes(models)` times for each.

    Args:
        subjects: what the pictures show.
    """
    profile, designer = models.profile, models.designer
    if not draws(profile):
        found = []
        for each in embroideries:
            yield
            found.append(plain(profile, each, None, seed))
    elif designer is not None:
        orders = [
            Order(each, plain(profile, each, None, seed), subject)
            for each, subject in zip(embroideries, subjects)
        ]
        with models.residence.vacated():
            found = yield from draw_designs(designer, profile, models.device, orders, seed)
    else:
        found = []
        for each, subject in zip(embroideries, subjects):
            draw = by_base(models, subject, seed)
            made = yield from draw(each, plain(profile, each, None, seed))
            found.append(made)
    return [eight_bit(each) for each in found]


def design_passes(models: Models) -> int:
    """How many values `designs_of` yields for a picture before its result."""
    settings = models.profile.pair
    if not draws(models.profile):
        return 1
    if models.designer is not None:
        return drawing_passes(models.profile)
    return redone(settings.steps, settings.strength)


def by_base(models: Models, subject: str | None, seed: int) -> Draw:
    """The base model draws under both ControlNets, starting from the plain design (SDEdit).

    The paper finds soft edges with a network (HED); those of the plain design need none, and tell
    of no threads either.
    """
    settings = models.profile.pair

    def draw(embroidery: Picture, flat: Picture) -> Generator[None, None, Picture]:
        scales = settings.canny_scale, settings.tile_scale
        controls = replace(
            controls_of(models, flat, *scales),
            tile=controls_of(models, embroidery, *scales).tile,
        )
        text = models.encode_prompts([f"{subject or models.profile.subject}, {settings.prompt}"])
        start = models.encode_image(to_tensor(flat))
        latents = start
        for latents in denoise(  # noqa: B007 - the last ones count
            models,
            start,
            seeded_noise(models.device, tuple(start.shape), seed),
            text,
            models.encode_prompts([settings.negative]),
            steps=settings.steps,
            strength=settings.strength,
            guidance=settings.guidance,
            controls=controls,
        ):
            yield
        drawn: Picture = models.decode(latents)[0].permute(1, 2, 0).cpu().numpy()
        return drawn

    return draw


def by_designer(
    designer: Designer, profile: Profile, device: torch.device, subject: str | None, seed: int
) -> Draw:
    """Stable Diffusion 3 draws; it is loaded when that is asked, and let go when it has drawn.

    Yields `drawing_passes(profile)` times.
    """

    def draw(embroidery: Picture, flat: Picture) -> Generator[None, None, Picture]:
        order = Order(embroidery, flat, subject)
        (drawn,) = yield from draw_designs(designer, profile, device, [order], seed)
        return drawn

    return draw
