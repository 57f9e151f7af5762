"""Unwrap into a new UV layer."""

from __future__ import annotations

import bpy

from ..garment import unwrap
from ._verb import attempt

__all__ = ["STITCHWORK_OT_unwrap"]


class STITCHWORK_OT_unwrap(bpy.types.Operator):
    bl_idname = "stitchwork.unwrap"
    bl_label = "Unwrap"
    bl_description = "Unwrap the garment into a new UV layer, which the active patch then uses"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            name = unwrap.unwrap(obj)
            garment = obj.stitchwork
            if garment.active_patch < len(garment.patches):
                patch = garment.patches[garment.active_patch]
                if not patch.applied:
                    patch.uv_layer = name
            return f"New UV layer '{name}'"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_unwrap)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_unwrap)
