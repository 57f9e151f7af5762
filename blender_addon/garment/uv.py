"""UV layers in millimetres: how large a patch is in reality, and what is wrong with its UVs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..wording import do
from .errors import GarmentError
from .raster import components, fragments
from .scale import millimetres

__all__ = [
    "Layout",
    "Plan",
    "layout",
    "measure",
    "plan",
    "require_layer",
    "require_mesh",
    "warnings",
]

Rect = tuple[float, float, float, float]
_CHECK_SIDE = 512
_NAMED = 5
_EPSILON = 1e-4


@dataclass(frozen=True, slots=True)
class Layout:
    """A mesh's triangles in space and in one UV layer.

    Attributes:
        corners: (T, 3, 3) world coordinates in Blender units.
        uv: (T, 3, 2) UV coordinates.
        face: (T,) index of the polygon each triangle belongs to.
        vertex: (T, 3) vertex indices.
        island: (F,) UV island of each polygon, 0..n-1.
    """

    corners: np.ndarray
    uv: np.ndarray
    face: np.ndarray
    vertex: np.ndarray
    island: np.ndarray


@dataclass(frozen=True, slots=True)
class Plan:
    """The image a patch asks for.

    Attributes:
        width, height: pixels.
        px_per_mm: density.
        width_mm, height_mm: size on the real garment.
    """

    width: int
    height: int
    px_per_mm: float
    width_mm: float
    height_mm: float


def require_mesh(obj: Any) -> bpy.types.Object:
    """The object, if it is a mesh with faces.

    Raises:
        GarmentError: no object, not a mesh, or no faces.
    """
    if obj is None:
        raise GarmentError("No garment is selected.", "Click the garment's mesh first.")
    if obj.type != "MESH":
        raise GarmentError(
            f"'{obj.name}' is not a mesh but of type {obj.type.lower()}.",
            "Select the garment's mesh, or convert the object to a mesh.",
        )
    if obj.mode == "EDIT":
        obj.update_from_editmode()
    if not obj.data.polygons:
        raise GarmentError(f"'{obj.name}' has no faces.", "Select a mesh that has faces.")
    return obj


def require_layer(obj: bpy.types.Object, name: str) -> bpy.types.MeshUVLoopLayer:
    """The UV layer `name` of a mesh object; the one used for rendering if `name` is empty.

    Raises:
        GarmentError: there is no such layer.
    """
    layers = obj.data.uv_layers
    if not layers:
        raise GarmentError(f"'{obj.name}' has no UV layer.", do("unwrap"))
    if not name:
        return next((each for each in layers if each.active_render), layers[0])
    if name not in layers:
        raise GarmentError(
            f"'{obj.name}' has no UV layer '{name}'.",
            do("layer", names=", ".join(each.name for each in layers)),
        )
    return layers[name]


def layout(obj: bpy.types.Object, layer_name: str) -> Layout:
    """Triangles of the object's own mesh (before modifiers).

    Raises:
        GarmentError: no mesh, no faces, or no such UV layer.
    """
    require_mesh(obj)
    layer_name = require_layer(obj, layer_name).name
    if obj.mode != "EDIT":
        return _layout(obj.data, obj, layer_name)
    # In edit mode a mesh shows no UV values; its copy does.
    mesh = obj.data.copy()
    try:
        return _layout(mesh, obj, layer_name)
    finally:
        bpy.data.meshes.remove(mesh)


def _layout(mesh: bpy.types.Mesh, obj: bpy.types.Object, layer_name: str) -> Layout:
    mesh.calc_loop_triangles()
    count = len(mesh.loop_triangles)
    loop = np.empty(count * 3, np.int32)
    mesh.loop_triangles.foreach_get("loops", loop)
    vertex = np.empty(count * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", vertex)
    face = np.empty(count, np.int32)
    mesh.loop_triangles.foreach_get("polygon_index", face)
    flat = np.empty(len(mesh.loops) * 2, np.float32)
    mesh.uv_layers[layer_name].uv.foreach_get("vector", flat)
    position = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", position)
    matrix = np.array(obj.matrix_world, np.float64)
    world = position.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T
    uv = flat.reshape(-1, 2).astype(np.float64)
    return Layout(
        corners=world[vertex].reshape(-1, 3, 3),
        uv=uv[loop].reshape(-1, 3, 2),
        face=face,
        vertex=vertex.reshape(-1, 3),
        island=_islands(mesh, uv),
    )


def _islands(mesh: bpy.types.Mesh, uv: np.ndarray) -> np.ndarray:
    """Polygons are of one island if they share a vertex at the same UV place."""
    vertex = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", vertex)
    totals = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_total", totals)
    owner = np.repeat(np.arange(len(mesh.polygons)), totals)
    # Whole numbers in place of rows: sorting rows would take most of the time.
    steps = np.round(uv.clip(-1e4, 1e4) / 1e-5).astype(np.int64)
    place = np.unique(steps @ [1 << 32, 1], return_inverse=True)[1]
    key = vertex.astype(np.int64) * (int(place.max()) + 1) + place
    corner = np.unique(key, return_inverse=True)[1]
    faces = len(mesh.polygons)
    joined = components(faces + int(corner.max()) + 1, owner, faces + corner)
    return np.unique(joined[:faces], return_inverse=True)[1]


def _cross(triangles: np.ndarray) -> np.ndarray:
    """Twice the signed UV area of each triangle."""
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def measure(obj: bpy.types.Object, layer_name: str, rect: Rect) -> tuple[float, float]:
    """Millimetres on the garment per UV unit, along u and along v, in the rectangle.

    Each triangle's mapping from UV to space has the lengths of dP/du and dP/dv; they are averaged
    with the UV area each triangle has (at most) in the rectangle.

    Raises:
        GarmentError: no UV layer, or no face with an area lies in the rectangle.
    """
    shape = layout(obj, layer_name)
    low = np.maximum(shape.uv.min(1), rect[:2])
    high = np.minimum(shape.uv.max(1), rect[2:])
    twice = _cross(shape.uv)
    common = np.prod(np.clip(high - low, 0.0, None), axis=1)
    weight = np.minimum(common, np.abs(twice) / 2)
    used = (weight > 0) & (np.abs(twice) > 1e-14)
    if not used.any():
        raise GarmentError(
            f"No face of '{obj.name}' lies in the rectangle "
            f"({rect[0]:.2f}, {rect[1]:.2f}) to ({rect[2]:.2f}, {rect[3]:.2f}).",
            do("rect"),
        )
    uv, space, twice = shape.uv[used], shape.corners[used], twice[used, None]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    e1, e2 = space[:, 1] - space[:, 0], space[:, 2] - space[:, 0]
    along_u = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) / twice
    along_v = (e2 * d1[:, :1] - e1 * d2[:, :1]) / twice
    scale = millimetres(obj)
    share = weight[used] / weight[used].sum()
    return (
        float(share @ np.linalg.norm(along_u, axis=1)) * scale,
        float(share @ np.linalg.norm(along_v, axis=1)) * scale,
    )


def plan(obj: bpy.types.Object, patch: Any, max_side: int) -> Plan:
    """Size of the patch's image; does no work on pixels.

    Raises:
        GarmentError: the image would be larger than `max_side`; the message names the
            exaggeration that fits. Or as `measure`.
    """
    rect = tuple(patch.rect)
    if rect[2] - rect[0] <= 0 or rect[3] - rect[1] <= 0:
        raise GarmentError(
            f"The rectangle of patch '{patch.name}' is empty.",
            "Its right and top must be larger than its left and bottom.",
        )
    along_u, along_v = measure(obj, patch.uv_layer, rect)
    width_mm, height_mm = along_u * (rect[2] - rect[0]), along_v * (rect[3] - rect[1])
    density = patch.thread_px / (patch.thread_mm * patch.exaggeration)
    width, height = round(width_mm * density), round(height_mm * density)
    largest = max(width, height)
    if largest > max_side:
        factor = patch.exaggeration * largest / max_side
        raise GarmentError(
            f"Patch '{patch.name}' is {width_mm / 10:.1f} × {height_mm / 10:.1f} cm; "
            f"with thread of {patch.thread_mm * patch.exaggeration:.2f} mm its image would have "
            f"{width} × {height} pixels, more than {max_side}.",
            do("exaggeration", "smaller", "height", factor=f"{np.ceil(factor * 100) / 100:.2f}"),
        )
    if min(width, height) < 64:
        raise GarmentError(
            f"Patch '{patch.name}' is {width_mm:.1f} × {height_mm:.1f} mm; its image would have "
            f"only {width} × {height} pixels.",
            do("height", "rect", "finer"),
        )
    return Plan(width, height, density, width_mm, height_mm)


def _named(numbers: np.ndarray) -> str:
    text = ", ".join(str(each) for each in numbers[:_NAMED])
    return text + (f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else "")


def warnings(obj: bpy.types.Object, layer_name: str) -> list[str]:
    """What is unusual in a UV layer: zero area, out of range, mirrored, overlapping.

    Raises:
        GarmentError: no mesh, no faces, or no such UV layer.
    """
    shape = layout(obj, layer_name)
    twice = _cross(shape.uv)
    faces = len(shape.island)
    found = []

    area = np.bincount(shape.face, np.abs(twice), faces)
    empty = np.flatnonzero(area < 1e-12)
    if len(empty):
        found.append(f"{len(empty)} faces have no UV area and stay as they are: {_named(empty)}.")

    outside = (shape.uv < -_EPSILON) | (shape.uv > 1 + _EPSILON)
    islands = np.unique(shape.island[shape.face[outside.any((1, 2))]])
    if len(islands):
        found.append(f"Islands out of the 0–1 range: {_named(islands)}.")

    signed = np.bincount(shape.island[shape.face], twice)
    mirrored = np.flatnonzero(signed < 0)
    if len(mirrored) == len(signed):
        found.append("All islands are mirrored: lettering reads backwards in the image.")
    elif len(mirrored):
        found.append(f"Mirrored islands: {_named(mirrored)}.")

    pairs = _overlaps(shape)
    if len(pairs):
        names = [f"{a} with itself" if a == b else f"{a} and {b}" for a, b in pairs[:_NAMED]]
        more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        found.append(f"Overlapping islands get the same embroidery: {', '.join(names)}{more}.")
    return found


def _overlaps(shape: Layout) -> np.ndarray:
    """(N, 2) pairs of islands that share pixels of a 512² grid over the 0–1 square."""
    owner = np.full(_CHECK_SIDE * _CHECK_SIDE, -1)
    pairs = []
    for triangle, row, column, _ in fragments(shape.uv * _CHECK_SIDE, _CHECK_SIDE, _CHECK_SIDE):
        pixel = row * _CHECK_SIDE + column
        island = shape.island[shape.face[triangle]]
        order = np.argsort(pixel, kind="stable")
        pixel, island = pixel[order], island[order]
        twice = np.flatnonzero(pixel[1:] == pixel[:-1])
        pairs.append(np.stack([island[twice], island[twice + 1]], 1))
        before = owner[pixel] >= 0
        pairs.append(np.stack([owner[pixel[before]], island[before]], 1))
        owner[pixel] = island
    if not pairs:
        return np.empty((0, 2), np.int64)
    every, count = np.unique(np.sort(np.concatenate(pairs), 1), axis=0, return_counts=True)
    # A few pixels are rounding along a shared border.
    return every[count > 4]
