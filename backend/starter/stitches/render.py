"""Draw a flat design as a textile: regions, thread geometry, light, colours kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from backend.starter.stitches import cells, held_out, rows
from backend.starter.stitches.book import BOOK
from backend.starter.stitches.canvas import Canvas, Grid, Labels, Relief, lay_out, smooth_noise

__all__ = ["HELD_OUT", "TRAINING", "Look", "Picture", "book_look", "draw_look", "regions", "render"]

Picture = npt.NDArray[np.float32]
"""(H, W, 3) sRGB values in [0, 1]."""
Mask = npt.NDArray[np.bool_]

TRAINING: Mapping[str, Callable[[Canvas], Relief]] = MappingProxyType(
    {
        "satin": rows.satin,
        "tatami": rows.tatami,
        "long and short": rows.long_and_short,
        "brick": rows.brick,
        "stem": rows.stem,
        "couching": rows.couching,
        "chain": cells.chain,
        "knit": cells.knit,
        "woven": cells.weave,
        "terry": cells.terry,
        "bead": cells.beads,
        "french knot": cells.french_knots,
    }
)
"""Families the starter is trained on, by the name captions give them."""

HELD_OUT: Mapping[str, Callable[[Canvas], Relief]] = MappingProxyType(
    {
        "cross stitch": held_out.cross_stitch,
        "sequin": held_out.sequins,
        "herringbone": held_out.herringbone,
    }
)
"""Families that never enter training."""

_ROWS = frozenset(["satin", "tatami", "long and short", "brick", "stem", "couching", "chain"])
_GROUNDS = ("cloth", "terry", "plain")


@dataclass(frozen=True, slots=True)
class Look:
    """How one textile is made and lit.

    Attributes:
        family: a key of `TRAINING` or `HELD_OUT`.
        width: thread width in pixels.
        ground: what the art lies on, "cloth", "terry" or "plain"; "none" sews over everything.
        contrast: standard deviation of the shading around 1.
        azimuth, elevation: where the light comes from, radians.
        sheen: strength of the highlights.
        seed: of thread directions and every unevenness.
        book: sewn by the book, see `stitches.book`.
    """

    family: str
    width: float
    ground: str
    contrast: float
    azimuth: float
    elevation: float
    sheen: float
    seed: int
    book: bool = False


def draw_look(family: str, rng: np.random.Generator, *, window: int = 256) -> Look:
    """Choose thread width (4 to 9 px at 256 px), ground, light and sheen for a family."""
    return Look(
        family=family,
        width=float(rng.uniform(4.0, 9.0)) * window / 256,
        ground=str(rng.choice([*_GROUNDS, "none"], p=[0.5, 0.1, 0.25, 0.15])),
        contrast=float(rng.uniform(0.14, 0.26)),
        azimuth=float(rng.uniform(0, 2 * np.pi)),
        elevation=float(rng.uniform(0.55, 1.0)),
        sheen=float(rng.uniform(0.25, 1.0)),
        seed=int(rng.integers(2**31)),
    )


def book_look(family: str, rng: np.random.Generator) -> Look:
    """A family by the book, over everything, with the same light on every picture.

    Where a crop shows no border, design and ground look alike; if one were sewn and the other not,
    the best guess would be half a thread on both.

    Args:
        family: a key of `TRAINING`.
        rng: chooses the seed.
    """
    return Look(
        family=family,
        width=BOOK[family].width,
        ground="none",
        contrast=0.24,
        azimuth=-0.75 * np.pi,
        elevation=0.75,
        sheen=0.6,
        seed=int(rng.integers(2**31)),
        book=True,
    )


def regions(design: Picture, art: Mask) -> Labels:
    """Number the colour regions of a design; 0 is the ground.

    Args:
        design: flat artwork on its ground.
        art: (H, W), true where the artwork is.
    """
    soft = cv2.medianBlur((design * 255).astype(np.uint8), 5)
    bins = (soft.astype(np.int32) + 21) // 43
    keys = bins[..., 0] * 49 + bins[..., 1] * 7 + bins[..., 2] + 1
    keys[~art] = 0
    counts = np.bincount(keys.ravel(), minlength=400)
    big = np.flatnonzero((counts > 0.004 * keys.size) & (np.arange(counts.size) > 0))
    if big.size == 0:
        return art.astype(np.int32)
    centres = np.array([soft[keys == key].mean(0) for key in big], np.float32)
    table = np.zeros(counts.size, np.int32)
    present = np.flatnonzero(counts)
    for key in present[present > 0]:
        own = soft[keys == key].mean(0)
        table[key] = 1 + int(np.argmin(((centres - own) ** 2).sum(1)))
    return np.asarray(table[keys], np.int32)


def render(design: Picture, art: Mask, look: Look) -> Picture:
    """Sew a design.

    Args:
        design: (H, W, 3) flat artwork on its ground colour.
        art: (H, W), true where the artwork is.
        look: textile and light; the same look gives the same picture.

    Returns:
        The textile, with the mean colour of every region kept.
    """
    rng = np.random.default_rng(look.seed)
    everywhere = look.ground == "none"
    labels = regions(design, art | everywhere)
    family = {**TRAINING, **HELD_OUT}[look.family]
    canvas = lay_out(
        labels,
        look.width,
        rng,
        outlines=look.family in _ROWS,
        book=BOOK[look.family] if look.book else None,
    )
    relief = family(canvas)
    sewn = _paint(design, relief, look)
    if not everywhere:
        soft = cv2.GaussianBlur(_moved(art.astype(np.float32), relief), (0, 0), 0.6)
        alpha = (soft * (0.35 + 0.65 * relief.cover))[..., None]
        shadow = cv2.GaussianBlur(soft, (0, 0), 1.6 + 0.25 * look.width)
        ground = _ground(design, look, rng) * (1 - 0.25 * shadow * (1 - soft))[..., None]
        sewn = sewn * alpha + ground * (1 - alpha)
    return _keep_colours(cv2.GaussianBlur(sewn, (0, 0), 0.45), design, labels)


def _moved(values: npt.NDArray[np.float32], relief: Relief) -> npt.NDArray[np.float32]:
    """Every pixel takes the value at its stitch's own spot."""
    y, x = (g.astype(np.float32) for g in np.mgrid[: values.shape[0], : values.shape[1]])
    moved = cv2.remap(
        values,
        x + relief.shift_x,
        y + relief.shift_y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(moved, np.float32)


def _paint(colours: Picture, relief: Relief, look: Look) -> Picture:
    shade, shine = _light(relief, look)
    base = _moved(colours, relief) * relief.tint[..., None]
    lit = base * shade[..., None] + 0.07 * (shade[..., None] - 1)  # black thread shows relief too
    glint = (0.35 + 0.65 * base) * (shine * relief.gloss * look.sheen)[..., None]
    return np.asarray(lit + 0.55 * glint, np.float32)


def _light(relief: Relief, look: Look) -> tuple[Grid, Grid]:
    """Diffuse shading with mean 1 and the look's contrast, and highlights along the fibres."""
    height = cv2.GaussianBlur(relief.height, (0, 0), 0.5)
    gy, gx = np.gradient(height * 0.5 * look.width)
    norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
    flat = np.cos(look.elevation)
    light = np.array(
        [flat * np.cos(look.azimuth), flat * np.sin(look.azimuth), np.sin(look.elevation)]
    )
    diffuse = np.maximum(0, (-gx * light[0] - gy * light[1] + light[2]) * norm)
    shade = (0.3 + 0.7 * diffuse) * (0.45 + 0.55 * np.clip(height, 0, 1) ** 0.7)
    spread = max(float(shade.std()), 1e-3)
    shade = 1 + (shade - shade.mean()) * min(look.contrast / spread, 3.0)
    # Kajiya and Kay (1989): a fibre shines where the half vector stands across it.
    half = light + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    tx, ty = np.cos(relief.angle), np.sin(relief.angle)
    tz = gx * tx + gy * ty
    along = (tx * half[0] + ty * half[1] + tz * half[2]) / np.sqrt(1 + tz * tz)
    facing = np.maximum(0, (-gx * half[0] - gy * half[1] + half[2]) * norm)
    shine = np.maximum(0, 1 - along**2) ** 6 * facing**14 * np.clip(height, 0, 1)
    return shade.astype(np.float32), shine.astype(np.float32)


def _ground(design: Picture, look: Look, rng: np.random.Generator) -> Picture:
    if look.ground == "plain":
        return design
    terry = look.ground == "terry"
    width = look.width * float(rng.uniform(0.8, 1.1) if terry else rng.uniform(0.35, 0.6))
    labels: Labels = np.zeros((design.shape[0], design.shape[1]), np.int32)
    canvas = lay_out(labels, max(width, 2.2), rng)
    if not terry:  # cloth hangs straight
        y, x = (g.astype(np.float32) for g in np.mgrid[: labels.shape[0], : labels.shape[1]])
        canvas.angle = np.zeros(canvas.shape, np.float32)
        bend = smooth_noise(rng, canvas.shape, 60)
        canvas.along, canvas.across = x + 2 * bend, y + 2 * bend[::-1]
    relief = cells.terry(canvas) if terry else cells.weave(canvas)
    return _paint(design, relief, _ground_look(look, terry))


def _ground_look(look: Look, terry: bool) -> Look:
    return Look(
        family=look.family,
        width=look.width,
        ground=look.ground,
        contrast=look.contrast * (0.7 if terry else 0.4),
        azimuth=look.azimuth,
        elevation=look.elevation,
        sheen=0.1,
        seed=look.seed,
    )


def _keep_colours(sewn: Picture, design: Picture, labels: Labels) -> Picture:
    """Shift each region so that its mean is the design's; twice, since clipping moves it again."""
    flat_labels = labels.ravel()
    counts = np.maximum(np.bincount(flat_labels), 1)
    for _ in range(3):
        sewn = np.clip(sewn, 0, 1)
        for channel in range(3):
            lack = (design[..., channel] - sewn[..., channel]).ravel()
            mean = np.bincount(flat_labels, weights=lack) / counts
            sewn[..., channel] += mean[labels].astype(np.float32)
    return np.asarray(np.clip(sewn, 0, 1), np.float32)
