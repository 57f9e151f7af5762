"""Making patches, and keeping the figures that a panel shows of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..wording import do
from . import artwork, pieces, region, uv
from .bake import bake_colour
from .errors import GarmentError

__all__ = [
    "DEFAULT_THREAD_PX",
    "active_patch",
    "add_patch",
    "caution",
    "density",
    "patches_from_artwork",
    "refresh_size",
    "refresh_thread",
    "remove_patch",
    "size_cm",
    "size_text",
    "store_selected_faces",
]

DEFAULT_THREAD_PX = 5.0
"""Thread width of an embroidery at the scale that the starter model was trained at."""

# In shares of the largest island, since the units of garments are often wrong.
_GAP = 0.04
_THINNEST = 0.014
_PADDING = 0.015
_SMALLEST = 0.06
_MOST = 8
# A shape that holds fewer threads than this side by side loses its outline.
_THREADS_IN_SHAPE = 3.0
# Above this many times its real width nobody takes it for thread.
_COARSE = 8.0
_LEAST_EXAGGERATION, _LARGEST = 0.1, 8192
_BY_HAND = ("faces", "everything", "group", "mask")
# Variation of a colour that is one colour all over, of 255.
_PLAIN = 2.0


def active_patch(obj: bpy.types.Object) -> Any:
    """The patch chosen in the list.

    Raises:
        GarmentError: the object is no garment, or has no patch.
    """
    garment = uv.require_mesh(obj).stitchwork
    if not garment.patches:
        raise GarmentError(f"'{obj.name}' has no patch.", do("find", "add"))
    return garment.patches[min(garment.active_patch, len(garment.patches) - 1)]


def add_patch(
    obj: bpy.types.Object,
    *,
    name: str = "Patch",
    layer: str = "",
    rect: uv.Rect = (0.0, 0.0, 1.0, 1.0),
    chosen: str = "AUTO",
    style: str = "",
) -> Any:
    """Append a patch and make it the active one.

    Args:
        layer: UV layer; the one used for rendering if empty.
        chosen: region; FACES stores the faces that are selected now.

    Raises:
        GarmentError: no mesh, no faces, no UV layer, or no face selected for FACES.
    """
    uv.require_mesh(obj)
    layer = uv.require_layer(obj, layer).name
    faces = _selected(obj) if chosen == "FACES" else ""
    garment = obj.stitchwork
    patch = garment.patches.add()
    taken = {each.name for each in garment.patches if each != patch}
    patch.name = next(
        each
        for each in (name, *(f"{name} {number}" for number in range(2, len(taken) + 3)))
        if each not in taken
    )
    patch.uv_layer, patch.rect, patch.region, patch.faces = layer, rect, chosen, faces
    patch.style = style
    garment.active_patch = len(garment.patches) - 1
    return patch


def remove_patch(obj: bpy.types.Object, index: int) -> None:
    """Delete a patch that is not applied."""
    garment = obj.stitchwork
    garment.patches.remove(index)
    garment.active_patch = max(0, min(garment.active_patch, len(garment.patches) - 1))


def _selected(obj: bpy.types.Object) -> str:
    faces = region.selected_faces(obj.data)
    if not len(faces):
        raise GarmentError(f"No face of '{obj.name}' is selected.", do("select"))
    return region.store_faces(faces)


def store_selected_faces(obj: bpy.types.Object, patch: Any) -> None:
    """Make the faces selected now the patch's region.

    Raises:
        GarmentError: none is selected.
    """
    uv.require_mesh(obj)
    patch.faces = _selected(obj)
    patch.region = "FACES"


def patches_from_artwork(obj: bpy.types.Object, layer: str = "") -> list[int]:
    """Find separate pieces of artwork, such as a chest and a sleeve print; a patch for each.

    Returns:
        Indices of the new patches, largest first.

    Raises:
        GarmentError: nothing was found; the message says why.
    """
    uv.require_mesh(obj)
    layer = uv.require_layer(obj, layer).name
    side = region.SURVEY_SIDE
    square = (0.0, 0.0, 1.0, 1.0)
    survey = bake_colour(obj, layer, square, side, side)
    islands = region.island_map(uv.layout(obj, layer), square, side, side)
    found = artwork.find(survey[..., :3], islands)
    size = _largest_island(islands)
    single = found.mask & ~np.isin(islands, found.patterned)
    thinnest = max(2.0, _THINNEST * size)
    boxes = pieces.boxes(single, islands, _GAP * size, thinnest, _SMALLEST * size)
    if not boxes:
        raise _nothing(obj, survey[islands > 0, :3], islands, found)
    margin = _PADDING * size
    first = len(obj.stitchwork.patches)
    for box in boxes[:_MOST]:
        rect = (
            max(0.0, (box.left - margin) / side),
            max(0.0, 1 - (box.bottom + margin) / side),
            min(1.0, (box.right + margin) / side),
            min(1.0, 1 - (box.top - margin) / side),
        )
        add_patch(obj, name="Artwork", layer=layer, rect=rect)
    obj.stitchwork.active_patch = first
    return list(range(first, len(obj.stitchwork.patches)))


def _nothing(
    obj: bpy.types.Object, cloth: np.ndarray, islands: np.ndarray, found: artwork.Artwork
) -> GarmentError:
    """Why no artwork was found.

    Args:
        cloth: (N, 3) colours of all that the islands show.
    """
    if cloth.std(axis=0).max() < _PLAIN:
        what = f"No artwork was found on '{obj.name}': it is of one colour."
        return GarmentError(what, do("print", "words", *_BY_HAND))
    if np.isin(islands, found.patterned).sum() > 0.5 * (islands > 0).sum():
        what = f"The cloth of '{obj.name}' is printed all over, so no artwork stands out."
    else:
        what = (
            f"No artwork was found on '{obj.name}': colour panels, seams, trims and shading are "
            "cloth, and no print lies free on it."
        )
    return GarmentError(what, do(*_BY_HAND))


def _largest_island(islands: np.ndarray) -> float:
    """Longer side of the largest island in pixels."""
    sizes = [1]
    for number in np.unique(islands[islands > 0]):
        rows, columns = np.nonzero(islands == number)
        sizes.append(max(int(np.ptp(rows)), int(np.ptp(columns))) + 1)
    return float(max(sizes))


def refresh_size(patch: Any) -> None:
    """Measure the patch anew after its rectangle, layer or garment changed."""
    try:
        patch.mm_per_uv = uv.measure(patch.id_data, patch.uv_layer, tuple(patch.rect))
    except GarmentError:
        patch.mm_per_uv = (0.0, 0.0)
    # What was measured lay elsewhere.
    patch.shape_mm = 0.0


def refresh_thread(patch: Any) -> None:
    """Take the thread width in pixels from the patch's style."""
    patch.thread_px = DEFAULT_THREAD_PX
    if not patch.style:
        return
    path = Path(bpy.path.abspath(patch.style)) / "style.json"
    try:
        width = json.loads(path.read_text(encoding="utf-8")).get("thread_width_px")
    except (OSError, ValueError, AttributeError):
        # A damaged style is said when it is used; until then the default scale serves.
        return
    if isinstance(width, int | float) and 0.5 <= width <= 200:
        patch.thread_px = float(width)


