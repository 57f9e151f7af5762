"""Stop the backend."""

from __future__ import annotations

import bpy

from ..link import polling
from ..link.session import Phase

__all__ = ["STITCHWORK_OT_backend_stop"]


class STITCHWORK_OT_backend_stop(bpy.types.Operator):
    bl_idname = "stitchwork.backend_stop"
    bl_label = "Stop Backend"
    bl_description = "Stop the backend and what it works on; a training goes on from its last step"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        running = polling.session.phase in (Phase.READY, Phase.STARTING)
        if not running:
            cls.poll_message_set("The backend is not running")
        return running

    def execute(self, context: bpy.types.Context) -> set[str]:
        polling.disconnect()
        return {"FINISHED"}


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_backend_stop)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_backend_stop)
