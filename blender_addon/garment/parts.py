"""Garments in several objects: which other meshes of a scene belong to one."""

from __future__ import annotations

import bpy

__all__ = ["cut_from_same_cloth", "garment_parts"]


def garment_parts(obj: bpy.types.Object) -> list[bpy.types.Object]:
    """The object and the meshes shown with it: of the same cloth, or imported under one parent."""
    return [obj, *(each for each in _others(obj) if _same_cloth(obj, each) or _kin(obj, each))]


def cut_from_same_cloth(obj: bpy.types.Object) -> list[bpy.types.Object]:
    """The object and the meshes that share a material with it, such as a dress's pieces."""
    return [obj, *(each for each in _others(obj) if _same_cloth(obj, each))]


def _others(obj: bpy.types.Object) -> list[bpy.types.Object]:
    return [
        each
        for each in bpy.context.scene.objects
        if each != obj and each.type == "MESH" and not each.hide_render and each.data.polygons
    ]


def _same_cloth(obj: bpy.types.Object, other: bpy.types.Object) -> bool:
    # An embroidered slot holds a copy; the mesh keeps what it was made from.
    own, theirs = (
        {slot.material for slot in each.material_slots} | set(each.data.materials)
        for each in (obj, other)
    )
    return bool((own & theirs) - {None})


def _kin(obj: bpy.types.Object, other: bpy.types.Object) -> bool:
    return obj.parent is not None and _root(obj) == _root(other)


def _root(obj: bpy.types.Object) -> bpy.types.Object:
    while obj.parent is not None:
        obj = obj.parent
    return obj
