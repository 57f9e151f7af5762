"""The motifs that the composer knows by name, each in every colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from backend.errors import InputError
from backend.imaging.colour import lab_to_rgb, rgb_to_lab
from backend.starter.designs import COLOURS, Icon, is_held_out, rendered

__all__ = ["CHARACTERS", "LIST", "TINTS", "Motif", "Picture", "motifs", "recoloured"]

Picture = npt.NDArray[np.float32]

LIST = Path(__file__).with_suffix(".txt")
"""Lines of a name and, where that is another, the name of its icon behind it."""

TINTS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "gray",
         "black", "white")  # fmt: skip
"""The colours a motif can be asked for in; without one it has its own."""

CHARACTERS = {
    **{f"letter {each}": each.upper() for each in "abcdefghijklmnopqrstuvwxyz"},
    **{f"number {each}": each for each in "0123456789"},
}
"""Motifs that are drawn with the font (Aileron, CC0) that Pillow carries."""

_INK = (43, 69, 138)

_GROUND = np.array([0.86, 0.84, 0.79], np.float32)  # linen: neither white nor any of the colours
_SHARE = 0.78  # of the picture's side that a motif takes
_LIT = 12.0  # chroma from which a pixel has a hue at all
_NEAR = np.radians(50.0)  # hues this near to the artwork's main one change with it
_DARK, _LIGHT = 14.0, 93.0  # lightness of eyes, outlines and highlights, which stay


@dataclass(frozen=True, slots=True)
class Motif:
    """A thing by its name, as (H, W, 4) premultiplied RGBA in [0, 1]."""

    name: str
    rgba: Picture


def motifs(icons: Sequence[Icon], side: int) -> Iterator[Motif]:
    """Every motif of `motifs.txt` (its name, then the icon's if that is another), then characters.

    Args:
        icons: of Fluent Emoji, from which the first icon of a name is taken.
        side: pixels of the picture.

    Raises:
        InputError: an icon is missing, or is held out of training.
    """
    known = {icon.name: icon for icon in reversed(icons)}
    for line in LIST.read_text("utf-8").splitlines():
        name, _, icon = line.rpartition(" ")
        if icon not in known or is_held_out(icon):
            raise InputError(
                f"motifs.txt names the icon {icon!r}, which is missing or held out.",
                "Give @iconify-json/fluent-emoji-flat first, or name another icon.",
            )
        yield Motif(name or icon, _centred(rendered(known[icon].svg, side), side))
    for name, character in CHARACTERS.items():
        yield Motif(name, _centred(_written(character, side), side))


def recoloured(motif: Motif, tint: str = "") -> Picture:
    """(H, W, 3) of a motif on linen; its main hue, or all of it if it has none, becomes the tint's.

    Shades of the main colour stay lighter and darker; eyes, outlines and highlights stay.
    """
    alpha = np.asarray(motif.rgba[..., 3:], np.float32)
    rgb = np.clip(motif.rgba[..., :3] / np.maximum(alpha, 1e-3), 0, 1).astype(np.float32)
    if tint:
        rgb = _tinted(rgb, alpha[..., 0] > 0.5, COLOURS[tint])
    return np.asarray(np.clip(rgb * alpha + _GROUND * (1 - alpha), 0, 1), np.float32)


def _tinted(rgb: Picture, inside: npt.NDArray[np.bool_], tint: Sequence[float]) -> Picture:
    lab = rgb_to_lab(rgb)
    wanted = rgb_to_lab(np.array([[tint]], np.float32))[0, 0]
    light, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    hue = np.arctan2(lab[..., 2], lab[..., 1])
    coloured = inside & (chroma > _LIT)
    changed = inside & (light > _DARK) & (light < _LIGHT)
    if coloured.sum() > 0.3 * inside.sum():
        counts, edges = np.histogram(hue[coloured], 36, (-np.pi, np.pi), weights=chroma[coloured])
        spread = counts + np.roll(counts, 1) + np.roll(counts, -1)
        main = edges[int(spread.argmax())] + np.pi / 36
        away = np.abs(np.angle(np.exp(1j * (hue - main))))
        changed = coloured & (away < _NEAR)
    if changed.sum() < 0.3 * inside.sum():  # a white thing: its outline alone would change
        changed = inside & (light > _DARK)
    if not changed.any():
        changed = inside
    shade = light[changed] - np.median(light[changed])
    room = min(wanted[0] - 6.0, 97.0 - wanted[0]) / max(1.0, float(np.abs(shade).max()))
    out = lab.copy()
    out[changed, 0] = wanted[0] + shade * min(1.0, room)
    out[changed, 1:] = wanted[1:]
    return np.asarray(np.clip(lab_to_rgb(out), 0, 1), np.float32)


def _written(character: str, side: int) -> Picture:
    """(2 S, 2 S, 4) of a bold letter or digit, large and with a margin."""
    sheet = Image.new("RGBA", (2 * side, 2 * side))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(1.4 * side)
    bold = round(0.07 * side)
    draw.text((side, side), character, _INK, font, anchor="mm", stroke_width=bold)
    rgba: Picture = np.asarray(sheet, np.float32) / np.float32(255)
    rgba[..., :3] *= rgba[..., 3:]
    return rgba


def _centred(rgba: Picture, side: int) -> Picture:
    """The drawing itself, without its margin, in the middle."""
    rows, columns = np.nonzero(rgba[..., 3] > 0.05)
    part = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = _SHARE * side / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    out = np.zeros((side, side, 4), np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = np.clip(part, 0, 1)
    return out
