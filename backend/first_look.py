"""The first look: artwork sewn from pieces of a photo within seconds, without training."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from backend.imaging.artwork import sewable
from backend.jobs import Progress
from backend.models import profiles

__all__ = ["first_look"]


def first_look(
    photo: NDArray[np.float32],
    rgba: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    design: str | None,
    *,
    seed: int,
) -> Generator[Progress, None, NDArray[np.float32]]:
    """The instant preview of artwork.

    Args:
        photo: of an embroidery, (h, w, 3).
        rgba: the artwork, (H, W, 4); its alpha is kept.
        mask: (H, W), where to embroider; None: wherever alpha is not 0.
        design: path of the photo's own artwork, if that is owned.

    Returns:
        (H, W, 4).

    Raises:
        InputError: the design cannot be used.
    """
    from backend.imaging.flatten import flatten
    from backend.imaging.locate import locate_motif
    from backend.preview.analogy import synthesise

    yield Progress(stage="preparing reference", step=0, steps=1)
    (left, top, right, bottom), art = locate_motif(photo)
    flat = flatten(photo, art, seed=seed)
    if design is not None:
        from backend.emolora.registration import lay

        crop = np.s_[top:bottom, left:right]
        laid = lay(design, photo[crop], art[crop])
        cover = laid[..., 3:]
        flat[crop] = laid[..., :3] * cover + flat[crop] * (1.0 - cover)
    yield Progress(stage="preparing reference", step=1, steps=1)
    yield Progress(stage="laying thread", step=0, steps=1)
    # The thread of the first look is as wide as that of the style which training will make.
    thread = profiles.get("starter").pair.thread_px
    drawn, cover = sewable(rgba, mask, thread)
    rgb = synthesise(photo, flat, art, drawn, cover, seed=seed, thread=thread)
    rgb = np.where((cover > 0.5)[..., None], rgb, rgba[..., :3])
    yield Progress(stage="laying thread", step=1, steps=1)
    return np.dstack([rgb, rgba[..., 3]])
