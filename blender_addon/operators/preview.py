"""A first look at the active patch within seconds, without training."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty

from ..garment.region import words
from ..link.tasks import active_patch, preview_task
from ..wording import do
from ._work import busy_message, run

__all__ = ["STITCHWORK_OT_preview"]


class STITCHWORK_OT_preview(bpy.types.Operator):
    bl_idname = "stitchwork.preview"
    bl_label = "First Look"
    bl_description = "Carry the reference photo's thread detail onto the patch; takes seconds"
    bl_options = {"REGISTER"}

    seed: IntProperty(name="Seed", default=42, min=0)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        patch = active_patch(context.object)
        reason = busy_message("First look")
        if not reason and patch is None:
            reason = "Select a garment and add a patch first"
        if not reason and words(patch):
            reason = f"A first look cannot draw words. {do('train', 'no_words')}"
        if not reason and not context.scene.stitchwork.reference:
            reason = "Choose a reference photo first"
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> set[str]:
        patch = active_patch(context.object)
        return run(self, lambda: preview_task(context.scene, context.object, patch, seed=self.seed))


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_preview)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_preview)
