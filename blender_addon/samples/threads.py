"""Thread and yarn as geometry: curves swept into tubes with a twisted two-ply section (mm)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .drawing import Floats
from .reference_motif import SIDE, Stitch

__all__ = ["THREAD", "Tubes", "sew_thread", "weave"]

THREAD = 0.40
"""Thickness of the embroidery thread, mm (No. 40 rayon)."""
_SIDES = 12


@dataclass(frozen=True)
class Tubes:
    """Many tubes as one mesh: points (N, 3), quads (F, 4), UVs (F, 4, 2), tube number per face.

    u runs once round the tube; v is the length along it in mm.
    """

    points: Floats
    quads: NDArray[np.int64]
    uvs: Floats
    tube: NDArray[np.int64]


def sew_thread(stitches: list[Stitch], random: np.random.Generator) -> Tubes:
    """Stitches that rise from their holes, arch over what lies beneath and dive again."""
    lines = []
    for stitch in stitches:
        length = float(np.linalg.norm(stitch.end - stitch.start))
        count = max(12, round(length / 0.11))
        share = np.linspace(0.0, 1.0, count + 1)
        # Denser towards the ends, where the thread bends.
        share = share - np.sin(2 * np.pi * share) / (2 * np.pi) * 0.6
        flat = stitch.start + share[:, None] * (stitch.end - stitch.start)
        side = np.array([-(stitch.end - stitch.start)[1], (stitch.end - stitch.start)[0]]) / length
        sway = random.normal(0.0, 0.018, 3)
        waves = sum(sway[k] * np.sin((k + 1) * np.pi * share) for k in range(3))
        flat = flat + side * waves[:, None]
        from_hole = np.minimum(share, 1 - share) * length
        dive = 1 - np.exp(-((from_hole / 0.30) ** 1.4))
        loft = stitch.loft * min(length, 6.0) * np.sin(np.pi * share) ** 0.8
        height = -0.22 + (0.42 + stitch.level) * dive + loft
        lines.append(np.column_stack([flat[:, 0], SIDE - flat[:, 1], height]))
    return _sweep(lines, THREAD / 2 * 1.06, THREAD / 2 * 0.88, random, plies=0.10, turn=1.0)


def weave(random: np.random.Generator, pitch: float = 0.52) -> Tubes:
    """Plain-woven cloth a little larger than the picture, its top near height 0."""
    reach = SIDE / 2 + 2.0
    yarns = np.arange(-reach, reach, pitch)
    lines = []
    for direction in range(2):
        for number, offset in enumerate(yarns):
            along = np.arange(-reach, reach, pitch / 5)
            phase = np.pi * (along - yarns[0]) / pitch + np.pi * (number + direction)
            sway = np.cumsum(random.normal(0.0, 0.006, len(along)))
            across = offset + sway - sway.mean() + random.normal(0.0, 0.02)
            height = -0.24 + 0.10 * np.cos(phase)
            pair = (along, across) if direction == 0 else (across, along)
            lines.append(np.column_stack([pair[0] + SIDE / 2, pair[1] + SIDE / 2, height]))
    return _sweep(lines, pitch * 0.51, pitch * 0.30, random, plies=0.05, turn=0.9, uneven=0.07)


def _sweep(
    lines: list[Floats],
    half_width: float,
    half_height: float,
    random: np.random.Generator,
    *,
    plies: float,
    turn: float,
    uneven: float = 0.03,
) -> Tubes:
    """Sweep a flattened section along lines; its two plies turn once in `turn` mm."""
    points, quads, uvs, tube = [], [], [], []
    total = 0
    angle = np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)
    ring = np.arange(_SIDES)
    for number, line in enumerate(lines):
        tangent = np.gradient(line, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        side = np.column_stack([-tangent[:, 1], tangent[:, 0], np.zeros(len(line))])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        up = np.cross(tangent, side)
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        phase = random.uniform(0, 2 * np.pi)
        twist = 2 * np.pi * length / turn + phase
        slow = 1 + uneven * np.sin(length * random.uniform(0.6, 1.4) + phase)
        radius = slow[:, None] * (1 + plies * np.cos(2 * (angle[None] - twist[:, None])))
        points.append(
            (
                line[:, None]
                + (radius * np.cos(angle) * half_width)[..., None] * side[:, None]
                + (radius * np.sin(angle) * half_height)[..., None] * up[:, None]
            ).reshape(-1, 3)
        )
        row = np.arange(len(line) - 1)[:, None] * _SIDES + total
        quads.append(
            np.stack(
                [
                    row + ring,
                    row + (ring + 1) % _SIDES,
                    row + _SIDES + (ring + 1) % _SIDES,
                    row + _SIDES + ring,
                ],
                axis=2,
            ).reshape(-1, 4)
        )
        shape = (len(line) - 1, _SIDES)
        u0, u1 = np.broadcast_to(ring, shape), np.broadcast_to(ring + 1, shape)
        v0, v1 = (np.broadcast_to(length[s, None], shape) for s in (slice(-1), slice(1, None)))
        corners = np.stack([u0, v0, u1, v0, u1, v1, u0, v1], axis=2).reshape(-1, 4, 2)
        uvs.append(corners * [1 / _SIDES, 1.0] + [0.0, phase])
        tube.append(np.full(len(quads[-1]), number))
        total += len(points[-1])
    return Tubes(np.vstack(points), np.vstack(quads), np.vstack(uvs), np.concatenate(tube))
