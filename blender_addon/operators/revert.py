"""Take embroidery off the garment."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty

from ..garment import apply, patches
from ._verb import attempt, has_applied

__all__ = ["STITCHWORK_OT_revert"]


class STITCHWORK_OT_revert(bpy.types.Operator):
    bl_idname = "stitchwork.revert"
    bl_label = "Revert"
    bl_description = (
        "Take the embroidery off; materials, images, UV layers and mesh are as they were before"
    )
    bl_options = {"REGISTER", "UNDO"}

    every: BoolProperty(
        name="All Patches", description="All patches of the garment, not only the active one"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_applied(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            patch = None if self.every else patches.active_patch(obj)
            if not apply.revert(obj, patch):
                return ""
            return "Embroidery is taken off"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_revert)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_revert)
