"""Text input where a base draws words with a UNet of its own: a flat motif, then image input.

The paper draws and embroiders at once (section 3.4), with a base that knows both. The starter's
composer knows motifs and its UNet stitches, so the one draws and the other embroiders: what the
reference code does for its complementary data.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.emolora.sampling import denoise, seeded_noise
from backend.imaging.flatten import flatten
from backend.imaging.masks import colour_outlines, extend_colours, remove_specks
from backend.jobs import GenerateJob, Progress, RestyleJob
from backend.models.loading import Models
from backend.progress import Meter, Show, Stage, unseen
from backend.restyle.cutout import clear, nothing_found
from backend.restyle.image import counted, restyle
from backend.styles import Style

__all__ = ["COMPOSING_STEPS", "DECIDED_BY", "compose", "drawn_flat", "embroider_words"]

COMPOSING_STEPS = 3
DECIDED_BY = 0.85
"""Share of the timesteps before which a composer is not used: what is drawn is decided by then."""

_SOFT = 0.045  # width of a drawn motif's edge, of its side
_CRUMB = 1 / 400  # of the picture: smaller pieces are specks of noise
_RIM = 1 / 150  # smaller bright pieces beside the ground are a composer's rim
_GAP = 1 / 40  # narrower gaps within a motif are where one colour fades into another
_SMOOTH = 0.005  # outlines are evened out over this, of the picture's side
_APART = 0.09  # what differs this much from the corners' colour, of 1, is the motif


def compose(
    composer: Models,
    subjects: Sequence[str],
    seed: int,
    *,
    steps: int = COMPOSING_STEPS,
    guidance: float = 1.0,
) -> Generator[None, None, list[NDArray[np.float32]]]:
    """Draw flat motifs from words, by DDIM over the noisiest timesteps, then z_0 at once.

    Args:
        composer: a base with its composer's networks (`with_composer`).
        subjects: "a red heart" and the like.
        seed: of the noise.
        guidance: classifier-free guidance scale; 1 or less: off.

    Yields:
        None after each step.

    Returns:
        a picture (S, S, 3) in [0, 1] a subject, S the composer's own side.
    """
    cells = int(composer.unet.config.sample_size)
    shape = (len(subjects), int(composer.unet.config.in_channels), cells, cells)
    text = composer.encode_prompts(list(subjects))
    nothing = composer.encode_prompts([""])
    noise = seeded_noise(composer.device, shape, seed)
    work = denoise(
        composer, None, noise, text, nothing, steps=steps, until=DECIDED_BY, guidance=guidance
    )
    for latents in work:  # noqa: B007 - the last ones count
        yield None
    pictures = composer.decode(latents).permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(each, np.float32) for each in pictures]


def drawn_flat(
    picture: NDArray[np.float32], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A composed motif at full size, in few even colours, and where it is.

    Args:
        picture: (S, S, 3), a motif on a plain ground.

    Returns:
        (height, width, 3), even to beyond its outline, and how much of each pixel the motif covers
        (height, width): 1 on it, between along its outline.
    """
    side = min(height, width)
    large = np.clip(cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
    edge = np.concatenate([large[0], large[-1], large[:, 0], large[:, -1]])
    ground = np.median(edge, axis=0).astype(np.float32)
    art = (np.abs(large - ground).max(axis=2) > _APART).astype(np.uint8)
    art = cv2.morphologyEx(art, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    # The composer draws soft edges: they get the colour further in, and end half way to the ground.
    sound = colour_outlines(large, art > 0, art == 0, depth=_SOFT * side)
    own, inner = (np.abs(each - ground).max(axis=2) for each in (large, sound))
    art[own < 0.5 * inner] = 0
    art = cv2.morphologyEx(art, cv2.MORPH_OPEN, np.ones((side // 100 * 2 + 1,) * 2, np.uint8))
    art = art > 0
    art &= ~_rim(art, large.mean(axis=2) > ground.mean(), _RIM * side**2)
    art = remove_specks(art, _CRUMB * side**2, 0.0).astype(np.uint8)
    # Again on even ground: the composer draws a bright rim, beside which nothing seems to fade.
    even = np.where(art[..., None] > 0, sound, ground)
    sound = colour_outlines(even, art > 0, art == 0, depth=_SOFT * side)
    spread = _SMOOTH * side
    smooth = cv2.GaussianBlur(_without_gaps(art, _GAP * side), (0, 0), spread)
    slope = 1.0 / (math.sqrt(2.0 * math.pi) * spread)  # of a straight outline, a pixel
    soft = np.clip((smooth - 0.5) / slope + 0.5, 0.0, 1.0)
    # The outermost colours are mixed with the rim's.
    inner = cv2.erode(art, np.ones((side // 200 * 2 + 1,) * 2, np.uint8)) > 0
    flat = flatten(extend_colours(sound, inner), soft > 0.0, thread=side / 48.0)
    sheet = np.empty((height, width, 3), np.float32)
    sheet[:] = ground
    cover = np.zeros((height, width), np.float32)
    top, left = (height - side) // 2, (width - side) // 2
    here = np.s_[top : top + side, left : left + side]
    cover[here] = soft
    sheet[here] = np.where(soft[..., None] > 0.0, flat, ground)
    return sheet, cover


def _without_gaps(art: NDArray[np.uint8], width: float) -> NDArray[np.float32]:
    """The motif, closed where it parts in the middle of itself."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(width) // 2 * 2 + 1,) * 2)
    closed = cv2.morphologyEx(art, cv2.MORPH_CLOSE, kernel)
    _, parts = cv2.connectedComponents(np.pad(1 - art, 1, constant_values=1), connectivity=4)
    outside = parts[1:-1, 1:-1] == parts[0, 0]
    return np.where(outside, art, closed).astype(np.float32)


def _rim(art: NDArray[np.bool_], bright: NDArray[np.bool_], crumb: float) -> NDArray[np.bool_]:
    """Crumbs of the bright rim that a composer draws beside strong colours."""
    beside = cv2.dilate((~art).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _, pieces, stats, _ = cv2.connectedComponentsWithStats((art & bright).astype(np.uint8))
    drop = stats[:, cv2.CC_STAT_AREA] < crumb
    drop[np.setdiff1d(np.arange(len(drop)), pieces[beside])] = False  # a glint within the motif
    drop[0] = False
    return np.asarray(drop[pieces])


def embroider_words(
    models: Models,
    composer: Models,
    style: Style,
    subject: str,
    job: GenerateJob,
    show: Show = unseen,
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Draw a motif flat, then embroider it as image input.

    Args:
        models: the style's base.
        composer: the same with its composer's networks.
        subject: the prompt without the trigger.
        job: size, ground, guidance, steps, seed and style strength are read; guidance and steps
            are the drawing's.

    Returns:
        (H, W, 3) in [0, 1], or without its ground (H, W, 4).

    Raises:
        InputError: the ground is to be left out, but nothing stands out from it.
    """
    side = models.profile.window
    height, width = job.height or side, job.width or side
    steps = job.steps or COMPOSING_STEPS
    meter = Meter([Stage("composing", steps + 1, 0.1)])
    guidance = 1.0 if job.guidance is None else job.guidance
    drawing = compose(composer, [subject], job.seed, steps=steps, guidance=guidance)
    (picture,) = yield from counted(drawing, meter, "composing")
    flat, art = drawn_flat(picture, height, width)
    meter.preview = show(flat)
    yield meter.tick("composing")
    if job.ground == "none" and not art.any():
        raise nothing_found(job.prompt)
    cover = art if art.any() else np.ones_like(art)  # where nothing stands out, all is sewn
    rgba = np.dstack([flat, cover > 0.0]).astype(np.float32)
    image = RestyleJob(
        style=job.style,
        input=job.prompt,
        out=job.out,
        style_strength=job.style_strength,
        seed=job.seed,
    )
    sewn = yield from restyle(models, style, rgba, None, image, show)
    if job.ground == "none":
        return clear(sewn[..., :3], cover)
    ground = flat.reshape(-1, 3)[cover.argmin()]
    return ground + cover[..., None] * (sewn[..., :3] - ground)
