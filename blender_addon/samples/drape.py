"""Draping: cloth as particles held at their pattern distances, hung on a body form made by code.

Position based dynamics with small steps (Macklin et al., "Small Steps in Physics Simulation",
2019): every step moves the particles, then satisfies each distance once. Constraints are grouped
so that no two of a group share a particle; each group is one numpy operation. Units: centimetres
and seconds. Deterministic: no random numbers, fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .drawing import Floats

__all__ = ["Body", "Cloth", "drape"]

Ints = NDArray[np.int64]

GRAVITY = np.array([0.0, 0.0, -320.0])
"""cm/s²; a third of the real pull, since one pass a step lets real weight stretch the weave."""


@dataclass(frozen=True)
class Body:
    """A signed distance body form: torso, shoulders, neck and two arms hanging at `arm_degrees`."""

    arm_degrees: tuple[float, float]
    """Right and left arm below the horizontal."""
    turn_degrees: float = 0.0
    """How far the hips are turned against the shoulders; drags folds aslant across the front."""
    depth: float = 0.68
    """Torso depth as a share of its width."""

    def distance(self, points: Floats) -> Floats:
        """Signed distance to the skin, (N,), negative inside; exact only near round parts."""
        angle = np.radians(self.turn_degrees) * np.clip((54.0 - points[:, 2]) / 50.0, 0.0, 1.2)
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = points[:, 0] - 4.0 * sin, points[:, 1]
        flat = np.stack([cos * x + sin * y, (cos * y - sin * x) / self.depth, points[:, 2]], axis=1)
        parts = [
            _cone(flat, (0, 0, 53), (0, -1.5, 43), 14.2, 15.6),
            _cone(flat, (0, -1.5, 43), (0, 0, 26), 15.6, 12.4),
            _cone(flat, (0, 0, 26), (0, 0, 6), 12.4, 15.4),
            _cone(flat, (0, 0, 6), (0, 0, -8), 15.4, 15.4),
            _cone(points, (0, 1, 60), (0, 0, 84), 6.4, 5.6),
        ]
        for side, degrees in zip((-1.0, 1.0), self.arm_degrees):
            angle = np.radians(degrees)
            joint = np.array([side * 17.2, 0.8, 60.2])
            hand = joint + 34 * np.array([side * np.cos(angle), 0.0, -np.sin(angle)])
            parts.append(_cone(points, (side * 4.0, 0.8, 63.2), tuple(joint), 5.0, 5.2))
            parts.append(_cone(points, tuple(joint), tuple(hand), 5.2, 3.9))
        total = parts[0]
        for part in parts[1:]:
            total = _smooth_min(total, part, 2.5)
        return total

    def push_out(self, points: Floats, gap: float) -> tuple[Ints, Floats]:
        """Indices of the points nearer than `gap` to the skin, and where they belong, (K, 3)."""
        value = self.distance(points)
        near = np.flatnonzero(value < gap)
        step = 0.05
        base = points[near]
        slope = np.stack(
            [(self.distance(base + axis * step) - value[near]) / step for axis in np.eye(3)], axis=1
        )
        squared = np.maximum((slope**2).sum(axis=1), 1e-6)
        return near, base + slope * ((gap - value[near]) / squared)[:, None]


def _cone(
    points: Floats,
    a: tuple[float, ...],
    b: tuple[float, ...],
    radius_a: float,
    radius_b: float,
) -> Floats:
    """Distance to a limb: a segment whose radius changes evenly along it."""
    start, axis = np.array(a, dtype=float), np.subtract(b, a).astype(float)
    share = np.clip((points - start) @ axis / (axis @ axis), 0.0, 1.0)
    away = points - start - share[:, None] * axis
    return np.asarray(np.linalg.norm(away, axis=1) - radius_a - share * (radius_b - radius_a))


def _smooth_min(a: Floats, b: Floats, width: float) -> Floats:
    blend = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    return np.asarray(b + (a - b) * blend - width * blend * (1 - blend))


@dataclass
class Cloth:
    """Particles (N, 3) cm and their distance constraints: pairs (M, 2), lengths (M,), softness."""

    points: Floats
    pairs: Ints
    lengths: Floats
    stiffness: Floats
    """Share of a distance's error corrected in one step, (M,): near 1 weave, near 0 bending."""


def _groups(pairs: Ints) -> list[Ints]:
    """Constraint indices grouped so that no particle occurs twice in a group (greedy colours)."""
    used: dict[int, int] = {}
    colour = np.empty(len(pairs), dtype=np.int64)
    for index, (a, b) in enumerate(pairs.tolist()):
        taken = used.get(a, 0) | used.get(b, 0)
        bit = ~taken & (taken + 1)
        used[a] = used.get(a, 0) | bit
        used[b] = used.get(b, 0) | bit
        colour[index] = bit.bit_length() - 1
    return [np.flatnonzero(colour == k) for k in range(colour.max() + 1)]


def drape(
    cloth: Cloth,
    arms: tuple[float, tuple[float, float]],
    *,
    turn: float = 0.0,
    seconds: float = 2.4,
    rate: int = 500,
    friction: float = 0.35,
) -> Floats:
    """Let the cloth settle while both arms sink from one angle to their own and the hips turn.

    The first half second closes the seams without gravity; damping brings it to rest.
    Returns the final points.
    """
    dt = 1.0 / rate
    steps = int(seconds * rate)
    groups = [
        (
            cloth.pairs[g, 0],
            cloth.pairs[g, 1],
            cloth.lengths[g],
            0.5 * cloth.stiffness[g],
        )
        for g in _groups(cloth.pairs)
    ]
    points = cloth.points.copy()
    velocity = np.zeros_like(points)
    for step in range(steps):
        time = step * dt
        swing = np.clip((time - 0.4) / 0.8, 0.0, 1.0)
        raised, hanging = arms
        right, left = (raised + (end - raised) * float(swing) for end in hanging)
        body = Body((right, left), turn * float(swing))
        if time > 0.3:
            velocity += GRAVITY * dt
        velocity *= 0.90 if time < 0.3 else 0.992
        before = points
        points = points + velocity * dt
        for a, b, length, share in groups:
            delta = points[b] - points[a]
            distance = np.sqrt(np.einsum("ij,ij->i", delta, delta)) + 1e-9
            delta *= (share * (1.0 - length / distance))[:, None]
            points[a] += delta
            points[b] -= delta
        near, out = body.push_out(points, 0.25)
        slide = out - before[near]
        away = out - points[near]
        normal = away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-9)
        slide -= normal * np.einsum("ij,ij->i", slide, normal)[:, None]
        points[near] = out - friction * slide
        velocity = (points - before) * rate
        # Far-flung particles of the rough first placement must not shoot through the body.
        speed = np.linalg.norm(velocity, axis=1, keepdims=True)
        velocity *= np.minimum(1.0, 150.0 / (speed + 1e-9))
    return points
