"""Pictures for the tasks' examples, all drawn here: a painting, a drawing, a knitted heart.

Each task has a reference to learn from and another picture to restyle.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from backend.emolora.motifs import draw_motif
from backend.starter.stitches import draw_look, render

__all__ = ["draw_inputs"]

SIDE = 512
FINE = 2  # supersampling against jagged edges
Picture = NDArray[np.float32]
Pen = ImageDraw.ImageDraw


def draw_inputs(task: str, seed: int = 0) -> tuple[Picture, Picture]:
    """Reference and input of a task, each (H, W, 3) in [0, 1]."""
    rng = np.random.default_rng(seed)
    if task == "painting":
        return _painted(_landscape(), rng), _still_life()
    if task == "sketch":
        return _drawn(_fish, coloured=True), _drawn(_bird, coloured=False)
    if task == "appearance":
        return _knitted(rng), _still_life()
    picture, _ = draw_motif("leaf", SIDE, rng)
    return _knitted(rng), picture


def _canvas(draw: Callable[[Pen, float], None], ground: str = "white") -> Picture:
    """A drawing in units of a hundredth of the side."""
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), ground)
    draw(ImageDraw.Draw(image), SIDE * FINE / 100.0)
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255.0)


def _ellipse(pen: Pen, unit: float, box: tuple[float, float, float, float], **how: object) -> None:
    pen.ellipse([value * unit for value in box], **how)  # type: ignore[arg-type]


def _landscape() -> Picture:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    low, high = np.array((0.98, 0.78, 0.48)), np.array((0.25, 0.45, 0.78))
    scene = high + (low - high) * np.clip(y[..., None] / 0.62, 0.0, 1.0)
    scene[np.hypot(x - 0.68, y - 0.34) < 0.1] = (1.0, 0.9, 0.45)
    for base, height, turns, colour in (
        (0.58, 0.05, 7.0, (0.42, 0.42, 0.62)),
        (0.68, 0.06, 4.3, (0.2, 0.42, 0.36)),
        (0.82, 0.05, 2.6, (0.45, 0.55, 0.18)),
    ):
        hill = y > base + height * np.sin(turns * x + 9.0 * base)
        scene[hill] = np.array(colour) * (0.75 + 0.5 * (1.0 - y[hill][:, None]))
    trunk = (np.abs(x - 0.22) < 0.018) & (y > 0.5) & (y < 0.86)
    scene[trunk] = (0.32, 0.2, 0.13)
    for cx, cy, radius in ((0.22, 0.42, 0.13), (0.13, 0.5, 0.09), (0.31, 0.5, 0.09)):
        crown = np.hypot(x - cx, y - cy) < radius
        scene[crown] = (0.13, 0.34, 0.16)
    return np.clip(scene, 0.0, 1.0).astype(np.float32)


def _painted(scene: Picture, rng: np.random.Generator) -> Picture:
    """The scene in layers of brush strokes, broad ones first, each with bristles and a lit edge."""
    result = cv2.GaussianBlur(scene, (0, 0), 8.0)
    turn = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), 60.0)
    turn = 1.2 * turn / float(np.abs(turn).max())
    for width, length, count in ((22, 80, 900), (15, 54, 1500), (11, 36, 2400)):
        for _ in range(count):
            cx, cy = rng.uniform(0, SIDE, 2)
            row, column = int(cy), int(cx)
            angle = float(turn[row, column]) + rng.normal(0, 0.12)
            colour = np.clip(scene[row, column] + rng.normal(0, 0.045, 3), 0, 1)
            _stroke(result, (cx, cy), angle, length * rng.uniform(0.6, 1.1), width, colour, rng)
    return np.clip(result, 0.0, 1.0)


def _stroke(
    result: Picture,
    centre: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    colour: NDArray[np.floating],
    rng: np.random.Generator,
) -> None:
    reach = int(length / 2 + width)
    x0, y0 = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    x1, y1 = min(SIDE, int(centre[0]) + reach), min(SIDE, int(centre[1]) + reach)
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = -(x - centre[0]) * np.sin(angle) + (y - centre[1]) * np.cos(angle)
    bristles = rng.normal(0, 1, 16)
    lane = np.clip((across / width + 0.5) * 15, 0, 15).astype(int)
    ends = length / 2 * (1.0 + 0.12 * bristles[lane])
    cover = np.clip((width / 2 - np.abs(across)) / 1.5, 0, 1) * np.clip(
        (ends - np.abs(along)) / 3, 0, 1
    )
    light = 0.05 * bristles[lane] - 0.16 * (2.0 * across / width) ** 3
    paint = np.clip(colour + light[..., None], 0, 1)
    here = result[y0:y1, x0:x1]
    here += cover[..., None] * (paint - here)


def _still_life() -> Picture:
    """Smoothly shaded fruit on a table, as a photo shows it."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    wall = np.array((0.62, 0.68, 0.7)) * (1.05 - 0.35 * x[..., None])
    table = np.array((0.55, 0.36, 0.22)) * (0.75 + 0.5 * y[..., None])
    scene = np.where((y > 0.62)[..., None], table, wall)
    fruits = (
        (0.34, 0.6, 0.2, 0.2, (0.85, 0.18, 0.12)),
        (0.66, 0.52, 0.17, 0.24, (0.8, 0.75, 0.2)),
        (0.56, 0.76, 0.13, 0.13, (0.95, 0.55, 0.1)),
    )
    for cx, cy, rx, ry, _ in fruits:
        shadow = np.hypot((x - cx - 0.07) / (1.2 * rx), (y - cy - 0.8 * ry) / (0.4 * ry))
        scene = scene * (1.0 - 0.5 * np.clip(1.4 - shadow, 0, 1))[..., None]
    for cx, cy, rx, ry, colour in fruits:
        u, v = (x - cx) / rx, (y - cy) / ry
        depth = np.sqrt(np.clip(1.0 - u**2 - v**2, 0.0, 1.0))
        light = np.clip(-0.5 * u - 0.55 * v + 0.67 * depth, 0.0, 1.0)
        body = np.array(colour) * (0.3 + 0.8 * light[..., None]) + 0.5 * light[..., None] ** 24
        cover = np.clip((1.0 - np.hypot(u, v)) * rx * SIDE, 0.0, 1.0)[..., None]
        scene = scene * (1.0 - cover) + body * cover
    return np.clip(scene, 0.0, 1.0).astype(np.float32)


