"""What the operators that work on the garment itself have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from ..garment import patches
from ..garment.errors import GarmentError
from ..link.client import LinkError

__all__ = ["PatchVerb", "attempt", "has_applied", "has_patch"]


def attempt(operator: bpy.types.Operator, work: Callable[[], str]) -> set[str]:
    """Do the work and report its message; a failure is reported with its remedy and cancels.

    Args:
        work: returns what was done, in words; "" if nothing changed.
    """
    try:
        message = work()
    except (GarmentError, LinkError) as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    if not message:
        return {"CANCELLED"}
    operator.report({"INFO"}, message)
    return {"FINISHED"}


def has_patch(cls: Any, context: bpy.types.Context) -> bool:
    """Poll: the active object is a mesh with a patch."""
    obj = context.object
    if obj is None or obj.type != "MESH":
        cls.poll_message_set("Select a garment (a mesh)")
        return False
    if not obj.stitchwork.patches:
        cls.poll_message_set("Find artwork or add a patch first")
        return False
    return True


def has_applied(cls: Any, context: bpy.types.Context) -> bool:
    """Poll: the active object carries embroidery."""
    if not has_patch(cls, context):
        return False
    if not any(each.applied for each in context.object.stitchwork.patches):
        cls.poll_message_set("Embroider a patch first")
        return False
    return True


class PatchVerb:
    """What operators on the active patch share: subclasses say only what they do to it."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_patch(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        operator: Any = self
        obj = context.object
        return attempt(operator, lambda: self.work(obj, patches.active_patch(obj)))

    def work(self, obj: bpy.types.Object, patch: Any) -> str:
        """Do it and return what was done, in words; a GarmentError is reported."""
        raise TypeError(f"{type(self).__name__} does not say what it does to {patch.name}.")
