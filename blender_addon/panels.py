"""The sidebar tab "Stitchwork", in the order of work: garment, photo, style, embroidery, result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from . import thumbnails
from .garment import patches, scale
from .link import polling
from .link.folders import local_path, style_folders
from .link.session import Phase, Task
from .link.tasks import active_patch
from .link.terminal import clock
from .preferences import draw_installation, settings
from .wrapping import wrapped

__all__ = ["register", "unregister"]

PHASES = {
    Phase.OFF: ("Backend off; starts when needed", "RADIOBUT_OFF"),
    Phase.STARTING: ("Backend is starting …", "SORTTIME"),
    Phase.READY: ("Backend ready", "RADIOBUT_ON"),
    Phase.FAILED: ("Backend stopped unexpectedly", "ERROR"),
}


class _Sidebar:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Stitchwork"


def _job(layout: bpy.types.UILayout, title: str) -> bool:
    """Draw the progress of the task named `title` and its newest picture, if one is under way."""
    for index, task in enumerate(polling.session.tasks):
        if task.title == title:
            row = layout.row(align=True)
            row.scale_y = 1.3
            row.progress(factor=_share(task), text=_progress_text(task))
            row.operator("stitchwork.job_cancel", text="", icon="X").index = index
            if icon := _newest(task):
                layout.template_icon(icon_value=icon, scale=7.0)
            return True
    return False


def _newest(task: Task) -> int:
    """The icon of the newest picture of a task's work; 0: none, or not on this disk."""
    picture = task.progress.preview if task.progress else None
    return thumbnails.icon(Path(picture)) if picture else 0


def _share(task: Task) -> float:
    progress = task.progress
    return progress.step / progress.steps if progress and progress.steps else 0.0


def _progress_text(task: Task) -> str:
    progress = task.progress
    if task.cancelled:
        return "Cancelling …"
    if progress is None or task.waiting:
        starting = polling.session.phase is Phase.STARTING
        return "Starting the backend …" if starting else f"{task.title}: waiting …"
    left = clock(progress.seconds_left)
    return f"{progress.stage.capitalize()}{f' · {left} left' if left else ''}"


class STITCHWORK_PT_status(_Sidebar, bpy.types.Panel):
    bl_label = "Stitchwork"
    bl_idname = "STITCHWORK_PT_status"
    bl_options = {"HIDE_HEADER"}
    bl_order = 0

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        phase = polling.session.phase
        words, icon = PHASES[phase]
        row = layout.row()
        row.label(text=words, icon=icon)
        if phase in (Phase.READY, Phase.STARTING):
            row.operator("stitchwork.backend_stop", text="", icon="SNAP_FACE", emboss=False)
        else:
            row.operator("stitchwork.backend_start", text="", icon="PLAY", emboss=False)
        if not settings().found():
            draw_installation(layout, context)
        notice = polling.notice
        if notice.text:
            box = layout.box()
            box.alert = notice.error
            wrapped(box, context, notice.text, "ERROR" if notice.error else "INFO")
            if notice.remedy:
                box.alert = False
                wrapped(box, context, notice.remedy, "FORWARD")


class STITCHWORK_UL_patches(bpy.types.UIList):
    def draw_item(
        self,
        context: Any,
        layout: Any,
        data: Any,
        item: Any,
        icon: int,
        active_data: Any,
        active_property: str,
    ) -> None:
        row = layout.row(align=True)
        row.prop(item, "name", text="", emboss=False, icon="MOD_UVPROJECT")
        if item.style:
            row.label(text=Path(item.style).name)
        row.label(text="", icon="CHECKMARK" if item.applied else "BLANK1")


