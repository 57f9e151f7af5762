"""Find the artwork on the garment."""

from __future__ import annotations

import bpy

from ..garment import patches, report
from ._verb import attempt

__all__ = ["STITCHWORK_OT_patch_from_artwork"]


class STITCHWORK_OT_patch_from_artwork(bpy.types.Operator):
    bl_idname = "stitchwork.patch_from_artwork"
    bl_label = "Find Artwork"
    bl_description = "Find printed artwork by itself and make a patch for each piece of it"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            found = patches.patches_from_artwork(obj)
            for index in found:
                obj.stitchwork.patches[index].style = context.scene.stitchwork.style
            return report.found_artwork(obj, [obj.stitchwork.patches[each] for each in found])

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_patch_from_artwork)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_patch_from_artwork)
