"""A contact sheet of a batch: its pictures in one, a row a style, a column an input or prompt."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from backend.errors import InputError
from backend.imaging.files import read_rgba, write_png

__all__ = ["write_sheet"]

_CLOTH = np.array([0.92, 0.91, 0.88], np.float32)  # shows through where pictures are transparent
_GAP = 0.03  # of a cell
_MADE = {"done", "already there"}
Picture = NDArray[np.float32]


def write_sheet(folder: Path, path: Path, *, side: int = 320, sources: bool = True) -> None:
    """Lay out what a batch has made so far; what is missing stays empty.

    Args:
        folder: of the batch, with results.json.
        path: PNG to write.
        side: of a picture on the sheet, pixels.
        sources: put the artwork, or the words, on top and each style's reference photo at the left.

    Raises:
        InputError: nothing was made.
        ResourceError: the file cannot be written.
    """
    rows = json.loads((folder / "results.json").read_text("utf-8"))["rows"]
    made = {(each["style"], _asked(each)): each for each in rows if each["state"] in _MADE}
    if not made:
        raise InputError(f"{folder}: there is no picture for a sheet.", "See results.json.")
    styles = list(dict.fromkeys(each["style"] for each in rows))
    asked = list(dict.fromkeys(map(_asked, rows)))
    lines: list[list[Picture]] = []
    if sources:
        lines.append([_blank(side), *(_source(*each, side) for each in asked)])
    for style in styles:
        cells = [_picture(folder, made.get((style, each)), side) for each in asked]
        lines.append([_cell(_photo(Path(style)), side), *cells] if sources else cells)
    write_png(path, _joined(lines, round(_GAP * side)))


def _asked(row: dict[str, Any]) -> tuple[str, str]:
    """What a row asks for: an input, or a prompt."""
    return row["input"], row.get("prompt", "")


def _source(artwork: str, prompt: str, side: int) -> Picture:
    return _cell(Path(artwork), side) if artwork else _words(prompt, side)


def _words(prompt: str, side: int) -> Picture:
    lines = textwrap.wrap(prompt, 16, max_lines=7, placeholder=" …")
    image = Image.fromarray(np.uint8(np.rint(_blank(side) * 255.0)))
    font = ImageFont.load_default(side / 10)
    ImageDraw.Draw(image).multiline_text(
        (side / 2, side / 2), "\n".join(lines), "black", font, anchor="mm", align="center"
    )
    return np.asarray(image, np.float32) / 255.0


def _photo(style: Path) -> Path:
    """What a style was learnt from: the photo itself, or the one that its folder keeps."""
    return style / "reference.png" if style.is_dir() else style


def _picture(folder: Path, row: dict[str, Any] | None, side: int) -> Picture:
    return _blank(side) if row is None else _cell(folder / row["picture"], side)


def _cell(path: Path, side: int) -> Picture:
    """A picture, whole, in the middle of a square."""
    rgba = read_rgba(path)
    rgb = rgba[..., :3] * rgba[..., 3:] + _CLOTH * (1.0 - rgba[..., 3:])
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = _blank(side)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = np.clip(small, 0.0, 1.0)
    return square


def _blank(side: int) -> Picture:
    return np.broadcast_to(_CLOTH, (side, side, 3)).astype(np.float32)


def _joined(lines: list[list[Picture]], gap: int) -> Picture:
    side, count = lines[0][0].shape[0], len(lines[0])
    step = side + gap
    sheet = np.ones((len(lines) * step - gap, count * step - gap, 3), np.float32)
    for row, line in enumerate(lines):
        for column, cell in enumerate(line):
            sheet[row * step :, column * step :][:side, :side] = cell
    return sheet
