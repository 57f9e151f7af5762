"""Train a style from the scene's reference photo."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty, StringProperty

from ..link.folders import local_path
from ..link.session import Task
from ..link.tasks import active_patch, train_task
from ._work import busy_message, run

__all__ = ["STITCHWORK_OT_train"]


class STITCHWORK_OT_train(bpy.types.Operator):
    bl_idname = "stitchwork.train"
    bl_label = "Train Style"
    bl_description = "Learn the embroidery style of the reference photo; takes minutes"
    bl_options = {"REGISTER"}

    seed: IntProperty(name="Seed", default=42, min=0)
    steps_one: IntProperty(name="Stage-One Steps", description="0: the profile's own", min=0)
    steps_two: IntProperty(name="Stage-Two Steps", description="0: the profile's own", min=0)
    subject: StringProperty(name="Subject", description="What the photo shows")
    out: StringProperty(
        name="Style Folder", description="Empty: a new one in the library", subtype="DIR_PATH"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = busy_message("Training")
        if not reason and not context.scene.stitchwork.reference:
            reason = "Choose a reference photo first"
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> set[str]:
        def make() -> Task:
            return train_task(
                context.scene,
                active_patch(context.object),
                obj=context.object,
                out=local_path(self.out) if self.out else None,
                seed=self.seed,
                steps_one=self.steps_one or None,
                steps_two=self.steps_two or None,
                subject=self.subject or None,
            )

        return run(self, make)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_train)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_train)
