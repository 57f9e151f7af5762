"""Start the backend, or attach to the running one that the preferences name."""

from __future__ import annotations

import bpy

from ..link import polling
from ..link.client import LinkError
from ..link.session import Phase
from ..preferences import connect

__all__ = ["STITCHWORK_OT_backend_start"]


class STITCHWORK_OT_backend_start(bpy.types.Operator):
    bl_idname = "stitchwork.backend_start"
    bl_label = "Start Backend"
    bl_description = "Start the program that trains and embroiders; it ends with Blender"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        running = polling.session.phase in (Phase.READY, Phase.STARTING)
        if running:
            cls.poll_message_set("The backend is running")
        return not running

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            connect()
        except LinkError as error:
            polling.tell(error.message, error.remedy, error=True)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        polling.tell("")
        return {"FINISHED"}


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_backend_start)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_backend_start)
