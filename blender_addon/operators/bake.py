"""Bake the active patch."""

from __future__ import annotations

from typing import Any

import bpy

from ..garment import bake, patches
from ..link.folders import data_folder
from ._verb import PatchVerb

__all__ = ["STITCHWORK_OT_bake"]


class STITCHWORK_OT_bake(PatchVerb, bpy.types.Operator):
    bl_idname = "stitchwork.bake"
    bl_label = "Bake Patch"
    bl_description = (
        "Bake the base colour inside the active patch, and its coverage, into image files"
    )
    bl_options = {"REGISTER", "UNDO"}

    def work(self, obj: bpy.types.Object, patch: Any) -> str:
        baked = bake.bake_patch(obj, patch, data_folder("bakes", bake.patch_id(patch)))
        limit = bpy.context.scene.stitchwork.max_side
        for warning in filter(None, (*baked.warnings, patches.caution(patch, limit))):
            self.report({"WARNING"}, warning)
        return f"{patch.name}: {baked.size[0]} × {baked.size[1]} px in {baked.image_path}"


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_bake)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_bake)
