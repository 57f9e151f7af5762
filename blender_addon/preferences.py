"""The add-on's preferences: which backend, installing it, and starting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
from bpy.props import FloatProperty, StringProperty

from .link import polling
from .link.client import LinkError
from .link.folders import ADDON, data_folder
from .link.locate import VARIABLE, find_backend
from .link.session import Phase
from .wrapping import wrapped

__all__ = ["Settings", "StitchworkPreferences", "connect", "settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The preferences that matter to jobs, also where no preferences exist (plain `bpy`)."""

    backend_python: str = ""
    attach_url: str = ""
    attach_token: str = ""
    install_python: str = ""
    quota_gb: float = 0.0

    def found(self) -> bool:
        """Whether a backend can be started or attached to."""
        if self.attach_url:
            return True
        try:
            find_backend(self.backend_python, data_folder() / "backend")
        except LinkError:
            return False
        return True


def settings() -> Settings:
    """The user's preferences, or their defaults if the add-on was not enabled through Blender."""
    addon = bpy.context.preferences.addons.get(ADDON)
    values: Any = addon.preferences if addon else None
    if values is None:
        return Settings()
    return Settings(
        values.backend_python,
        values.attach_url.strip(),
        values.attach_token.strip(),
        bpy.path.abspath(values.install_python.strip()),
        values.quota_gb,
    )


def connect() -> None:
    """Start or attach to the backend that the preferences name; raises a LinkError."""
    chosen = settings()
    polling.connect(
        python=chosen.backend_python,
        url=chosen.attach_url,
        token=chosen.attach_token,
        quota_gb=chosen.quota_gb,
    )


def draw_installation(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The Install button, or the progress of an installation."""
    installer = polling.installer()
    if installer is not None and not installer.done:
        row = layout.row(align=True)
        row.progress(factor=installer.progress, text=f"Installing · {installer.progress:.0%}")
        row.operator("stitchwork.backend_install", text="", icon="X").cancel = True
        wrapped(layout, context, f"{installer.message} …", "IMPORT")
        return
    try:
        found = find_backend(settings().backend_python, data_folder() / "backend")
        words, icon, button = f"Backend found: {found.origin}", "CHECKMARK", "Reinstall"
    except LinkError as error:
        words, icon, button = error.message, "ERROR", "Install"
    wrapped(layout, context, words, icon)
    layout.operator("stitchwork.backend_install", text=button, icon="IMPORT")
    if button == "Install" and not bpy.app.online_access:
        layout.label(text="Needs online access (System › Network)", icon="INTERNET_OFFLINE")


class StitchworkPreferences(bpy.types.AddonPreferences):
    bl_idname = ADDON

    backend_python: StringProperty(
        name="Backend Python",
        description=f"Python, or folder of a virtual environment, that has the backend; empty: the "
        f"one that Install built. The variable {VARIABLE} goes before it",
        subtype="FILE_PATH",
    )
    install_python: StringProperty(
        name="Python for Install",
        description="Python 3.11 or later that Install makes the backend's environment with; "
        "empty: Blender's own. Needed where that has no ensurepip, as in Debian's Blender",
        subtype="FILE_PATH",
    )
    quota_gb: FloatProperty(
        name="Disk Quota (GB)",
        description="Most disk that styles and pictures may take; a job that might need more is "
        "refused, and nothing is deleted by itself. 0: no limit. Counts when the backend starts",
        default=0.0,
        min=0.0,
        soft_max=1000.0,
        precision=1,
    )
    attach_url: StringProperty(
        name="Address",
        description="Use a backend that runs already, such as http://127.0.0.1:41234; "
        "empty: start one",
    )
    attach_token: StringProperty(
        name="Token",
        description="The token that the running backend announced",
        subtype="PASSWORD",
        options={"SKIP_SAVE"},
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        box = layout.box()
        box.label(text="Backend", icon="SYSTEM")
        draw_installation(box, context)
        notice = polling.notice
        if notice.text:
            wrapped(box, context, notice.text, "ERROR" if notice.error else "INFO")
            if notice.remedy:
                wrapped(box, context, notice.remedy, "FORWARD")
        column = box.column(align=True)
        column.prop(self, "install_python")
        column.prop(self, "backend_python")
        column.prop(self, "quota_gb")
        column = box.column(align=True, heading="Already running")
        column.prop(self, "attach_url")
        column.prop(self, "attach_token")
        row = box.row()
        if polling.session.phase in (Phase.READY, Phase.STARTING):
            row.operator("stitchwork.backend_stop", icon="PAUSE")
        else:
            row.operator("stitchwork.backend_start", icon="PLAY")
        row.operator("wm.path_open", text="Open Log", icon="TEXT").filepath = str(
            polling.newest_log()
        )
        row.operator("wm.path_open", text="Open Folder", icon="FILE_FOLDER").filepath = str(
            data_folder()
        )


def register() -> None:
    bpy.utils.register_class(StitchworkPreferences)


def unregister() -> None:
    bpy.utils.unregister_class(StitchworkPreferences)