class STITCHWORK_PT_garment(_Sidebar, bpy.types.Panel):
    bl_label = "Garment"
    bl_idname = "STITCHWORK_PT_garment"
    bl_order = 1

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.label(icon="MATCLOTH")

    def draw(self, context: bpy.types.Context) -> None:
        layout, obj = self.layout, context.object
        if obj is None or obj.type != "MESH":
            layout.label(text="Select a garment (a mesh)", icon="RESTRICT_SELECT_OFF")
            layout.operator("stitchwork.load_sample", icon="IMPORT")
            return
        garment = obj.stitchwork
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(garment, "real_height_cm", text="Height (cm)")
        if unit := scale.assumed(obj):
            wrapped(layout, context, unit, "INFO")
        if not obj.data.uv_layers:
            wrapped(layout, context, f"{obj.name} has no UV layer.", "ERROR")
            layout.operator("stitchwork.unwrap", text="Unwrap into a New Layer", icon="UV")
            return
        layout.operator("stitchwork.patch_from_artwork", text="Find Artwork", icon="EYEDROPPER")
        row = layout.row()
        row.template_list(
            "STITCHWORK_UL_patches", "", garment, "patches", garment, "active_patch", rows=3
        )
        side = row.column(align=True)
        side.operator("stitchwork.patch_add", text="", icon="ADD")
        side.operator("stitchwork.patch_from_faces", text="", icon="FACESEL")
        side.operator("stitchwork.patch_remove", text="", icon="REMOVE")


