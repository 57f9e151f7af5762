"""Which pixels of a patch are embroidered: artwork, faces, a vertex group, a mask, everything."""

from __future__ import annotations

import itertools
from typing import Any

import bpy
import numpy as np

from ..wording import do
from . import artwork, pixels, uv
from .errors import GarmentError
from .raster import dilate, fragments

__all__ = [
    "SURVEY_SIDE",
    "faces_rect",
    "island_map",
    "region_mask",
    "selected_faces",
    "store_faces",
    "tile",
    "to_pixels",
    "used_rect",
    "where",
    "words",
]

SURVEY_SIDE = 1024
_ROWS_AT_ONCE = 256
_THIN = 1e-3


def words(patch: Any) -> str:
    """What a patch shows in place of the garment's artwork; "" if it shows that."""
    return str(patch.words).strip()


def where(patch: Any) -> str:
    """A patch's region; words need no artwork, so theirs is the whole rectangle then."""
    return "ALL" if patch.region == "AUTO" and words(patch) else str(patch.region)


def to_pixels(coordinates: np.ndarray, rect: uv.Rect, width: int, height: int) -> np.ndarray:
    """UV coordinates (…, 2) in pixels of a rectangle's image, y upwards."""
    size = np.array([rect[2] - rect[0], rect[3] - rect[1]])
    return (coordinates - np.array(rect[:2])) / size * np.array([width, height])


def island_map(shape: uv.Layout, rect: uv.Rect, width: int, height: int) -> np.ndarray:
    """(H, W) island number + 1 of each pixel, top row first; 0 where there is none."""
    found = np.zeros((height, width), np.int64)
    for triangle, row, column, _ in fragments(
        to_pixels(shape.uv, rect, width, height), width, height, edges=True
    ):
        found[row, column] = shape.island[shape.face[triangle]] + 1
    return found[::-1]


def selected_faces(mesh: bpy.types.Mesh) -> np.ndarray:
    """Indices of the selected polygons."""
    flags = np.empty(len(mesh.polygons), bool)
    mesh.polygons.foreach_get("select", flags)
    return np.flatnonzero(flags)


def store_faces(faces: np.ndarray) -> str:
    """Face indices as text, runs as `first-last`: "0-5,9"."""
    runs = []
    for _, group in itertools.groupby(enumerate(faces.tolist()), lambda each: each[1] - each[0]):
        run = [face for _, face in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)


def _stored_faces(text: str) -> np.ndarray:
    runs = [each.partition("-") for each in text.split(",") if each]
    return np.array(
        [face for a, _, b in runs for face in range(int(a), int(b or a) + 1)], dtype=np.int64
    )


def faces_rect(obj: bpy.types.Object, patch: Any) -> uv.Rect:
    """The rectangle around a patch's stored faces, with a margin of 2% of its longer side."""
    shape = uv.layout(obj, patch.uv_layer)
    corners = shape.uv[np.isin(shape.face, _stored_faces(patch.faces))].reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    margin = 0.02 * float((high - low).max())
    return (low[0] - margin, low[1] - margin, high[0] + margin, high[1] + margin)


