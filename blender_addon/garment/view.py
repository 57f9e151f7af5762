"""Where a picture of a garment is taken from: its own front, and the spot that a close-up shows.

A file's axes are not trusted: garments come lying, turned, inside out and in parts. The garment's
axes follow from its mirror symmetry, and what a camera sees of the embroidery from rays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from .surface import Surfels

__all__ = ["LENS", "SENSOR", "Axes", "Frame", "Scenery", "close_frame", "front_frame", "side_name"]

LENS, SENSOR = 85.0, 36.0
_MARGIN = 0.92
_RAISED = 0.08
"""A picture of all of it is taken a little from above: sine of the angle."""

# Directions a garment is shown from: angle from its front in degrees, and how well it reads.
_VIEWS = ((0, 1.0), (40, 0.8), (-40, 0.8), (180, 0.85), (140, 0.7), (-140, 0.7))
_ANGLES = 5
_CELLS = 20
_POINTS = 6000
# A garment this much flatter than wide and long lies on a table: a hat is not that flat.
_LYING = 0.45
# Nobody's back neckline is lower than the front's; less than this share of the height is chance.
_NECKLINE = 0.02

_THREADS_ACROSS = 45.0
_MOST_OF_PATCH, _LEAST_OF_PATCH, _MOST_OF_GARMENT = 0.6, 0.12, 0.35
_UNKNOWN_THREAD = 0.34
_CANDIDATES, _NEIGHBOURS, _RAYS = 160, 6000, 500
_TURNED_AWAY = 0.35
_ALL_OVER = 0.7


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the camera is and looks; `right`, `up`, `back` are its axes (back: to the viewer).

    Attributes:
        depth: how far behind the garment's middle a backdrop stands.
        middle: the point in the picture's middle.
    """

    eye: np.ndarray
    right: np.ndarray
    up: np.ndarray
    back: np.ndarray
    depth: float
    middle: np.ndarray


@dataclass(frozen=True, slots=True)
class Axes:
    """A garment's own directions: unit vectors; `right` is the viewer's, seen from the front."""

    right: np.ndarray
    front: np.ndarray
    up: np.ndarray

    def towards(self, degrees: float) -> np.ndarray:
        """The level direction that many degrees from the front, turning to the right."""
        angle = np.radians(degrees)
        return np.asarray(np.cos(angle) * self.front + np.sin(angle) * self.right)


class Scenery:
    """All of a garment's faces, to be looked at and shot at.

    Args:
        corners: (T, 3, 3) world coordinates of all parts' triangles.
    """

    def __init__(self, corners: np.ndarray) -> None:
        self.corners = corners
        self.points = corners.reshape(-1, 3)
        self.low, self.high = self.points.min(axis=0), self.points.max(axis=0)
        self.size = float(np.linalg.norm(self.high - self.low)) or 1.0
        self._tree = BVHTree.FromPolygons(
            self.points.tolist(), np.arange(len(self.points)).reshape(-1, 3).tolist()
        )

    def free(self, point: np.ndarray, towards: np.ndarray, length: float = np.inf) -> bool:
        """Whether nothing stands before a point of the surface, seen from a direction."""
        start = point + towards * (self.size * 2e-4)
        reach = min(length, 2.0 * self.size)
        return self._tree.ray_cast(Vector(start), Vector(towards), reach)[0] is None

    def outwards(self, seen: Surfels) -> np.ndarray:
        """Normals (N, 3) turned to the outside, whichever way the faces are wound.

        The outside is where a ray gets away. Where both or neither do, the faces' own side
        counts, turned if it is wrong for most of the others.
        """
        votes = np.zeros(len(seen.points))
        for index in spread(len(seen.points), _RAYS):
            point, normal = seen.points[index], seen.normals[index]
            votes[index] = float(self.free(point, normal)) - float(self.free(point, -normal))
        weight = votes * seen.areas
        sign = np.sign(weight.sum()) or 1.0
        if abs(weight.sum()) < 0.1 * np.abs(weight).sum():
            sign = 1.0
        turned = np.where(votes == 0, sign, votes)
        return np.asarray(seen.normals * turned[:, None])


