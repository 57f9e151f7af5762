"""Bake the active patch."""

from __future__ import annotations

import bpy

from ..garment import bake, patches
from ..link.folders import data_folder
from ._verb import attempt, has_patch

__all__ = ["STITCHWORK_OT_bake"]


class STITCHWORK_OT_bake(bpy.types.Operator):
    bl_idname = "stitchwork.bake"
    bl_label = "Bake Patch"
    bl_description = (
        "Bake the base colour inside the active patch, and its coverage, into image files"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_patch(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            patch = patches.active_patch(obj)
            baked = bake.bake_patch(obj, patch, data_folder("bakes", bake.patch_id(patch)))
            for warning in baked.warnings:
                self.report({"WARNING"}, warning)
            return f"{patch.name}: {baked.size[0]} × {baked.size[1]} px in {baked.image_path}"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_bake)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_bake)
