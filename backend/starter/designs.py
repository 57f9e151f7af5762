"""Flat designs to sew: icons of permissive sets by name, and drawings by code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from backend.errors import InputError
from backend.starter.drawn import KINDS, draw

__all__ = ["Design", "Icon", "draw_design", "icon_design", "is_held_out", "load_icons"]

_UNWANTED = re.compile(
    r"skin-tone|-tone|flag|keycap|^(man|woman|person|people|men|women|couple|kiss|family)-"
    r"|button|square|letter|oclock|facing-right|^regional|^input"
)
COLOURS = {
    "black": (0.08, 0.08, 0.09), "white": (0.96, 0.96, 0.95), "gray": (0.5, 0.5, 0.52),
    "red": (0.82, 0.13, 0.14), "orange": (0.95, 0.5, 0.12), "yellow": (0.97, 0.83, 0.2),
    "green": (0.2, 0.55, 0.25), "teal": (0.1, 0.5, 0.5), "cyan": (0.35, 0.78, 0.88),
    "blue": (0.17, 0.35, 0.75), "navy": (0.1, 0.14, 0.35), "purple": (0.48, 0.25, 0.65),
    "pink": (0.95, 0.6, 0.72), "brown": (0.45, 0.28, 0.16), "beige": (0.87, 0.8, 0.68),
    "cream": (0.96, 0.93, 0.83), "silver": (0.75, 0.76, 0.78), "gold": (0.8, 0.62, 0.2),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Icon:
    """One drawing of an icon set: its name ("red-apple") and its SVG text."""

    name: str
    svg: str


@dataclass(frozen=True, slots=True)
class Design:
    """A flat design.

    Attributes:
        flat: (H, W, 3) float32 in [0, 1], artwork on a plain ground.
        art: (H, W) true on the artwork.
        subject: its words, such as "red apple".
        name: of the icon, or of the kind of drawing.
    """

    flat: npt.NDArray[np.float32]
    art: npt.NDArray[np.bool_]
    subject: str
    name: str


def is_held_out(name: str) -> bool:
    """Whether an icon belongs to the tenth that training never sees (by hash of its name)."""
    return hashlib.sha256(name.encode()).digest()[0] < 26


def load_icons(sets: Sequence[Path]) -> list[Icon]:
    """Read icon sets in Iconify's JSON format, without people, flags, letters and variants.

    Args:
        sets: paths of `icons.json` files.

    Raises:
        InputError: a file is missing or is no icon set.
    """
    icons = []
    for path in sets:
        try:
            content = json.loads(path.read_text("utf-8"))
            entries, size = content["icons"], content.get("width", 16)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no Iconify icon set ({error}).",
                "Install @iconify-json/fluent-emoji-flat and @iconify-json/noto with npm.",
            ) from error
        icons += [
            Icon(name, _svg(entry["body"], size))
            for name, entry in sorted(entries.items())
            if not _UNWANTED.search(name)
        ]
    return icons


def icon_design(icon: Icon, size: int, rng: np.random.Generator) -> Design:
    """Render an icon large or small, turned or mirrored, on a ground of a random colour."""
    side = int(size * rng.uniform(0.6, 1.25))
    rgba = rendered(icon.svg, side)
    if rng.random() < 0.5:
        rgba = rgba[:, ::-1]
    spot = np.array([size - side, size - side]) / 2 + rng.uniform(-0.1, 0.1, 2) * size
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.normal(0, 12)), 1.0)
    turn[:, 2] += spot
    placed = cv2.warpAffine(np.ascontiguousarray(rgba), turn, (size, size))
    return _on_ground(placed, _ground(rng), icon.name.replace("-", " "), icon.name)


def draw_design(size: int, rng: np.random.Generator) -> Design:
    """Draw a pattern, shape or letter in a few named colours."""
    kind = str(rng.choice(KINDS))
    names = rng.choice(list(COLOURS), int(rng.integers(3, 6)), replace=False)
    colours = np.array([COLOURS[name] for name in names]) + rng.normal(0, 0.05, (len(names), 3))
    palette = np.clip(colours, 0, 1).astype(np.float32)
    rgba = draw(kind, palette, size, rng)
    rgba[..., :3] *= rgba[..., 3:]
    return _on_ground(rgba, palette[0], f"{names[1]} {kind}", kind)


def _ground(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    base = np.array(list(COLOURS.values()))[int(rng.integers(len(COLOURS)))]
    if rng.random() < 0.4:  # cloth is often light and pale
        base = np.array([0.9, 0.88, 0.84])
    return np.clip(base + rng.normal(0, 0.06, 3), 0, 1).astype(np.float32)


def _on_ground(
    rgba: npt.NDArray[np.float32], ground: npt.NDArray[np.float32], subject: str, name: str
) -> Design:
    """Lay premultiplied RGBA on a plain colour."""
    alpha = np.clip(rgba[..., 3:], 0, 1)
    flat = np.clip(rgba[..., :3] + ground * (1 - alpha), 0, 1)
    return Design(flat.astype(np.float32), alpha[..., 0] > 0.5, subject, name)


def _svg(body: str, size: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {size} {size}" width="{{side}}" height="{{side}}">{body}</svg>'
    )


def rendered(svg: str, side: int) -> npt.NDArray[np.float32]:
    """Premultiplied RGBA of an icon."""
    import resvg_py  # only making data needs it

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg.replace("{side}", str(side))))
    bgra = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    rgba = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    return np.asarray(rgba, np.float32)