def spread(count: int, most: int) -> np.ndarray:
    """Up to `most` of `count` indices, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def own_axes(scenery: Scenery, seen: Surfels | None) -> Axes:
    """The garment's own up, front and right.

    Args:
        seen: embroidered places; where a garment lies flat they say which end is up.
    """
    extent = scenery.high - scenery.low
    up = np.array([0.0, 0.0, 1.0])
    if extent[2] < _LYING * extent[:2].min():
        # Lying, its length along y: files with another axis upwards come in like this.
        along = 1.0 if seen is None else float(seen.areas @ seen.along_v[:, 1])
        up = np.array([0.0, 1.0 if along >= 0 else -1.0, 0.0])
    level = unit(np.cross(up, [1.0, 0.0, 0.0])), np.array([1.0, 0.0, 0.0])
    front = _symmetric_front(scenery, up, -level[0], level[1])
    axes = Axes(np.cross(up, front), front, up)
    lower = _neckline(scenery, axes)
    if lower < 0:
        return Axes(-axes.right, -axes.front, up)
    return axes


def _symmetric_front(
    scenery: Scenery, up: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """The level direction that a mirror's plane holds, the garment wide across it."""
    places = _spread_over(scenery.corners)
    flat = np.stack([places @ first, places @ second, places @ up], axis=1)
    flat -= (flat.min(axis=0) + flat.max(axis=0)) / 2
    best, front = -np.inf, first
    for degrees in range(0, 180, _ANGLES):
        angle = np.radians(degrees)
        ahead = np.array([np.cos(angle), np.sin(angle)])
        depth, width = flat[:, :2] @ ahead, flat[:, :2] @ np.array([-ahead[1], ahead[0]])
        wide, deep = float(np.ptp(width)), float(np.ptp(depth))
        straight = 0.03 if degrees == 0 else 0.0
        score = _mirrored(width, depth, flat[:, 2]) + 0.3 * wide / (wide + deep + 1e-12) + straight
        if score > best:
            best, front = score, first * ahead[0] + second * ahead[1]
    return unit(front if front @ first >= -1e-9 else -front)


def _spread_over(corners: np.ndarray) -> np.ndarray:
    """Places (N, 3) evenly by area: a stitched hem's thousand small faces are not the garment."""
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    total = np.cumsum(np.linalg.norm(np.cross(e1, e2), axis=1))
    if total[-1] <= 0:
        return np.asarray(corners.mean(axis=1))
    count = np.arange(_POINTS) + 0.5
    chosen = np.searchsorted(total, count / _POINTS * total[-1])
    # Two irrational steps fill a unit square evenly; its upper half is folded onto the triangle.
    b, c = np.modf(count * 0.7548776662)[0], np.modf(count * 0.5698402910)[0]
    over = b + c > 1
    b, c = np.where(over, 1 - b, b)[:, None], np.where(over, 1 - c, c)[:, None]
    return np.asarray(corners[chosen, 0] + b * e1[chosen] + c * e2[chosen])


def _mirrored(width: np.ndarray, depth: np.ndarray, height: np.ndarray) -> float:
    """How well a set of places covers its mirror image, 0..1."""
    middle = (width.min() + width.max()) / 2
    step = max(float(np.ptp(width)), float(np.ptp(depth)), float(np.ptp(height))) / _CELLS
    if step <= 0:
        return 1.0
    rest = np.stack([depth, height], axis=1)
    one, other = (
        np.unique(np.round(np.column_stack([side, rest]) / step).astype(np.int64) @ [1, 97, 9409])
        for side in (width - middle, middle - width)
    )
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def _neckline(scenery: Scenery, axes: Axes) -> float:
    """1 or -1 where the top edge is clearly lower in front or behind, else 0."""
    width, depth, height = (scenery.points @ each for each in (axes.right, axes.front, axes.up))
    tall = float(np.ptp(height))
    near = np.abs(width - (width.min() + width.max()) / 2) < 0.06 * np.ptp(width)
    near &= height > height.max() - 0.3 * tall
    if near.sum() < 4 or np.ptp(depth[near]) < 0.1 * np.ptp(width):
        return 0.0
    middle = (depth[near].min() + depth[near].max()) / 2
    before, behind = near & (depth > middle), near & (depth <= middle)
    if not before.any() or not behind.any():
        return 0.0
    drop = float(height[behind].max() - height[before].max())
    return float(np.sign(drop)) if abs(drop) > _NECKLINE * tall else 0.0


