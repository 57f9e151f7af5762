"""Laying embroidery over a garment, and taking it off again.

The garment's materials are never edited. Each affected material slot gets a copy on the object's
own level, so the mesh, its materials and other objects that share them stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..wording import do
from . import bake, material, pixels, relief, uv
from .errors import GarmentError
from .raster import dilate
from .scale import millimetres

__all__ = ["apply_patch", "revert", "show"]

# Cloth must not shine through where two pieces meet, so thread runs this far past the islands.
_SEAM_PIXELS = 4


def apply_patch(obj: bpy.types.Object, patch: Any, image_path: Path | str) -> bpy.types.Image:
    """Lay an embroidered picture over the patch's rectangle; replaces what lay there.

    Args:
        image_path: the patch's bake, restyled, or a motif of its size; alpha is where thread is.

    Raises:
        GarmentError: the object or picture cannot be used; nothing has changed then.
    """
    uv.require_mesh(obj)
    if obj.library is not None:
        raise GarmentError(
            f"'{obj.name}' is linked from another file.",
            "Make it local: Object ▸ Relations ▸ Make Local.",
        )
    layer = uv.require_layer(obj, patch.uv_layer).name
    if not obj.material_slots and obj.data.library is not None:
        raise GarmentError(
            f"The mesh of '{obj.name}' has no material slot and is linked from another file.",
            "Make the mesh local: Object ▸ Relations ▸ Make Local.",
        )
    _part_from_twins(obj)
    slots = _slots_in(obj, layer, tuple(patch.rect))
    picture = pixels.read(Path(image_path))
    baked = _baked(patch, picture.shape)
    islands = _islands(picture, baked)
    rgba = _covering(Path(image_path), picture, islands, patch)

    revert(obj, patch)
    name = f"{obj.name} {patch.name}"
    image = pixels.to_image(f"{name} embroidery", rgba)
    # What covers the islands in part is a motif from words: the print below is not its artwork.
    flat = baked if (picture[islands, 3] > 0).all() else None
    heights = _heights(f"{name} relief", rgba, flat, patch) if patch.relief > 0 else None
    thread = patch.thread_mm * patch.exaggeration
    look = material.Look(
        layer=layer,
        rect=tuple(patch.rect),
        relief=patch.relief,
        height=thread / millimetres(obj),
        heights=heights,
    )
    group = material.build_group(f"Stitchwork {patch.name}", image, look)
    for index in slots:
        material.insert(_own_material(obj, index), group)
    bake.patch_id(patch)
    patch.group, patch.image = group, image
    patch.result_path, patch.applied = str(image_path), True
    material.show(group, obj.stitchwork.shown)
    return image


def _slots_in(obj: bpy.types.Object, layer: str, rect: uv.Rect) -> list[int]:
    """Material slots of the faces that reach into the rectangle."""
    shape = uv.layout(obj, layer)
    inside = ((shape.uv.max(1) > rect[:2]) & (shape.uv.min(1) < rect[2:])).all(1)
    index = np.empty(len(obj.data.polygons), np.int32)
    obj.data.polygons.foreach_get("material_index", index)
    used = np.unique(index[shape.face[inside]].clip(0, max(0, len(obj.material_slots) - 1)))
    if not len(used):
        raise GarmentError(f"No face of '{obj.name}' lies in the patch's rectangle.", do("rect"))
    return [int(each) for each in used]


def _baked(patch: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The patch's bake, if it is still there and as large as the picture."""
    if not patch.bake_path or not Path(patch.bake_path).is_file():
        return None
    rgba = pixels.read(Path(patch.bake_path))
    return rgba if rgba.shape == shape else None


def _islands(picture: np.ndarray, baked: np.ndarray | None) -> np.ndarray:
    """(H, W) bool: the UV islands, as far as bake and picture tell."""
    covered = picture[..., 3] > 0
    return covered if baked is None else covered | (baked[..., 3] > 127)


def _covering(path: Path, rgba: np.ndarray, islands: np.ndarray, patch: Any) -> np.ndarray:
    """The picture with alpha where thread lies: its region, softened, and past the islands."""
    covered = rgba[..., 3] > 0
    region = covered
    if patch.mask_path and Path(patch.mask_path).is_file():
        mask = pixels.read(Path(patch.mask_path))[..., 0]
        rows = np.arange(len(rgba)) * len(mask) // len(rgba)
        columns = np.arange(rgba.shape[1]) * mask.shape[1] // rgba.shape[1]
        region = covered & (mask[np.ix_(rows, columns)] > 127)
    if not region.any():
        raise GarmentError(f"{path} covers nothing of patch '{patch.name}'.", "Bake it again.")
    beyond = dilate(region, _SEAM_PIXELS) & ~islands
    colour = rgba[..., :3]
    if beyond.any():
        colour = np.where(beyond[..., None], pixels.fill(colour, region), colour)
    alpha = np.minimum(_soften(region | beyond), np.where(covered, rgba[..., 3], 255))
    return np.concatenate([colour, alpha[..., None]], -1)


