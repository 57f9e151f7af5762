"""Delete the active patch."""

from __future__ import annotations

from typing import Any

import bpy

from ..garment import apply, patches
from ._verb import PatchVerb

__all__ = ["STITCHWORK_OT_patch_remove"]


class STITCHWORK_OT_patch_remove(PatchVerb, bpy.types.Operator):
    bl_idname = "stitchwork.patch_remove"
    bl_label = "Remove Patch"
    bl_description = "Take the active patch off the garment and delete it"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, obj: bpy.types.Object, patch: Any) -> str:
        name = patch.name
        apply.revert(obj, patch)
        patches.remove_patch(obj, list(obj.stitchwork.patches).index(patch))
        return f"{name} is removed"


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_patch_remove)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_patch_remove)
