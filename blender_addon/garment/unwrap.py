"""Unwrapping a garment that has no usable UVs, into a layer of its own."""

from __future__ import annotations

import bpy
import numpy as np

from . import uv
from .errors import GarmentError

__all__ = ["unwrap"]

_HELPER = "stitchwork unwrap"


def unwrap(obj: bpy.types.Object, name: str = "Stitchwork") -> str:
    """Unwrap the mesh into a new UV layer; the layers there and what renders with them stay.

    Returns:
        Name of the new layer.

    Raises:
        GarmentError: no mesh, or all eight layers are taken.
    """
    uv.require_mesh(obj)
    editing = obj.mode == "EDIT"
    if editing:
        # In edit mode new layers live in the edit mesh only.
        with bpy.context.temp_override(object=obj, active_object=obj):
            bpy.ops.object.mode_set(mode="OBJECT")
    try:
        return _unwrap(obj, name)
    finally:
        if editing:
            with bpy.context.temp_override(object=obj, active_object=obj):
                bpy.ops.object.mode_set(mode="EDIT")


def _unwrap(obj: bpy.types.Object, name: str) -> str:
    layers = obj.data.uv_layers
    active = layers.active.name if layers.active else ""
    rendered = next((each.name for each in layers if each.active_render), "")
    made = layers.new(name=name, do_init=False)
    if made is None:
        raise GarmentError(
            f"'{obj.name}' has as many UV layers as Blender allows.", "Remove one of them."
        )
    result = str(made.name)
    mesh = obj.data.copy()
    helper = bpy.data.objects.new(_HELPER, mesh)
    scene = bpy.data.scenes.new(_HELPER)
    try:
        scene.collection.objects.link(helper)
        values = _smart_project(scene, helper)
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(helper)
        bpy.data.meshes.remove(mesh)
    layers[result].uv.foreach_set("vector", values)
    if active:
        layers.active = layers[active]
    if rendered:
        layers[rendered].active_render = True
    return result


def _smart_project(scene: bpy.types.Scene, helper: bpy.types.Object) -> np.ndarray:
    """Coordinates (2L,) of a smart projection of all faces of the helper."""
    view_layer = scene.view_layers[0]
    view_layer.objects.active = helper
    helper.select_set(True, view_layer=view_layer)
    mesh = helper.data
    while len(mesh.uv_layers):
        mesh.uv_layers.remove(mesh.uv_layers[0])
    mesh.uv_layers.new(name=_HELPER)
    with bpy.context.temp_override(
        scene=scene,
        view_layer=view_layer,
        object=helper,
        active_object=helper,
        edit_object=helper,
        selected_objects=[helper],
        selected_editable_objects=[helper],
    ):
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            bpy.ops.mesh.reveal(select=True)
            bpy.ops.mesh.select_all(action="SELECT")
            bpy.ops.uv.smart_project(angle_limit=1.15, island_margin=0.01)
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
    values = np.empty(len(mesh.loops) * 2, np.float32)
    mesh.uv_layers[_HELPER].uv.foreach_get("vector", values)
    return values
