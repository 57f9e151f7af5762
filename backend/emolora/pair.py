"""The pair design → embroidery of one photo (paper, section 3.1)."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.emolora.designs import Draw, by_base, draws, eight_bit, made_plainly, plain
from backend.emolora.framing import scaled, with_margin
from backend.emolora.registration import lay
from backend.imaging.edges import thread_width
from backend.imaging.files import read_art, read_mask, read_reference, read_rgba, write_png
from backend.imaging.locate import locate_motif
from backend.imaging.masks import bounding_box, extend_colours
from backend.models.loading import Models
from backend.models.profiles import Profile

__all__ = ["PAIR_MARK", "Pair", "pair_drawn", "pair_steps"]

PAIR_MARK = "pair.json"
"""The file of a pair that is written last."""

_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
_PICTURES = ("design", "embroidery", "mask")


@dataclass(frozen=True, slots=True)
class Pair:
    """Design and embroidery of one motif, laid over each other.

    Attributes:
        design, embroidery: (H, W, 3) float32 in [0, 1], sides multiples of 8 and at least a window.
        mask: (H, W), 1 on the motif, 0 on cloth.
        designed: where the design came from, a key of `backend.styles.DESIGNED`.
    """

    design: NDArray[np.float32]
    embroidery: NDArray[np.float32]
    mask: NDArray[np.float32]
    designed: str = "unknown"

    def save(self, folder: Path) -> None:
        """Write design.png, embroidery.png and mask.png, and pair.json when all is there."""
        for name in _PICTURES:
            write_png(folder / f"{name}.png", getattr(self, name))
        aside = folder / f"{PAIR_MARK}.new"
        aside.write_text(json.dumps({"designed": self.designed}) + "\n", encoding="utf-8")
        os.replace(aside, folder / PAIR_MARK)

    @classmethod
    def load(cls, folder: Path) -> Pair:
        """Read what `save` wrote."""
        design, embroidery = (
            np.ascontiguousarray(read_rgba(folder / f"{name}.png")[..., :3])
            for name in ("design", "embroidery")
        )
        about = json.loads((folder / PAIR_MARK).read_text(encoding="utf-8"))
        return cls(design, embroidery, read_mask(folder / "mask.png"), about["designed"])


def pair_steps(
    models: Models,
    reference: str,
    *,
    design: str | None = None,
    mask: str | None = None,
    subject: str | None = None,
    seed: int = 0,
) -> Generator[None, None, Pair]:
    """`pair_drawn`, with a missing design drawn by the base model, or without any model.

    Args:
        subject: what the photo shows, for the model's prompt.
    """
    draw = by_base(models, subject, seed) if draws(models.profile) else None
    made = yield from pair_drawn(
        models.profile, reference, draw, design=design, mask=mask, seed=seed
    )
    return made


def pair_drawn(
    profile: Profile,
    reference: str,
    draw: Draw | None,
    *,
    drawer: str = "base",
    design: str | None = None,
    mask: str | None = None,
    seed: int = 0,
) -> Generator[None, None, Pair]:
    """Make the pair from a photo, at the scale at which the profile sees threads well.

    Yields between its parts, none of which takes long, so that closing it cancels.

    Args:
        reference, design, mask: paths of the photo, of its artwork, of white where it is sewn.
        draw: who draws a missing design; None: it is made without any model.
        drawer: what is recorded of who draws, a key of `backend.styles.DESIGNED`.

    Raises:
        InputError: a file cannot be used.
    """
    settings = profile.pair
    photo = read_reference(reference)
    yield
    if mask is not None:
        art = read_art(mask, photo.shape[:2])
        box = with_margin(bounding_box(art > 0.5), photo.shape[:2])
    elif settings.located:
        box, art = locate_motif(photo)
    else:
        art = np.ones(photo.shape[:2], dtype=np.float32)
        box = (0, 0, photo.shape[1], photo.shape[0])
    yield
    layers = [photo, art[..., None]]
    if design is not None:
        crop = np.s_[box[1] : box[3], box[0] : box[2]]
        laid = np.zeros((*photo.shape[:2], 4), dtype=np.float32)
        laid[crop] = lay(design, photo[crop], art[crop])
        if mask is None and settings.located and 0.02 < laid[..., 3].mean() < 0.98:
            covered = (laid[..., 3] > 0.5).astype(np.uint8)
            art = cv2.morphologyEx(covered, cv2.MORPH_CLOSE, _DISC).astype(np.float32)
        layers = [photo, art[..., None], laid]
        yield
    thread = thread_width(photo, art)
    yield
    stack = scaled(np.dstack(layers), box, thread, profile)
    embroidery, art = stack[..., :3], (stack[..., 3] > 0.5).astype(np.float32)
    flat, designed = plain(profile, embroidery, art, seed), made_plainly(profile)
    yield
    if design is not None:
        designed = "given"
        cover = stack[..., 7:]
        flat = stack[..., 4:7] * cover + _cloth_alone(flat, art) * (1.0 - cover)
    elif draw is not None:
        designed = drawer
        flat = yield from draw(embroidery, flat)
    return Pair(eight_bit(flat), eight_bit(embroidery), art, designed)


def _cloth_alone(flat: NDArray[np.float32], art: NDArray[np.float32]) -> NDArray[np.float32]:
    """The flat ground, continued under the motif and the stitches that stand over its edge."""
    reach = max(3, round(0.02 * max(art.shape)))
    near = cv2.dilate(art.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    return extend_colours(flat, near == 0)
