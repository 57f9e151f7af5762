"""Delete the active patch."""

from __future__ import annotations

import bpy

from ..garment import apply, patches
from ._verb import attempt, has_patch

__all__ = ["STITCHWORK_OT_patch_remove"]


class STITCHWORK_OT_patch_remove(bpy.types.Operator):
    bl_idname = "stitchwork.patch_remove"
    bl_label = "Remove Patch"
    bl_description = "Take the active patch off the garment and delete it"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_patch(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            patch = patches.active_patch(obj)
            name = patch.name
            apply.revert(obj, patch)
            patches.remove_patch(obj, list(obj.stitchwork.patches).index(patch))
            return f"{name} is removed"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_patch_remove)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_patch_remove)
