"""What was found on a garment and where, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from ..wording import do
from .parts import garment_parts
from .patches import size_cm
from .surface import find_surfels, mesh_corners
from .view import Scenery, side_name

__all__ = ["found_artwork", "other_parts"]

_NAMED = 12


def found_artwork(obj: bpy.types.Object, patches: Sequence[Any]) -> str:
    """Each patch that was found by itself, with its size and place, and how to choose others."""
    parts = [mesh_corners(each) for each in garment_parts(obj)]
    scenery = Scenery(np.concatenate(parts))
    places = []
    for patch in patches:
        seen = find_surfels(obj, [patch])
        where = f" on the {side_name(scenery, seen)}" if seen is not None else ""
        places.append(f"{patch.name}, {size_cm(patch)}{where}")
    count = f"{len(patches)} pieces" if len(patches) > 1 else "1 piece"
    return (
        f"Found {count} of artwork: {'; '.join(places)}. "
        f"Something else is meant? {do('faces', 'everything', 'mask')}"
    )


def other_parts(obj: bpy.types.Object) -> str:
    """That the garment has further parts and how to choose one; "" if it has none."""
    names = [each.name for each in garment_parts(obj)[1:]]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"'{obj.name}' is one of the garment's {len(names) + 1} parts and the one that is "
        f"embroidered. {do('object')} There are: {', '.join(names[:_NAMED])}{more}."
    )
