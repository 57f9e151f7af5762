"""Train if needed, then bake, embroider and apply: the whole job with one press."""

from __future__ import annotations

from typing import Any

import bpy

from ..link import polling
from ..link.client import LinkError
from ..link.session import Task
from ..link.tasks import active_patch, restyle_task, train_task
from ._work import run

__all__ = ["STITCHWORK_OT_run_all"]


class STITCHWORK_OT_run_all(bpy.types.Operator):
    bl_idname = "stitchwork.run_all"
    bl_label = "Train and Embroider"
    bl_description = "Train the style if the patch has none, then embroider the patch with it"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        patch, shown = active_patch(context.object), context.scene.stitchwork
        reason = ""
        if polling.session.tasks:
            reason = "A job is under way already"
        elif patch is None:
            reason = "Select a garment and add a patch first"
        elif not (patch.style or shown.style or shown.reference):
            reason = "Choose a reference photo first"
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene, obj, patch = context.scene, context.object, active_patch(context.object)

        def embroider() -> Task:
            return restyle_task(scene, obj, active_patch(obj))

        if patch.style or scene.stitchwork.style:
            return run(self, embroider)
        if not bpy.app.background:
            return run(self, lambda: train_task(scene, patch, obj=obj, then=_embroider))
        done = run(self, lambda: train_task(scene, patch, obj=obj))
        return run(self, embroider) if done == {"FINISHED"} else done


def _embroider(obj: bpy.types.Object, patch: Any) -> None:
    """Called from the timer when the training has ended."""
    scene = next((each for each in bpy.data.scenes if obj.name in each.objects), None)
    if scene is None:
        raise LinkError(f"The style is trained, but {obj.name} is in no scene.")
    polling.start_task(restyle_task(scene, obj, patch))


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_run_all)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_run_all)
