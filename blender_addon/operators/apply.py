"""Lay the last result over the active patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty

from ..garment import apply
from ..garment.errors import GarmentError
from ._verb import PatchVerb

__all__ = ["STITCHWORK_OT_apply"]


class STITCHWORK_OT_apply(PatchVerb, bpy.types.Operator):
    bl_idname = "stitchwork.apply"
    bl_label = "Apply"
    bl_description = (
        "Lay the embroidered picture over the active patch; nothing of the garment is overwritten"
    )
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(
        name="Picture",
        description="Embroidered picture; empty: the patch's last result",
        subtype="FILE_PATH",
    )

    def work(self, obj: bpy.types.Object, patch: Any) -> str:
        path = self.filepath or patch.result_path
        if not path:
            raise GarmentError(
                f"Patch '{patch.name}' has no embroidered picture.", "Embroider it first."
            )
        apply.apply_patch(obj, patch, Path(bpy.path.abspath(path)))
        return f"{patch.name} is applied"


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_apply)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_apply)
