"""Add a patch by hand."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty

from ..garment import patches, region
from ._verb import attempt

__all__ = [
    "STITCHWORK_OT_patch_add",
    "STITCHWORK_OT_patch_faces",
    "STITCHWORK_OT_patch_from_faces",
]


class STITCHWORK_OT_patch_add(bpy.types.Operator):
    bl_idname = "stitchwork.patch_add"
    bl_label = "Add Patch"
    bl_description = (
        "Add a patch: around the selected faces in Edit Mode, otherwise over the whole UV layer"
    )
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            style = context.scene.stitchwork.style
            if obj is not None and obj.mode == "EDIT":
                patch = patches.add_patch(obj, chosen="FACES", style=style)
                patch.rect = region.faces_rect(obj, patch)
            else:
                patch = patches.add_patch(obj, style=style)
            return f"{patch.name}: {patch.size_text}"

        return attempt(self, work)


class STITCHWORK_OT_patch_from_faces(bpy.types.Operator):
    bl_idname = "stitchwork.patch_from_faces"
    bl_label = "Add Patch from Selected Faces"
    bl_description = "Add a patch over the faces that are selected now, in Edit or Object Mode"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            obj = context.object
            patch = patches.add_patch(obj, chosen="FACES", style=context.scene.stitchwork.style)
            patch.rect = region.faces_rect(obj, patch)
            return f"{patch.name}: {patch.size_text}"

        return attempt(self, work)


class STITCHWORK_OT_patch_faces(bpy.types.Operator):
    bl_idname = "stitchwork.patch_faces"
    bl_label = "Store Selected Faces"
    bl_description = "Make the faces selected now the region of the active patch"
    bl_options = {"REGISTER", "UNDO"}

    fit: BoolProperty(
        name="Fit Rectangle", description="Lay the rectangle around these faces", default=True
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        def work() -> str:
            patch = patches.active_patch(context.object)
            patches.store_selected_faces(context.object, patch)
            if self.fit:
                patch.rect = region.faces_rect(context.object, patch)
            return f"{patch.name}: {patch.size_text}"

        return attempt(self, work)


CLASSES = (STITCHWORK_OT_patch_add, STITCHWORK_OT_patch_from_faces, STITCHWORK_OT_patch_faces)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
