"""A patch as places on the garment: where its embroidery lies in space, its colour and its side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import bpy
import numpy as np

from . import pixels, uv
from .errors import GarmentError
from .raster import fragments
from .region import to_pixels

__all__ = ["Patch", "Surfels", "find_surfels", "mesh_corners"]

_SIDE = 160
"""Samples along a patch's longer side."""


class Patch(Protocol):
    """What a picture needs to know of a patch; `mask_path` and `bake_path` may be absent."""

    rect: Any
    """UV rectangle (u0, v0, u1, v1)."""
    uv_layer: str
    """The layer it lies in; "" is the one used for rendering."""


@dataclass(frozen=True, slots=True)
class Surfels:
    """Small pieces of embroidered cloth.

    Attributes:
        points: (N, 3) world coordinates.
        normals: (N, 3) unit vectors, to the side that the faces are wound to.
        areas: (N,) in square Blender units.
        colours: (N, 3) of the artwork, 0..1.
        along_v: (N, 3) unit vectors, where the picture's top is.
        short_sides: (N,) shorter side of the patch that it belongs to, in Blender units.
    """

    points: np.ndarray
    normals: np.ndarray
    areas: np.ndarray
    colours: np.ndarray
    along_v: np.ndarray
    short_sides: np.ndarray

    def take(self, index: np.ndarray) -> Surfels:
        """Some of them; their areas grow, so that together they stand for the whole."""
        some = Surfels(**{each.name: getattr(self, each.name)[index] for each in fields(self)})
        scale = float(self.areas.sum()) / max(float(some.areas.sum()), 1e-30)
        some.areas[:] *= scale
        return some

    @property
    def short_side(self) -> float:
        """The shorter side of the patches, by area the typical one."""
        order = np.argsort(self.short_sides)
        total = np.cumsum(self.areas[order])
        return float(self.short_sides[order][np.searchsorted(total, total[-1] / 2)])


def mesh_corners(model: bpy.types.Object) -> np.ndarray:
    """World corners (T, 3, 3) of a mesh object's triangles."""
    mesh = model.data
    mesh.calc_loop_triangles()
    vertices = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", vertices)
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    matrix = np.array(model.matrix_world, np.float64)
    world = flat.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return np.asarray(world[vertices].reshape(-1, 3, 3))


def find_surfels(model: bpy.types.Object, patches: Sequence[Patch]) -> Surfels | None:
    """What of the model is embroidered by the patches; None if nothing is.

    Raises:
        GarmentError: a patch's UV layer is missing.
    """
    corners = mesh_corners(model)
    found = [each for patch in patches if (each := _of_patch(model, corners, patch)) is not None]
    if not found:
        return None
    return Surfels(
        *(np.concatenate([getattr(one, each.name) for one in found]) for each in fields(Surfels))
    )


def _of_patch(model: bpy.types.Object, corners: np.ndarray, patch: Patch) -> Surfels | None:
    layer = uv.require_layer(model, patch.uv_layer)
    mesh = model.data
    loops = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("loops", loops)
    flat = np.empty(len(mesh.loops) * 2, np.float32)
    layer.uv.foreach_get("vector", flat)
    places = flat.reshape(-1, 2)[loops].reshape(-1, 3, 2).astype(np.float64)
    left, bottom, right, top = rect = tuple(patch.rect)
    longest = max(right - left, top - bottom)
    if longest <= 0:
        return None
    width, height = (max(1, round(_SIDE * side / longest)) for side in (right - left, top - bottom))
    mask, colour = _pictures(patch, width, height)

    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d1, d2 = places[:, 1] - places[:, 0], places[:, 2] - places[:, 0]
    twice = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    cross = np.cross(e1, e2)
    triangle, row, column, weight = (
        np.concatenate(each)
        for each in zip(*fragments(to_pixels(places, rect, width, height), width, height))
    )
    used = mask[row, column] & (np.abs(twice[triangle]) > 1e-14)
    triangle, row, column, weight = triangle[used], row[used], column[used], weight[used]
    if not len(triangle):
        return None
    scale = np.linalg.norm(cross, axis=1)
    texel = (right - left) * (top - bottom) / (width * height)
    areas = scale[triangle] / np.abs(twice[triangle]) * texel
    slope_u = (e1 * d2[:, 1:] - e2 * d1[:, 1:])[triangle] / twice[triangle, None]
    slope_v = (e2 * d1[:, :1] - e1 * d2[:, :1])[triangle] / twice[triangle, None]
    across, along = np.linalg.norm(slope_u, axis=1), np.linalg.norm(slope_v, axis=1)
    short = min(np.median(across) * (right - left), np.median(along) * (top - bottom))
    return Surfels(
        points=np.einsum("nk,nkj->nj", weight, corners[triangle]),
        normals=cross[triangle] / np.maximum(scale[triangle], 1e-30)[:, None],
        areas=areas,
        colours=colour[row, column],
        along_v=slope_v / np.maximum(along, 1e-30)[:, None],
        short_sides=np.full(len(triangle), short),
    )


def _pictures(patch: Patch, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The patch's coverage (H, W) bool and colour (H, W, 3), bottom row first."""
    mask = np.ones((height, width), bool)
    colour = np.zeros((height, width, 3))
    for name in ("mask_path", "bake_path"):
        path = getattr(patch, name, "")
        if not path or not Path(path).is_file():
            continue
        try:
            small = pixels.read_small(Path(path), width, height)[::-1]
        except GarmentError:
            # A picture deleted or damaged since only makes the view a plainer one.
            continue
        if name == "mask_path":
            mask = small[..., 0] > 127
        else:
            colour = small[..., :3] / 255.0
    return (mask if mask.any() else np.ones_like(mask)), colour