def _drawn(motif: Callable[[Pen, float, bool], None], *, coloured: bool) -> Picture:
    ground = "#bfe3ea" if coloured else "white"
    return _canvas(lambda pen, unit: motif(pen, unit, coloured), ground)


def _line(unit: float) -> int:
    return round(1.1 * unit)


def _shape(
    pen: Pen, unit: float, points: list[tuple[float, float]], fill: str, coloured: bool
) -> None:
    corners = [(a * unit, b * unit) for a, b in points]
    if coloured:
        pen.polygon(corners, fill=fill)
    pen.line([*corners, corners[0]], fill="#202020", width=_line(unit), joint="curve")


def _round(
    pen: Pen, unit: float, box: tuple[float, float, float, float], fill: str, coloured: bool
) -> None:
    inside = fill if coloured else "white"
    _ellipse(pen, unit, box, fill=inside, outline="#202020", width=_line(unit))


def _fish(pen: Pen, unit: float, coloured: bool) -> None:
    _shape(pen, unit, [(66, 50), (92, 28), (86, 50), (92, 72)], "#d94f1e", coloured)
    _shape(pen, unit, [(34, 34), (50, 14), (62, 36)], "#d94f1e", coloured)
    _shape(pen, unit, [(38, 66), (48, 84), (58, 65)], "#d94f1e", coloured)
    _round(pen, unit, (10, 28, 74, 72), "#f59b23", coloured)
    for left in (40, 50, 60):
        box = [value * unit for value in (left - 12, 36, left, 64)]
        pen.arc(box, -70, 70, fill="#202020", width=_line(unit))
    _round(pen, unit, (20, 40, 29, 49), "#ffffff", coloured)
    _ellipse(pen, unit, (23, 43, 27, 47), fill="#202020")


def _bird(pen: Pen, unit: float, coloured: bool) -> None:
    _shape(pen, unit, [(66, 58), (94, 44), (90, 58), (94, 70)], "#d94f1e", coloured)
    _round(pen, unit, (24, 34, 74, 78), "#f59b23", coloured)
    _round(pen, unit, (14, 16, 46, 48), "#f59b23", coloured)
    _shape(pen, unit, [(15, 29), (3, 34), (15, 38)], "#d94f1e", coloured)
    _shape(pen, unit, [(42, 50), (66, 48), (74, 62), (54, 68)], "#d94f1e", coloured)
    _round(pen, unit, (23, 25, 32, 34), "#ffffff", coloured)
    _ellipse(pen, unit, (26, 28, 30, 32), fill="#202020")
    for leg in (44, 54):
        pen.line([leg * unit, 78 * unit, leg * unit, 92 * unit], fill="#202020", width=_line(unit))


def _knitted(rng: np.random.Generator) -> Picture:
    """A red heart, knitted, by the starter's own stitch renderer."""
    picture, cover = draw_motif("heart", SIDE, rng)
    design = np.empty_like(picture)
    design[:] = (0.86, 0.84, 0.78)
    heart = cover[..., None]
    design = (design * (1.0 - heart) + np.array((0.72, 0.1, 0.16)) * heart).astype(np.float32)
    return render(design, cover > 0.5, draw_look("knit", rng, window=SIDE))
