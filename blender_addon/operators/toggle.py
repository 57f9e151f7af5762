"""Show the garment before and after."""

from __future__ import annotations

import bpy

from ..garment import apply
from ._verb import attempt, has_applied

__all__ = ["STITCHWORK_OT_toggle"]


class STITCHWORK_OT_toggle(bpy.types.Operator):
    bl_idname = "stitchwork.toggle"
    bl_label = "Before / After"
    bl_description = "Show the garment without its embroidery, or with it again"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_applied(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            apply.show(obj, not obj.stitchwork.shown)
            return "After" if obj.stitchwork.shown else "Before"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_toggle)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_toggle)
