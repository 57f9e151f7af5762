"""Install the backend into its own virtual environment."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty

from ..link import polling
from ..link.client import LinkError
from ..link.folders import data_folder
from ..link.install import Installer, bundled_files
from ..preferences import settings

__all__ = ["STITCHWORK_OT_backend_install"]

DIST = Path(__file__).resolve().parents[1] / "dist"


class STITCHWORK_OT_backend_install(bpy.types.Operator):
    bl_idname = "stitchwork.backend_install"
    bl_label = "Install Backend"
    bl_description = (
        "Download and install the backend into a folder of its own: 2 GB, or 6 GB with the "
        "libraries for an NVIDIA GPU"
    )

    cancel: BoolProperty(name="Cancel", default=False, options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            if self.cancel:
                polling.cancel_installation()
                return {"FINISHED"}
            if not bpy.app.online_access:
                raise LinkError(
                    "Blender's online access is off.",
                    "Allow it in Preferences, System, Network, then press Install again.",
                )
            wheel, lock = bundled_files(DIST)
            polling.disconnect()
            fresh = Installer(data_folder() / "backend", wheel, lock)
            fresh.python = settings().install_python or fresh.python
            polling.install(fresh)
        except LinkError as error:
            polling.tell(error.message, error.remedy, error=True)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_backend_install)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_backend_install)