def density(patch: Any) -> float:
    """Pixels per millimetre that make the patch's thread as wide as the style's."""
    return float(patch.thread_px / (patch.thread_mm * patch.exaggeration))


def caution(patch: Any, limit: int) -> str:
    """What to say before work when the thread is too wide to look well; "" if it is not.

    Args:
        limit: largest image side in pixels that is allowed now.
    """
    if 0.0 in tuple(patch.mm_per_uv):
        return ""
    thread = patch.thread_mm * patch.exaggeration
    if 0 < patch.shape_mm < thread * _THREADS_IN_SHAPE:
        factor = min(_COARSE, patch.shape_mm / (_THREADS_IN_SHAPE * patch.thread_mm))
        why = (
            f"is too wide for the artwork of '{patch.name}': a quarter of it lies in shapes "
            f"narrower than {patch.shape_mm:.1f} mm, which will dissolve"
        )
    elif patch.exaggeration > _COARSE:
        factor = _COARSE
        why = f"is {patch.exaggeration:.0f} times as wide as real and will look coarse"
    else:
        return ""
    down = math.floor(factor * 100) / 100
    px_per_mm = patch.thread_px / (patch.thread_mm * factor)
    side = math.ceil(max(_size_mm(patch)) * px_per_mm)
    ways = []
    if down >= _LEAST_EXAGGERATION and side <= limit:
        ways.append("exaggeration")
    elif down >= _LEAST_EXAGGERATION and side <= _LARGEST:
        ways.append("finer_drawing")
    ways.append("part")
    most = max(1, math.floor(limit / px_per_mm / 10))
    remedy = do(*ways, factor=f"{down:.2f}", side=side, cm=most)
    return f"Thread drawn {thread:.1f} mm wide {why}. {remedy}"


def _size_mm(patch: Any) -> tuple[float, float]:
    left, bottom, right, top = patch.rect
    return patch.mm_per_uv[0] * (right - left), patch.mm_per_uv[1] * (top - bottom)


def size_cm(patch: Any) -> str:
    """The patch's real size, as measured last."""
    width, height = _size_mm(patch)
    return f"{width / 10:.1f} × {height / 10:.1f} cm"


def size_text(patch: Any) -> str:
    """The patch's real size and its image's size, as measured last."""
    if 0.0 in tuple(patch.mm_per_uv):
        return "beside the UV islands"
    across, up = (round(side * density(patch)) for side in _size_mm(patch))
    return f"{size_cm(patch)}, {across} × {up} px"
