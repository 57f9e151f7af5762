"""Merge patches and cloth into one texture and its normal map."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty

from ..garment import export, patches
from ..link.folders import data_folder
from ._verb import attempt, has_applied

__all__ = ["STITCHWORK_OT_bake_down"]


class STITCHWORK_OT_bake_down(bpy.types.Operator):
    bl_idname = "stitchwork.bake_down"
    bl_label = "Bake Down"
    bl_description = (
        "Merge patches and cloth into one ordinary texture for export, and their relief into a "
        "normal map beside it; gloss stays in the material"
    )
    bl_options = {"REGISTER", "UNDO"}

    side: IntProperty(
        name="Size", description="Width and height in pixels", default=4096, min=64, max=8192
    )
    filepath: StringProperty(
        name="File",
        description="PNG to write; empty: in the add-on's own folder",
        subtype="FILE_PATH",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_applied(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            patch = patches.active_patch(obj)
            path = (
                Path(bpy.path.abspath(self.filepath))
                if self.filepath
                else data_folder("results") / bpy.path.clean_name(f"{obj.name}-texture")
            ).with_suffix(".png")
            return export.bake_down(obj, path, self.side, patch.uv_layer).words

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_bake_down)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_bake_down)