def _heights(name: str, rgba: np.ndarray, flat: np.ndarray | None, patch: Any) -> bpy.types.Image:
    """The relief of the picture as an image data-block."""
    grey = relief.height_map(rgba, flat, patch.thread_px)
    opaque = np.full((*grey.shape, 4), 255, np.uint8)
    opaque[..., :3] = grey[..., None]
    return pixels.to_image(name, opaque, colour=False)


def _soften(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8: a 3×3 average inside the mask, so that its border has no steps."""
    value = np.pad(mask, 1, mode="edge").astype(np.uint16)
    value = value[:-2] + value[1:-1] + value[2:]
    value = value[:, :-2] + value[:, 1:-1] + value[:, 2:]
    return np.where(mask, value * 255 // 9, 0).astype(np.uint8)


def _own_material(obj: bpy.types.Object, index: int) -> bpy.types.Material:
    """The slot's copy for this garment; made, and the slot as it was noted, on first use."""
    garment = obj.stitchwork
    for each in garment.originals:
        if each.index == index and each.copy is not None:
            return each.copy
    note = garment.originals.add()
    note.index = index
    if not obj.material_slots:
        obj.data.materials.append(None)
        note.added = True
    slot = obj.material_slots[index]
    shown = slot.material
    note.link = slot.link
    slot.link = "OBJECT"
    note.material = slot.material
    note.copy = material.copy_material(shown, f"{shown.name if shown else obj.name} (embroidered)")
    slot.material = note.copy
    return note.copy


def revert(obj: bpy.types.Object, patch: Any = None) -> bool:
    """Take off one patch, or all; when none is left the slots are exactly as before.

    Returns:
        Whether anything was taken off.
    """
    garment = obj.stitchwork
    chosen = list(garment.patches) if patch is None else [patch]
    applied = [each for each in chosen if each.applied]
    if applied:
        _part_from_twins(obj)
    for each in applied:
        group, image = each.group, each.image
        images = {image, *(material.images(group) if group is not None else ())}
        if group is not None:
            for note in garment.originals:
                if note.copy is not None:
                    material.remove(note.copy, group)
        each.group, each.image, each.applied = None, None, False
        if group is not None and _unused(group):
            bpy.data.node_groups.remove(group)
        for made in images:
            if made is not None and _unused(made):
                bpy.data.images.remove(made)
    if not any(each.applied for each in garment.patches):
        _restore_slots(obj)
    return bool(applied)


def _unused(data: bpy.types.ID) -> bool:
    """Whether nothing holds the data; Blender 4.2's own count of users is not to be trusted."""
    return not bpy.data.user_map(subset={data})[data]


def _part_from_twins(obj: bpy.types.Object) -> None:
    """Give a duplicated garment, which shows the same embroidered materials, its own."""
    for note in obj.stitchwork.originals:
        slot = obj.material_slots[note.index] if note.index < len(obj.material_slots) else None
        shared = note.copy is not None and any(
            other != obj and any(each.material == note.copy for each in other.material_slots)
            for other in bpy.data.objects
        )
        if shared and slot is not None and slot.material == note.copy:
            note.copy = note.copy.copy()
            slot.material = note.copy


def _restore_slots(obj: bpy.types.Object) -> None:
    garment = obj.stitchwork
    for note in reversed(garment.originals):
        copy = note.copy
        slot = obj.material_slots[note.index] if note.index < len(obj.material_slots) else None
        if slot is not None and copy is not None and slot.material == copy:
            slot.link = "OBJECT"
            slot.material = note.material
            slot.link = note.link
            if note.added and len(obj.data.materials) == 1:
                _remove_only_slot(obj.data)
        note.copy = None
        if copy is not None and _unused(copy):
            bpy.data.materials.remove(copy)
    garment.originals.clear()


def _remove_only_slot(mesh: bpy.types.Mesh) -> None:
    """Popping the last slot would leave the object's; clearing drops the faces' indices."""
    if "material_index" not in mesh.attributes:
        mesh.materials.clear()
        return
    index = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("material_index", index)
    mesh.materials.clear()
    mesh.polygons.foreach_set("material_index", index)


def show(obj: bpy.types.Object, shown: bool) -> None:
    """Show the garment with its embroidery, or as it was before."""
    obj.stitchwork.shown = shown
    for patch in obj.stitchwork.patches:
        if patch.applied and patch.group is not None:
            material.show(patch.group, shown)