def _visible(
    scenery: Scenery, seen: Surfels, normals: np.ndarray, towards: np.ndarray
) -> np.ndarray:
    """Which of the surfels face a direction and have nothing before them."""
    facing = np.einsum("ni,i->n", normals, towards) > 0.05
    return np.array(
        [
            bool(ahead) and scenery.free(point, towards)
            for ahead, point in zip(facing, seen.points, strict=True)
        ],
        dtype=bool,
    )


def facing_view(scenery: Scenery, axes: Axes, seen: Surfels | None) -> np.ndarray:
    """The direction that the garment is shown from: its front, unless its embroidery is better
    seen from behind or from between."""
    if seen is None or not len(seen.points):
        return axes.front
    few = seen.take(spread(len(seen.points), _RAYS))
    normals = scenery.outwards(few)
    best, chosen = -1.0, axes.front
    for degrees, worth in _VIEWS:
        towards = axes.towards(degrees)
        there = _visible(scenery, few, normals, unit(towards + _RAISED * axes.up))
        score = worth * float((few.areas * (normals @ towards))[there].sum())
        if score > best * 1.001:
            best, chosen = score, towards
    return chosen


def reach(size: tuple[int, int]) -> np.ndarray:
    """Half of what the lens sees, across and up, at distance 1."""
    return np.array(size) / max(size) * SENSOR / LENS / 2


def front_frame(scenery: Scenery, seen: Surfels | None, size: tuple[int, int]) -> Frame:
    """The whole garment from where its embroidery shows best, as near as it fits."""
    axes = own_axes(scenery, seen)
    back = unit(facing_view(scenery, axes, seen) + _RAISED * axes.up)
    right = unit(np.cross(axes.up, back))
    turn = np.stack([right, np.cross(back, right), back])
    local = scenery.points @ turn.T
    middle = (local.min(axis=0) + local.max(axis=0)) / 2
    local = local - middle
    distance = float((np.abs(local[:, :2]) / (reach(size) * _MARGIN) + local[:, 2:]).max())
    centre = middle @ turn
    depth = 0.45 * float(np.ptp(local, axis=0).max())
    return Frame(centre + back * distance, right, turn[1], back, depth, centre)


def close_frame(
    scenery: Scenery, seen: Surfels, size: tuple[int, int], thread: float | None
) -> Frame:
    """A place where the embroidery is dense and varied, near enough to see its threads.

    Args:
        seen: embroidered places.
        thread: width of the thread in Blender units, if known.
    """
    axes = own_axes(scenery, seen)
    ahead = unit(facing_view(scenery, axes, seen) + _RAISED * axes.up)
    few = seen.take(spread(len(seen.points), _NEIGHBOURS))
    normals = scenery.outwards(few)
    span = _span(scenery, few, thread)
    chosen = _spot(scenery, few, normals, ahead, axes.up, span)
    point = few.points[chosen]
    near = np.linalg.norm(few.points - point, axis=1) < 0.5 * span
    near &= normals @ normals[chosen] > _TURNED_AWAY
    back = unit((normals[near] * few.areas[near, None]).sum(axis=0))
    distance = span / 2 / float(reach(size).min())
    if not scenery.free(point, back, distance):
        back = ahead
    # On a shoulder, the picture's top is where the garment's back is.
    top = axes.up if abs(float(back @ axes.up)) < 0.85 else -axes.front
    right = unit(np.cross(top, back))
    return Frame(point + back * distance, right, np.cross(back, right), back, 0.0, point)


