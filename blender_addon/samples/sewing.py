"""From pattern pieces to one sewn, draped mesh: triangulate, place round the body, merge, drape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mathutils import Vector
from mathutils.geometry import delaunay_2d_cdt
from numpy.typing import NDArray

from .drape import Cloth, drape
from .drawing import Floats, coverage
from .pattern import (
    CHEST_HALF,
    CM_PER_UV,
    LENGTH,
    NECK_HALF,
    PIECES,
    SEAMS,
    SHOULDER_TIP,
    SLEEVE_HALF,
    SLEEVE_TOP,
    SPACING,
    Piece,
    uv_offset,
)

__all__ = ["Garment", "sew"]

Ints = NDArray[np.int64]

ARMS = (22.0, (63.0, 56.0))
"""Arms of the body form below the horizontal: while sewing, and at the end (right, left)."""
BENDING = {"front": 0.012, "back": 0.012, "sleeve_left": 0.016, "sleeve_right": 0.016, "rib": 0.5}
"""Stiffness against folding, per piece; the rib is knitted thick."""
HEM_BENDING = 0.25
TURN = 14.0
"""Degrees that the body form's hips turn, so that the folds do not all hang straight."""
EASE, WAVES = 0.034, 9
"""Give of worn cloth: its share of length, and how many waves of folds it is made of."""
SEAM_DEPTH = 0.13
"""How far a seam draws the cloth in, cm."""


@dataclass(frozen=True)
class Garment:
    """The draped shirt: points (N, 3) cm, triangles (F, 3), UVs (F, 3, 2), piece name per face."""

    points: Floats
    faces: Ints
    uvs: Floats
    pieces: list[str]


def sew(seconds: float = 2.4) -> Garment:
    """Build, sew and drape the whole shirt; takes about half a minute."""
    flat: dict[str, tuple[Floats, Ints]] = {n: _triangulate(p) for n, p in PIECES.items()}
    start: dict[str, int] = {}
    total = 0
    for name, (points, _) in flat.items():
        start[name] = total
        total += len(points)
    particle = _merge(total, start)
    placed = np.vstack([_place(name, points) for name, (points, _) in flat.items()])
    count = int(particle.max()) + 1
    points = (
        np.stack([np.bincount(particle, placed[:, k], count) for k in range(3)], axis=1)
        / np.bincount(particle, minlength=count)[:, None]
    )
    local = np.vstack([f + start[n] for n, (_, f) in flat.items()])
    pattern = np.vstack([p for p, _ in flat.values()])
    faces = particle[local]
    names = [n for n, (_, f) in flat.items() for _ in range(len(f))]
    bending = np.array([BENDING[name] for name in names])
    hem = (pattern[local][:, :, 1].mean(axis=1) < 2.2) & ~np.char.equal(names, "rib")
    bending[hem] = HEM_BENDING
    cloth = _cloth(points, faces, pattern[local], bending)
    points = drape(cloth, ARMS, seconds=seconds, turn=TURN, friction=0.5)
    points = _draw_in(points, faces, np.bincount(particle) > 1)
    offsets = np.vstack([np.broadcast_to(uv_offset(n), p.shape) for n, (p, _) in flat.items()])
    uvs = (pattern + offsets)[local] / CM_PER_UV
    return Garment(points, faces, uvs, names)


def _triangulate(piece: Piece) -> tuple[Floats, Ints]:
    """Points (outline first, in its order) and triangles of one piece."""
    outline = piece.outline
    low, high = outline.min(axis=0), outline.max(axis=0)
    rows = np.arange(low[1] + SPACING / 2, high[1], SPACING * 0.87)
    inner = np.vstack(
        [
            np.stack([np.arange(low[0] + (k % 2) * SPACING / 2, high[0], SPACING), 0 * x + y], 1)
            for k, y in enumerate(rows)
            for x in [np.arange(low[0] + (k % 2) * SPACING / 2, high[0], SPACING)]
        ]
    )
    scale = 20.0
    size = np.ceil((high - low) * scale).astype(int) + 2
    mask = coverage([(outline - low) * scale], size[1], size[0])
    cell = ((inner - low) * scale).astype(int)
    inner = inner[mask[cell[:, 1], cell[:, 0]]]
    nearest = np.linalg.norm(inner[:, None] - outline[None], axis=2).min(axis=1)
    inner = inner[nearest > 0.6 * SPACING]
    everything = np.vstack([outline, inner])
    vertices, _, triangles, origins, _, _ = delaunay_2d_cdt(
        [Vector(p) for p in everything], [], [list(range(len(outline)))], 1, 1e-6
    )
    if len(vertices) != len(everything):
        raise ValueError(f"piece {piece.name}: its outline crosses itself")
    source = np.array([origin[0] for origin in origins])
    return everything, source[np.array(triangles)]


def _merge(total: int, start: dict[str, int]) -> Ints:
    """Particle number of every piece's point: points that are sewn together share one."""
    parent = list(range(total))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for seam in SEAMS:
        (piece_a, edge_a), (piece_b, edge_b) = seam.first, seam.second
        first, second = PIECES[piece_a].indices(edge_a), PIECES[piece_b].indices(edge_b)
        if len(first) != len(second):
            raise ValueError(f"seam {seam} joins {len(first)} with {len(second)} points")
        for a, b in zip(first, reversed(second)):
            ends = sorted((root(start[piece_a] + a), root(start[piece_b] + b)))
            parent[ends[1]] = ends[0]
    return np.asarray(np.unique([root(i) for i in range(total)], return_inverse=True)[1])


