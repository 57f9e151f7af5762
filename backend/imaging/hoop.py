"""Finds an embroidery hoop in a photo: what is inside is cloth and motif, the rest is neither."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import rgb_to_lab

__all__ = ["inside_hoop"]

# Shorter axis of a hoop, share of the picture's shorter side; and how round it looks.
SMALLEST, ROUNDEST = 0.45, 0.55
# Share of an outline's points that lie on an ellipse, within so much of its radius, and of all
# directions in which there are any: a screw and the picture's edge interrupt a hoop.
ON, OFF, SEEN = 0.75, 0.03, 0.6
# Width of a hoop's ring, share of its outer radius.
THINNEST, WIDEST = 0.03, 0.17
# Difference in Lab between ring and what is beside it; spread of the ring's own a and b around it.
STEP, SPREAD = 7.0, 8.0
# Change of lightness along the ring, in its median and beside that lightness, within this share of
# the way around: grain of wood lies along the ring and light changes slowly (0.005), thread lies
# across it (0.05 to 0.17).
CHANGE, SHORT = 0.02, 1.0 / 400.0
# What is certainly within the ring, share of its inner radius.
WITHIN = 0.97

Map = NDArray[np.float32]
Ellipse = tuple[tuple[float, float], tuple[float, float], float]
"""Centre, both axes' lengths and the first one's angle in degrees, as OpenCV has it."""


def inside_hoop(rgb: NDArray[np.floating], art: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """What lies within a hoop.

    An outline that is an ellipse is a hoop's, inner or outer, if beside it lies a ring of one
    colour, other than what is within and without, along which nothing is as fine as thread.

    Args:
        rgb: (H, W, 3) in [0, 1], the photo.
        art: (h, w), what is no cloth by a first look, the photo scaled.

    Returns:
        (h, w); None where no hoop is seen.
    """
    lab = rgb_to_lab(rgb)
    scale = rgb.shape[0] / art.shape[0]
    best: tuple[float, Ellipse] | None = None
    contours, _ = cv2.findContours(art.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for contour in sorted(contours, key=len, reverse=True)[:6]:
        ellipse = _ellipse(contour[:, 0], art.shape)
        if ellipse is None:
            continue
        inner = _inner(lab, ellipse, scale)
        if inner is not None and (best is None or inner < best[0]):
            best = inner, ellipse
    if best is None:
        return None
    inner, (centre, axes, angle) = best
    found = np.zeros(art.shape, np.uint8)
    size = axes[0] * inner * WITHIN, axes[1] * inner * WITHIN
    cv2.ellipse(found, (centre, size, angle), 1, cv2.FILLED)
    return found > 0


def _ellipse(points: NDArray[np.integer], shape: tuple[int, ...]) -> Ellipse | None:
    """The ellipse that an outline (N, 2) is, if it is one and large."""
    height, width = shape
    x, y = points[:, 0], points[:, 1]
    free = points[(x > 1) & (y > 1) & (x < width - 2) & (y < height - 2)].astype(np.float32)
    if len(free) < SMALLEST * min(height, width):
        return None
    for _ in range(3):  # again without what does not lie on it, such as a screw
        ellipse: Ellipse = cv2.fitEllipseDirect(free)
        axes = ellipse[1]
        small, large = min(axes), max(axes)
        if not (np.isfinite(axes).all() and small >= SMALLEST * min(height, width)):
            return None
        radius, turn = _polar(free, ellipse)
        on = np.abs(radius - 1.0) < OFF
        share, free = float(on.mean()), free[np.abs(radius - 1.0) < 2.0 * OFF]
        if len(free) < 20:
            return None
    seen = len(np.unique((turn[on] / (2.0 * np.pi) * 36.0).astype(int))) / 36.0
    good = small >= ROUNDEST * large and share >= ON and seen >= SEEN
    return ellipse if good else None


def _polar(points: Map, ellipse: Ellipse) -> tuple[Map, Map]:
    """Radius, 1 on the ellipse, and direction in [0, 2π) of points (N, 2)."""
    (x, y), (a, b), angle = ellipse
    turn = np.deg2rad(angle)
    dx, dy = points[:, 0] - x, points[:, 1] - y
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / (a / 2.0)
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / (b / 2.0)
    return np.hypot(u, v), np.arctan2(v, u) % (2.0 * np.pi)


def _inner(lab: Map, ellipse: Ellipse, scale: float) -> float | None:
    """The radius at which a hoop's cloth begins, 1 on the ellipse; None if it is no hoop's."""
    (x, y), (a, b), angle = ellipse
    # The ring at the photo's own size: a row a direction, a column a radius.
    radius = 0.25 * (a + b) * scale
    low, high = 1.0 - 1.3 * WIDEST, 1.0 + 1.3 * WIDEST
    radii = np.linspace(low, high, max(24, round((high - low) * radius)), dtype=np.float32)
    turns = np.linspace(0.0, 2.0 * np.pi, max(90, round(2.0 * np.pi * radius)), dtype=np.float32)
    u = 0.5 * a * scale * radii[None] * np.cos(turns[:, None])
    v = 0.5 * b * scale * radii[None] * np.sin(turns[:, None])
    turn = np.deg2rad(angle)
    across = (x + 0.5) * scale - 0.5 + u * np.cos(turn) - v * np.sin(turn)
    down = (y + 0.5) * scale - 0.5 + u * np.sin(turn) + v * np.cos(turn)
    kept = (across >= 0) & (down >= 0) & (across < lab.shape[1]) & (down < lab.shape[0])
    seen = cv2.remap(lab, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)
    seen[~kept] = np.nan
    with np.errstate(all="ignore"):
        middle = np.nanmedian(seen, axis=0)
    if not np.isfinite(middle).all():
        return None
    edge = int(np.searchsorted(radii, 1.0))
    per = len(radii) / (high - low)
    thin, wide = round(THINNEST * per), round(WIDEST * per)
    gap = max(2, thin // 2)
    steps = np.full(len(radii), 0.0, np.float32)
    for column in range(gap, len(radii) - gap):
        steps[column] = np.linalg.norm(middle[column + gap - 1] - middle[column - gap])
    # The outline is the ring's outer edge, or its inner one.
    for inner_edge, outer_edge in (
        ((edge - wide, edge - thin), (edge - gap, edge + gap)),
        ((edge - gap, edge + gap), (edge + thin, edge + wide)),
    ):
        inner, outer = (
            first + int(np.argmax(steps[first:last])) for first, last in (inner_edge, outer_edge)
        )
        ring = seen[:, inner + gap // 2 : outer - gap // 2]
        if min(steps[inner], steps[outer]) >= STEP and _is_ring(ring):
            return float(radii[inner])
    return None


def _is_ring(seen: Map) -> bool:
    """Whether a band (directions, radii, Lab) is of one colour, and smooth in its direction."""
    if seen.shape[1] < 2:
        return False
    band = seen[np.isfinite(seen).all(axis=(1, 2))]
    if len(band) < 0.5 * len(seen):
        return False
    colour = np.median(band, axis=1)
    off = np.abs(colour[:, 1:] - np.median(colour[:, 1:], axis=0))
    # The camera's noise goes when neighbours across the ring are averaged.
    lightness = cv2.GaussianBlur(band[..., 0], (0, 1), sigmaX=1.0, sigmaY=1e-3)
    sigma = max(1.5, SHORT * len(seen))
    change = np.abs(lightness - cv2.GaussianBlur(lightness, (1, 0), sigmaX=1e-3, sigmaY=sigma))
    share = float(np.median(change)) / (float(np.median(lightness)) + 5.0)
    return bool(np.quantile(off, 0.75) < SPREAD and share < CHANGE)
