"""Labels of more words than a line has room for."""

from __future__ import annotations

import textwrap

import bpy

__all__ = ["wrapped"]


def wrapped(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE"
) -> None:
    """A label over as many lines as the region's width asks for."""
    scale = context.preferences.system.ui_scale
    column = layout.column(align=True)
    column.scale_y = 0.8
    width = max(int(context.region.width / (6.4 * scale)) - 9, 18)
    for number, line in enumerate(textwrap.wrap(text, width)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")