class STITCHWORK_PT_patch(_Sidebar, bpy.types.Panel):
    bl_label = "Patch"
    bl_idname = "STITCHWORK_PT_patch"
    bl_parent_id = "STITCHWORK_PT_garment"
    bl_options = {"HIDE_HEADER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return active_patch(context.object) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, obj = self.layout, context.object
        patch = active_patch(obj)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(patch, "words")
        layout.prop(patch, "region")
        if patch.region == "GROUP":
            layout.prop_search(patch, "vertex_group", obj, "vertex_groups")
        elif patch.region == "FACES":
            layout.operator("stitchwork.patch_faces", icon="FACESEL")
        elif patch.region == "MASK":
            layout.template_ID(patch, "mask_image", open="image.open", text="Mask")
        column = layout.column(align=True)
        column.prop(patch, "thread_mm", text="Thread (mm)")
        column.prop(patch, "exaggeration")
        self._draw_size(context, patch)

    def _draw_size(self, context: bpy.types.Context, patch: Any) -> None:
        """Size on the garment and in pixels, and a way out when there are too many of them."""
        layout = self.layout
        row = layout.row()
        row.alignment = "RIGHT"
        row.label(text=patch.size_text)
        limit = context.scene.stitchwork.max_side
        left, bottom, right, top = patch.rect
        across, up = patch.mm_per_uv
        longest = max(across * (right - left), up * (top - bottom)) * patch.density
        if longest > limit:
            fitting = patch.exaggeration * longest / limit + 0.005
            wrapped(layout, context, f"Over {limit} px; exaggeration {fitting:.2f} fits.", "ERROR")
        elif caution := patches.caution(patch, limit):
            wrapped(layout, context, caution, "ERROR")


class STITCHWORK_PT_patch_place(_Sidebar, bpy.types.Panel):
    bl_label = "Placement"
    bl_idname = "STITCHWORK_PT_patch_place"
    bl_parent_id = "STITCHWORK_PT_garment"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 1

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return active_patch(context.object) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, obj = self.layout, context.object
        patch = active_patch(obj)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop_search(patch, "uv_layer", obj.data, "uv_layers", icon="UV")
        column = layout.column(align=True)
        for index, name in enumerate(("Left", "Bottom", "Right", "Top")):
            column.prop(patch, "rect", index=index, text=name)
        layout.prop(context.scene.stitchwork, "max_side")


class STITCHWORK_PT_reference(_Sidebar, bpy.types.Panel):
    bl_label = "Reference Photo"
    bl_idname = "STITCHWORK_PT_reference"
    bl_order = 2

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.label(icon="IMAGE_REFERENCE")

    def draw(self, context: bpy.types.Context) -> None:
        layout, shown = self.layout, context.scene.stitchwork
        layout.prop(shown, "reference", text="")
        if shown.reference:
            icon = thumbnails.icon(local_path(shown.reference))
            if icon:
                layout.template_icon(icon_value=icon, scale=7.0)
            else:
                wrapped(layout, context, f"{local_path(shown.reference)} is not there.", "ERROR")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(shown, "design", text="Flat Design")
        if not _job(layout, "First look"):
            row = layout.row()
            row.scale_y = 1.2
            row.operator("stitchwork.preview", text="First Look (seconds)", icon="HIDE_OFF")


class STITCHWORK_MT_styles(bpy.types.Menu):
    bl_label = "Trained Styles"
    bl_idname = "STITCHWORK_MT_styles"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        for folder in style_folders():
            row = layout.operator(
                "stitchwork.style_choose", text=folder.name, icon_value=_style_icon(folder)
            )
            row.directory = str(folder)
        layout.separator()
        # In a menu an operator is invoked, so this one opens the file browser.
        layout.operator("stitchwork.style_open", text="From a Folder …", icon="FILE_FOLDER")


def _style_icon(folder: Path) -> int:
    return thumbnails.icon(folder / "preview.png") or thumbnails.icon(folder / "reference.png")


class STITCHWORK_PT_style(_Sidebar, bpy.types.Panel):
    bl_label = "Style"
    bl_idname = "STITCHWORK_PT_style"
    bl_order = 3

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.label(icon="BRUSH_DATA")

    def draw(self, context: bpy.types.Context) -> None:
        layout, shown = self.layout, context.scene.stitchwork
        patch = active_patch(context.object)
        chosen = (patch.style if patch is not None else "") or shown.style
        if chosen:
            folder = local_path(chosen)
            layout.menu("STITCHWORK_MT_styles", text=folder.name, icon_value=_style_icon(folder))
        else:
            layout.menu("STITCHWORK_MT_styles", text="Choose a Trained Style", icon="BRUSH_DATA")
        if not _job(layout, "Training"):
            row = layout.split(factor=0.64, align=True)
            row.scale_y = 1.2
            row.operator("stitchwork.train", text="Train from Photo", icon="SHADERFX")
            row.prop(shown, "profile", text="")


class STITCHWORK_PT_embroider(_Sidebar, bpy.types.Panel):
    bl_label = "Embroider"
    bl_idname = "STITCHWORK_PT_embroider"
    bl_order = 4

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.label(icon="MOD_CLOTH")

    def draw(self, context: bpy.types.Context) -> None:
        layout, obj = self.layout, context.object
        patch = active_patch(obj)
        if not _job(layout, "Embroidering"):
            column = layout.column(align=True)
            column.scale_y = 1.5
            if context.scene.stitchwork.style or (patch is not None and patch.style):
                column.operator("stitchwork.restyle", text="Embroider Patch", icon="PLAY")
            else:
                column.operator("stitchwork.run_all", icon="PLAY")
        if patch is None:
            return
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(patch, "relief", slider=True)
        row = layout.row(align=True)
        row.operator("stitchwork.toggle", text="Before / After", icon="ARROW_LEFTRIGHT")
        row.operator("stitchwork.revert", text="Revert", icon="LOOP_BACK")
        if patch.result_path and not patch.applied:
            layout.operator("stitchwork.apply", text="Apply Again", icon="CHECKMARK")


class STITCHWORK_PT_result(_Sidebar, bpy.types.Panel):
    bl_label = "Result"
    bl_idname = "STITCHWORK_PT_result"
    bl_order = 5

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.label(icon="RESTRICT_RENDER_OFF")

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column(align=True)
        column.operator("stitchwork.render_preview", text="Render Preview", icon="SCENE")
        column.operator("stitchwork.bake_down", text="Bake Down for Export", icon="TEXTURE")


CLASSES = (
    STITCHWORK_UL_patches,
    STITCHWORK_MT_styles,
    STITCHWORK_PT_status,
    STITCHWORK_PT_garment,
    STITCHWORK_PT_patch,
    STITCHWORK_PT_patch_place,
    STITCHWORK_PT_reference,
    STITCHWORK_PT_style,
    STITCHWORK_PT_embroider,
    STITCHWORK_PT_result,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    thumbnails.clear()
