"""Load the sample garment."""

from __future__ import annotations

import bpy

from .. import samples
from ..garment.errors import GarmentError
from ._verb import attempt

__all__ = ["STITCHWORK_OT_load_sample"]


class STITCHWORK_OT_load_sample(bpy.types.Operator):
    bl_idname = "stitchwork.load_sample"
    bl_label = "Load Sample Garment"
    bl_description = "Add the sample T-shirt to the scene and choose the sample reference photo"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            scene = context.scene
            if not samples.TSHIRT_BLEND.is_file():
                raise GarmentError(f"{samples.TSHIRT_BLEND} is missing.", "Install again.")
            with bpy.data.libraries.load(str(samples.TSHIRT_BLEND), link=False) as (_, wanted):
                wanted.objects = [samples.TSHIRT_NAME]
            obj = wanted.objects[0]
            if obj is None:
                raise GarmentError(f"{samples.TSHIRT_BLEND} is damaged.", "Install again.")
            context.collection.objects.link(obj)
            for each in context.selected_objects:
                each.select_set(False)
            obj.select_set(True)
            context.view_layer.objects.active = obj
            scene.stitchwork.reference = str(samples.REFERENCE_PHOTO)
            scene.stitchwork.design = str(samples.REFERENCE_DESIGN)
            return f"{obj.name} is loaded"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_load_sample)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_load_sample)