def used_rect(obj: bpy.types.Object, layer: str) -> uv.Rect:
    """The rectangle around all that the object's UVs cover of the 0-1 square."""
    flat = uv.layout(obj, layer).uv.reshape(-1, 2)
    low, high = np.clip(flat.min(0), 0.0, 1.0), np.clip(flat.max(0), 0.0, 1.0)
    if (high - low).min() < _THIN:
        return (0.0, 0.0, 1.0, 1.0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def region_mask(
    obj: bpy.types.Object, patch: Any, rgb: np.ndarray, survey: np.ndarray | None
) -> np.ndarray:
    """Where the patch is embroidered, before it is cut to the UV islands.

    Args:
        rgb: (H, W, 3) uint8, the patch's bake.
        survey: (S, S, 3) uint8 bake of the UV square that holds the patch; for AUTO only.

    Returns:
        (H, W) bool, top row first.

    Raises:
        GarmentError: the region is empty or not set up; says how to choose one.
    """
    height, width = rgb.shape[:2]
    shape = uv.layout(obj, patch.uv_layer)
    chosen = where(patch)
    if chosen == "ALL":
        mask = np.ones((height, width), bool)
    elif chosen == "FACES":
        mask = _faces(obj, patch, shape, width, height)
    elif chosen == "GROUP":
        mask = _group(obj, patch, shape, width, height)
    elif chosen == "MASK":
        mask = _image(patch, width, height)
    else:
        mask = _artwork(patch, shape, rgb, survey)
    if not mask.any():
        raise GarmentError(
            f"The region of patch '{patch.name}' holds no pixel of its rectangle.",
            do("everything", "rect"),
        )
    return mask


def _drawn(shape: uv.Layout, patch: Any, chosen: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels whose interpolated value `chosen` (T, 3) is at least one half."""
    mask = np.zeros((height, width), bool)
    places = to_pixels(shape.uv, tuple(patch.rect), width, height)
    used = chosen.any(1)
    for triangle, row, column, weights in fragments(places[used], width, height, edges=True):
        inside = (weights * chosen[used][triangle]).sum(1) >= 0.5
        mask[row[inside], column[inside]] = True
    return mask[::-1]


def _faces(
    obj: bpy.types.Object, patch: Any, shape: uv.Layout, width: int, height: int
) -> np.ndarray:
    faces = _stored_faces(patch.faces)
    faces = faces[faces < len(obj.data.polygons)]
    if not len(faces):
        raise GarmentError(
            f"Patch '{patch.name}' has no faces.",
            do("store_faces"),
        )
    chosen = np.isin(shape.face, faces)
    return _drawn(shape, patch, np.repeat(chosen[:, None], 3, 1), width, height)


def _group(
    obj: bpy.types.Object, patch: Any, shape: uv.Layout, width: int, height: int
) -> np.ndarray:
    group = obj.vertex_groups.get(patch.vertex_group)
    if group is None:
        raise GarmentError(f"'{obj.name}' has no vertex group '{patch.vertex_group}'.", do("group"))
    weights = np.zeros(len(obj.data.vertices))
    for vertex in obj.data.vertices:
        for each in vertex.groups:
            if each.group == group.index:
                weights[vertex.index] = each.weight
    return _drawn(shape, patch, weights[shape.vertex], width, height)


def _image(patch: Any, width: int, height: int) -> np.ndarray:
    if patch.mask_image is None:
        raise GarmentError(f"Patch '{patch.name}' has no mask image.", do("mask"))
    source = pixels.from_image(patch.mask_image).astype(np.float32)
    value = source[..., :3].mean(-1) * source[..., 3] / 255
    rect = tuple(patch.rect)
    u = rect[0] + (np.arange(width) + 0.5) / width * (rect[2] - rect[0])
    v = rect[3] - (np.arange(height) + 0.5) / height * (rect[3] - rect[1])
    columns = np.floor(u * value.shape[1]).astype(int).clip(0, value.shape[1] - 1)
    rows = np.floor((1 - v) * value.shape[0]).astype(int).clip(0, value.shape[0] - 1)
    inside = np.outer((v >= 0) & (v <= 1), (u >= 0) & (u <= 1))
    return (value[np.ix_(rows, columns)] >= 127.5) & inside


def tile(rect: uv.Rect) -> uv.Rect:
    """The UV unit square that holds the rectangle's centre."""
    u = float(np.floor((rect[0] + rect[2]) / 2))
    v = float(np.floor((rect[1] + rect[3]) / 2))
    return (u, v, u + 1.0, v + 1.0)


def _drawn_larger(mask: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A mask at fractional places (columns, then rows), its outline without steps."""
    value: np.ndarray = mask.astype(np.float32)
    for axis, at in ((0, rows), (1, columns)):
        size = value.shape[axis]
        # The survey sees every second pixel; a 1-4-6-4-1 average rounds its steps.
        near = [
            np.take(value, (np.arange(size) + by).clip(0, size - 1), axis) for by in range(-2, 3)
        ]
        value = (near[0] + near[4] + 4 * (near[1] + near[3]) + 6 * near[2]) / 16
        low = np.floor(at).astype(int).clip(0, size - 1)
        high, part = (low + 1).clip(0, size - 1), (at - low).clip(0.0, 1.0)
        part = part[:, None] if axis == 0 else part[None]
        value = np.take(value, low, axis) * (1 - part) + np.take(value, high, axis) * part
    return np.asarray(value > 0.5)


def _artwork(
    patch: Any, shape: uv.Layout, rgb: np.ndarray, survey: np.ndarray | None
) -> np.ndarray:
    if survey is None:
        raise ValueError("The region AUTO needs a survey of the UV square.")
    height, width = rgb.shape[:2]
    rect = tuple(patch.rect)
    square = tile(rect)
    side = survey.shape[0]
    islands = island_map(shape, square, side, side)
    found = artwork.find(survey, islands)
    # Print without a ground is artwork as a whole; only its island's border limits it.
    whole = np.isin(islands, found.groundless)
    known = np.concatenate([found.ground, found.threshold[..., None]], -1)
    known[whole, 3] = 0.0
    missing = ~np.isfinite(known[..., 3])
    known[missing, 3] = 0.0
    known = pixels.fill(known, ~missing)
    near = dilate(found.mask | whole, 2)

    u = rect[0] + (np.arange(width) + 0.5) / width * (rect[2] - rect[0]) - square[0]
    v = square[3] - rect[3] + (np.arange(height) + 0.5) / height * (rect[3] - rect[1])
    columns = np.floor(u * side).astype(int).clip(0, side - 1)
    rows = np.floor(v * side).astype(int).clip(0, side - 1)
    mask = np.zeros((height, width), bool)
    for start in range(0, height, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        at = np.ix_(rows[part], columns)
        lab = artwork.to_lab(rgb[part])
        away = artwork.difference(lab, known[at][..., :3].astype(np.float32))
        mask[part] = (away > known[at][..., 3]) & near[at]
    if found.entire.any():
        mask |= _drawn_larger(found.entire, u * side - 0.5, v * side - 0.5)
    if not mask.any():
        raise GarmentError(
            f"No artwork was found in patch '{patch.name}': everything has the cloth's colour.",
            do("everything", "faces", "mask"),
        )
    # Close gaps thinner than the thread.
    return dilate(dilate(mask, patch.thread_px / 2), -patch.thread_px / 2)
