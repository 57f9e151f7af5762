"""Designs drawn by Stable Diffusion 3, as the paper makes the pair (section 3.1).

From noise, under two ControlNets: Canny is given soft edges of the photo (HED), shrunk and back so
that no thread is left in them, Tile the blurred photo, which keeps its colours. The words are a
tagger's (WD14), and that it is a flat design.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.sampling import seeded_noise, to_tensor
from backend.imaging.edges import blur, canny
from backend.models.designer import Designer
from backend.models.loading import TextEmbedding
from backend.models.profiles import Profile
from backend.models.quiet import quiet
from backend.models.residence import give_back

if TYPE_CHECKING:
    from backend.models.sd3 import SD3

__all__ = ["Order", "caption", "draw_designs", "drawing_passes"]

Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Order:
    """What a design is wanted of.

    Attributes:
        embroidery: the picture, (H, W, 3).
        plain: its design as it is made without any model, (H, W, 3).
        subject: what it shows, if that is known.
    """

    embroidery: Picture
    plain: Picture
    subject: str | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is drawn after: edges (H, W), blurred picture (H, W, 3), and words."""

    subject: str | None
    edges: NDArray[np.float32]
    colours: Picture
    tags: list[str]


def drawing_passes(profile: Profile) -> int:
    """How many values `draw_designs` yields for each picture."""
    return 1 + profile.pair.steps


def draw_designs(
    designer: Designer,
    profile: Profile,
    device: torch.device,
    orders: Sequence[Order],
    seed: int,
) -> Generator[None, None, list[Picture]]:
    """Load the networks, draw a design (H, W, 3) for each order, and let the networks go.

    Yields `drawing_passes(profile)` times for each; closing it lets the networks go as well.

    Args:
        seed: of the noise; the same for all.

    Raises:
        ProfileError: weights are damaged, or do not fit together.
    """
    seen = []
    look = _eyes(designer, profile, device)
    for each in orders:
        seen.append(look(each))
        yield
    del look  # the networks it looks with have done their work
    sd3: SD3 | None = None
    try:
        with quiet():
            from backend.models.sd3 import load

            sd3 = load(designer, profile, device)
        drawn = yield from _drawn(sd3, profile, seen, seed)
    finally:
        sd3 = None
        gc.collect()  # the networks know who moves them, who knows the networks
        give_back(device)
    return drawn


def caption(
    subject: str | None, tags: Sequence[str], ending: str, fits: Callable[[str], bool]
) -> str:
    """The words for a design: its subject, as many tags as fit, likeliest first, and `ending`."""
    kept = list(tags)
    while True:
        text = ", ".join([*([subject] if subject else []), *kept, ending])
        if fits(text) or not kept:
            return text
        kept.pop()


def _eyes(designer: Designer, profile: Profile, device: torch.device) -> Callable[[Order], _Seen]:
    """How a picture is looked at: with the networks that are there, or by what stands in.

    For soft edges that is Canny's of the plain design: those of the photo are full of threads.
    """
    from backend.models.soft_edges import read_hed, soft_edges
    from backend.models.tagger import Tagger

    settings, inference = designer.settings, profile.inference
    hed = None if designer.edges is None else read_hed(designer.edges)
    tagger = None if designer.tagger is None else Tagger(designer.tagger)

    def look(order: Order) -> _Seen:
        if hed is None:
            edges = canny(order.plain, inference.canny_low, inference.canny_high)
        else:
            found = soft_edges(hed, order.embroidery, device)
            edges = _shrunk_and_back(found, settings.edge_side / profile.window)
        tags: list[str] = []
        if tagger is not None:
            tags = tagger.tags(order.embroidery, settings.tag_threshold, settings.ignored_tags)
        return _Seen(order.subject, edges, blur(order.embroidery, profile.window), tags)

    return look


def _shrunk_and_back(edges: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    height, width = edges.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(edges, size, interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, dtype=np.float32)


def _drawn(
    sd3: SD3, profile: Profile, seen: Sequence[_Seen], seed: int
) -> Generator[None, None, list[Picture]]:
    """Words, then pictures, then denoising, then pictures: each kind of network comes once."""
    settings = profile.pair
    prompts = [
        caption(
            each.subject or (None if each.tags else profile.subject),
            each.tags,
            settings.prompt,
            sd3.fits,
        )
        for each in seen
    ]
    text = sd3.encode_prompts([settings.negative, *prompts])
    conditions = [
        [sd3.encode_condition(_padded(picture, sd3.cell)) for picture in (each.edges, each.colours)]
        for each in seen
    ]
    latents = []
    for row, given in enumerate(conditions, start=1):
        noise = drawn = seeded_noise(sd3.device, tuple(given[0].shape), seed)
        words = text[[0, row]]
        for drawn in _denoised(sd3, noise, words, given, profile):  # noqa: B007 - the last counts
            yield
        latents.append(drawn)
    designs = []
    for each, drawn in zip(seen, latents):
        height, width = each.edges.shape
        picture = sd3.decode(drawn)[0].permute(1, 2, 0).cpu().numpy()
        designs.append(np.ascontiguousarray(picture[:height, :width]))
    return designs


def _denoised(
    sd3: SD3,
    latents: torch.Tensor,
    words: TextEmbedding,
    conditions: list[torch.Tensor],
    profile: Profile,
) -> Iterator[torch.Tensor]:
    """Flow matching's Euler steps from noise; the latents after each.

    Args:
        words: two rows, what is unwanted and what is wanted.
    """
    settings = profile.pair
    scales = [settings.canny_scale, settings.tile_scale]
    guided = settings.guidance > 1.0
    scheduler = sd3.pipeline.scheduler
    scheduler.set_timesteps(settings.steps)
    for timestep in scheduler.timesteps:
        if guided:
            both = torch.cat([latents, latents])
            unwanted, wanted = sd3.velocity(both, timestep, words, conditions, scales).chunk(2)
            velocity = unwanted + settings.guidance * (wanted - unwanted)
        else:
            velocity = sd3.velocity(latents, timestep, words[1:], conditions, scales)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        yield latents


def _padded(picture: NDArray[np.float32], cell: int) -> torch.Tensor:
    """(1, 3, H, W) of a picture or map, continued below and to the right to whole cells."""
    height, width = picture.shape[:2]
    more = [(0, -height % cell), (0, -width % cell), (0, 0)][: picture.ndim]
    return to_tensor(np.pad(picture, more, mode="edge"))