def _place(name: str, points: Floats) -> Floats:
    """Rough first position round the body, (N, 3) cm; hem at z = 0, front towards -y."""
    x, y = points[:, 0], points[:, 1]
    if name in ("front", "back"):
        sign = -1.0 if name == "front" else 1.0
        return np.stack([-sign * x, sign * _bulge(x, y), y], axis=1)
    if name == "rib":
        return _place_rib(points)
    side = 1.0 if name == "sleeve_left" else -1.0
    angle = np.radians(ARMS[0])
    along = np.array([side * np.cos(angle), 0.0, -np.sin(angle)])
    up = np.array([side * np.sin(angle), 0.0, np.cos(angle)])
    turn = x / SLEEVE_HALF * np.pi
    radius = SLEEVE_HALF / np.pi * 1.05
    shoulder = np.array([side * 20.0, 0.0, 59.5])
    across = np.array([0.0, side, 0.0])
    return np.asarray(
        shoulder
        + (SLEEVE_TOP - y)[:, None] * along
        + radius * (np.cos(turn)[:, None] * up + np.sin(turn)[:, None] * across)
    )


def _bulge(x: Floats, y: Floats) -> Floats:
    """How far the front and back stand off the middle plane: an elliptic tube, closed on top."""
    tube = np.sqrt(np.maximum(0.0, 1.0 - (x / (CHEST_HALF + 0.2)) ** 2))
    slope = (LENGTH - SHOULDER_TIP[1]) / (SHOULDER_TIP[0] - NECK_HALF)
    shoulder = LENGTH - slope * (np.abs(x) - NECK_HALF)
    return np.asarray(15.0 * tube * np.sqrt(np.clip((shoulder - y) / 12.0, 0.0, 1.0)))


def _place_rib(points: Floats) -> Floats:
    """The rib stands on the neckline, a little narrower at its free edge."""
    ring: list[Floats] = []
    lengths: list[float] = []
    for name, edge in (("front", "bottom_front"), ("back", "bottom_back")):
        ring.append(_place(name, PIECES[name].edges["neck"][::-1]))
        bottom = PIECES["rib"].edges[edge][:, 0]
        lengths += np.linspace(bottom[0], bottom[-1], len(ring[-1])).tolist()
    line = np.vstack(ring)
    base = np.stack([np.interp(points[:, 0], lengths, line[:, k]) for k in range(3)], axis=1)
    rise = points[:, 1:2]
    centre = np.array([0.0, -2.0, 0.0])
    return np.asarray(
        centre + (base - centre) * (1 - np.array([0.09, 0.09, 0.0]) * rise) + [0.0, 0.0, 0.7] * rise
    )


def _ease(at: Floats) -> Floats:
    """How much the weave has given at a place of the pattern: worn cloth is never quite flat."""
    random = np.random.default_rng(5)
    total = np.zeros(len(at))
    for wave in range(WAVES):
        length = random.uniform(7.0, 16.0)
        direction = random.uniform(0, np.pi)
        phase = random.uniform(0, 2 * np.pi)
        across = at @ np.array([np.cos(direction), np.sin(direction)])
        total += np.sin(2 * np.pi * across / length + phase + wave)
    # Hems (y near 0) are held by their stitching.
    held = np.clip(at[:, 1] / 8.0, 0.0, 1.0)
    return np.asarray(1.0 + EASE * held * np.clip(total / np.sqrt(WAVES / 2), -0.4, 2.0))


def _draw_in(points: Floats, faces: Ints, seam: NDArray[np.bool_]) -> Floats:
    """The draped points with the seams drawn in, as the sewing thread does it."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    normal = np.zeros_like(points)
    for k in range(3):
        np.add.at(normal, faces[:, k], area)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.asarray(points - SEAM_DEPTH * seam[:, None] * normal)


def _cloth(points: Floats, faces: Ints, flat: Floats, bending: Floats) -> Cloth:
    """Weave along the triangles' edges, bending across them; lengths from the flat pattern."""
    corners = np.stack([faces, np.roll(faces, -1, axis=1), np.roll(faces, -2, axis=1)], axis=2)
    corners = corners.reshape(-1, 3)
    ends = flat.reshape(-1, 2), np.roll(flat, -1, axis=1).reshape(-1, 2)
    apex = np.roll(flat, -2, axis=1).reshape(-1, 2)
    vector = ends[1] - ends[0]
    length = np.linalg.norm(vector, axis=1)
    flip = corners[:, 0] > corners[:, 1]
    along = np.einsum("ij,ij->i", apex - ends[0], vector) / length
    offset = apex - ends[0]
    height = np.abs(vector[:, 0] * offset[:, 1] - vector[:, 1] * offset[:, 0]) / length
    along = np.where(flip, length - along, along)
    key = np.sort(corners[:, :2], axis=1)
    pairs, index, shared = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    middle = (ends[0] + ends[1]) / 2
    mean = np.bincount(index, length * _ease(middle)) / shared
    order = np.argsort(index, kind="stable")
    first = np.cumsum(shared) - shared
    inner = first[shared == 2]
    a, b = order[inner], order[inner + 1]
    hinge = np.stack([corners[a, 2], corners[b, 2]], axis=1)
    reach = np.hypot(height[a] + height[b], along[a] - along[b])
    return Cloth(
        points,
        np.vstack([pairs, hinge]),
        np.concatenate([mean, reach]),
        np.concatenate([np.full(len(pairs), 1.0), np.maximum(bending[a // 3], bending[b // 3])]),
    )