def _span(scenery: Scenery, seen: Surfels, thread: float | None) -> float:
    """The width of cloth that a close-up shows, in Blender units."""
    patch = seen.short_side
    wanted = _UNKNOWN_THREAD * patch if thread is None else _THREADS_ACROSS * thread
    extent = np.sort(scenery.high - scenery.low)
    return float(
        min(
            np.clip(wanted, _LEAST_OF_PATCH * patch, _MOST_OF_PATCH * patch),
            _MOST_OF_GARMENT * max(extent[1], 1e-9),
        )
    )


def _spot(
    scenery: Scenery,
    seen: Surfels,
    normals: np.ndarray,
    ahead: np.ndarray,
    up: np.ndarray,
    span: float,
) -> int:
    """Index of the surfel around which most is embroidered, in most colours, facing the viewer."""
    turned = normals @ ahead
    facing = np.flatnonzero(turned > _TURNED_AWAY)
    if not len(facing):
        facing = np.arange(len(seen.points))
    shown = [
        int(index)
        for index in facing[spread(len(facing), 4 * _CANDIDATES)]
        if scenery.free(seen.points[index], ahead)
    ] or facing.tolist()
    shown = [shown[index] for index in spread(len(shown), _CANDIDATES)]
    middle = _looked_at(scenery, seen, np.array(shown), up)
    central = facing[np.linalg.norm(seen.points[facing] - middle, axis=1).argmin()]
    if scenery.free(seen.points[central], ahead):
        shown.append(int(central))
    scores = [
        _worth(seen, normals, index, span, middle) * max(float(turned[index]), 0.05)
        for index in shown
    ]
    return shown[int(np.argmax(scores))]


def _looked_at(scenery: Scenery, seen: Surfels, shown: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The middle of what is shown; of a garment covered all over, of its upper half."""
    height = seen.points[shown] @ up
    if np.ptp(height) > _ALL_OVER * np.ptp(scenery.points @ up):
        shown = shown[height >= (height.min() + height.max()) / 2]
    return np.asarray(np.average(seen.points[shown], axis=0, weights=seen.areas[shown]))


def _worth(
    seen: Surfels, normals: np.ndarray, index: int, span: float, middle: np.ndarray
) -> float:
    """What a close-up around a surfel would show."""
    away = np.linalg.norm(seen.points - seen.points[index], axis=1)
    near = (away < span / 2) & (normals @ normals[index] > _TURNED_AWAY)
    areas = seen.areas[near]
    # Folds and edges turn away: flat cloth shows its threads best.
    flat = float(np.average(normals[near] @ normals[index], weights=areas))
    covered = flat * min(1.0, float(areas.sum()) / (np.pi * span * span / 4) / 0.8)
    colours = seen.colours[near]
    mean = np.average(colours, axis=0, weights=areas)
    varied = float(np.sqrt(np.average(((colours - mean) ** 2).sum(axis=1), weights=areas)))
    off = float(np.linalg.norm(seen.points[index] - middle)) / (span + 1e-12)
    return covered * (0.6 + min(varied / 0.3, 1.0)) / (1.0 + 0.05 * off)


def side_name(scenery: Scenery, seen: Surfels, axes: Axes | None = None) -> str:
    """Where on the garment the surfels mostly lie, in words: "front", "wearer's left side" …

    Left and right are the wearer's.
    """
    axes = axes or own_axes(scenery, seen)
    normals = scenery.outwards(seen.take(spread(len(seen.points), _RAYS)))
    mean = normals.mean(axis=0)
    ahead, across = float(mean @ axes.front), float(mean @ axes.right)
    if abs(across) > 1.2 * abs(ahead):
        return "wearer's left side" if across > 0 else "wearer's right side"
    return "front" if ahead >= 0 else "back"
