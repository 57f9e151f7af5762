"""Embroider the active patch in its trained style."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty

from ..link.session import Task
from ..link.tasks import active_patch, restyle_task
from ._work import busy_message, run

__all__ = ["STITCHWORK_OT_restyle"]


class STITCHWORK_OT_restyle(bpy.types.Operator):
    bl_idname = "stitchwork.restyle"
    bl_label = "Embroider"
    bl_description = "Bake the active patch, embroider it in its style and lay it on the garment"
    bl_options = {"REGISTER"}

    strength: FloatProperty(
        name="Strength", description="Share of the noise redone; 0: the profile's own", min=0, max=1
    )
    style_strength: FloatProperty(name="Style Strength", default=1.0, min=0.0, max=2.0)
    embroidery: EnumProperty(
        name="Kind",
        items=(
            ("auto", "Automatic", "As the style's reference"),
            ("flat", "Flat", "Keeps the artwork's shapes exactly"),
            ("relief", "Relief", "Lets raised threads reshape the artwork"),
        ),
    )
    steps: IntProperty(name="Steps", description="0: the profile's own", min=0, max=1000)
    seed: IntProperty(name="Seed", default=42, min=0)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        patch = active_patch(context.object)
        reason = busy_message("Embroidering")
        if not reason and patch is None:
            reason = "Select a garment and add a patch first"
        if not reason and not (patch.style or context.scene.stitchwork.style):
            reason = "Train a style, or choose a trained one"
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> set[str]:
        def make() -> Task:
            return restyle_task(
                context.scene,
                context.object,
                active_patch(context.object),
                strength=self.strength or None,
                style_strength=self.style_strength,
                embroidery=self.embroidery,
                steps=self.steps or None,
                seed=self.seed,
            )

        return run(self, make)


def register() -> None:
    bpy.utils.register_class(STITCHWORK_OT_restyle)


def unregister() -> None:
    bpy.utils.unregister_class(STITCHWORK_OT_restyle)
