"""Give the active patch a trained style, from the library or from a folder."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ..link import polling
from ..link.client import LinkError
from ..link.folders import local_path
from ..link.tasks import active_patch, read_style, use_style

__all__ = ["STITCHWORK_OT_style_choose", "STITCHWORK_OT_style_open"]


class _UseStyle:
    bl_label = "Use Style"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(name="Folder", subtype="DIR_PATH")

    def execute(self: Any, context: bpy.types.Context) -> set[str]:
        folder = local_path(self.directory)
        patch = active_patch(context.object)
        try:
            read_style(folder)
            if patch is not None:
                use_style(patch, folder)
        except LinkError as error:
            polling.tell(error.message, error.remedy, error=True)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        context.scene.stitchwork.style = str(folder)
        polling.tell("")
        return {"FINISHED"}


class STITCHWORK_OT_style_choose(_UseStyle, bpy.types.Operator):
    bl_idname = "stitchwork.style_choose"
    bl_description = "Use this trained style for the active patch"


class STITCHWORK_OT_style_open(_UseStyle, bpy.types.Operator):
    bl_idname = "stitchwork.style_open"
    bl_description = "Choose the folder of a trained style"

    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_style_choose)
    bpy.utils.register_class(STITCHWORK_OT_style_open)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_style_open)
    bpy.utils.unregister_class(STITCHWORK_OT_style_choose)
