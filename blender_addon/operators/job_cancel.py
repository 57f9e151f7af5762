"""Cancel a job that the backend works on or that waits."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty

from ..link import polling
from ..link.client import LinkError

__all__ = ["STITCHWORK_OT_job_cancel"]


class STITCHWORK_OT_job_cancel(bpy.types.Operator):
    bl_idname = "stitchwork.job_cancel"
    bl_label = "Cancel"
    bl_description = "Stop this job; nothing on the garment is changed"

    index: IntProperty(name="Job", default=0, min=0, options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not polling.session.tasks:
            cls.poll_message_set("No job is under way")
        return bool(polling.session.tasks)

    def execute(self, context: bpy.types.Context) -> set[str]:
        tasks = polling.session.tasks
        if self.index >= len(tasks):
            self.report({"INFO"}, "That job has ended already.")
            return {"CANCELLED"}
        try:
            polling.session.cancel(tasks[self.index])
        except LinkError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        polling.watch()
        return {"FINISHED"}


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_job_cancel)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_job_cancel)
