"""Render the garment, far and close."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from ..garment import patches, render
from ..link.folders import data_folder
from ._verb import attempt

__all__ = ["STITCHWORK_OT_render_preview"]


class STITCHWORK_OT_render_preview(bpy.types.Operator):
    bl_idname = "stitchwork.render_preview"
    bl_label = "Render Preview"
    bl_description = "Render the garment from the front and the active patch from near"
    bl_options = {"REGISTER"}

    view: EnumProperty(
        name="View",
        items=(("front", "Front", "All of the garment"), ("closeup", "Close-up", "Stitches")),
    )
    size: IntProperty(name="Size", default=768, min=64, max=4096)
    samples: IntProperty(name="Samples", default=32, min=1, max=4096)
    filepath: StringProperty(
        name="File",
        description="PNG to write; empty: in the add-on's own folder",
        subtype="FILE_PATH",
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            path = (
                Path(bpy.path.abspath(self.filepath))
                if self.filepath
                else data_folder("renders") / f"{self.view}.png"
            )
            near = self.view == "closeup" and obj is not None and obj.type == "MESH"
            render.render_garment(
                obj,
                path,
                view=self.view,
                # From near, the patch that is chosen in the list.
                patches=[patches.active_patch(obj)] if near else None,
                size=self.size,
                samples=self.samples,
            )
            image = bpy.data.images.load(str(path), check_existing=True)
            image.reload()
            return f"Image '{image.name}' is in {path}"

        return attempt(self, work)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_render_preview)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_render_preview)
