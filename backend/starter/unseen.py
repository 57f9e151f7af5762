"""Photos and artwork that no training saw, as a batch takes them: for the model card's grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.imaging.files import write_png
from backend.starter.designs import Icon, icon_design, is_held_out
from backend.starter.stitches import HELD_OUT, draw_look, render

__all__ = ["write_unseen"]

_PHOTO, _ART = 640, 512  # pixels a side
_MOTIF = (0.15, 0.6)  # share of a photo that its motif takes


def write_unseen(icons: Sequence[Icon], folder: Path, count: int, seed: int) -> Path:
    """Write a photo of each held-out stitch family, `count` held-out icons, and their manifest.

    Returns:
        path of the manifest, every icon in every style.
    """
    usable = [icon for icon in icons if is_held_out(icon.name)]
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    photos, art = [], []
    for family in HELD_OUT:
        design = icon_design(usable[int(rng.integers(len(usable)))], _PHOTO, rng)
        while not _MOTIF[0] < design.art.mean() < _MOTIF[1]:
            design = icon_design(usable[int(rng.integers(len(usable)))], _PHOTO, rng)
        photos.append(f"{family.replace(' ', '_')}.png")
        picture = render(design.flat, design.art, draw_look(family, rng, window=256))
        write_png(folder / photos[-1], picture)
    for number in range(count):
        design = icon_design(usable[int(rng.integers(len(usable)))], _ART, rng)
        art.append(f"art_{number + 1}.png")
        write_png(folder / art[-1], np.dstack([design.flat, design.art.astype(np.float32)]))
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"inputs": art, "styles": photos}, indent=1), "utf-8")
    return manifest
