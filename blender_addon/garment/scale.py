"""How large a garment is in reality: as typed, as its file says, or in the unit that fits it."""

from __future__ import annotations

import bpy
import numpy as np

from ..wording import do
from .parts import cut_from_same_cloth

__all__ = ["assumed", "millimetres"]

# Nothing that is sewn is longer; what seems to be is modelled in another unit than metres.
_LONGEST = 4.0
# Arms stretched out, the largest garments are as wide as their wearer is tall.
_USUAL = 2.0
_UNITS = {"decimetres": 0.1, "centimetres": 0.01, "millimetres": 0.001}


def millimetres(obj: bpy.types.Object) -> float:
    """Millimetres per Blender unit.

    From the typed real height; else from the scene's units; where those would make the garment
    larger than any is, from the unit that fits.
    """
    real, size = obj.stitchwork.real_height_cm, _size(obj)
    if real > 0 and _tallest(size) > 0:
        return real * 10.0 / _tallest(size)
    return _metres() * _UNITS.get(_unit(size), 1.0) * 1000.0


def assumed(obj: bpy.types.Object) -> str:
    """What is taken for the garment's unit because its file cannot be right; "" if nothing is."""
    if obj.stitchwork.real_height_cm > 0:
        return ""
    size = _size(obj)
    unit = _unit(size)
    if not unit:
        return ""
    tall = _tallest(size) * _metres()
    return (
        f"The file says {tall:.1f} m tall: taken for {unit}, {tall * _UNITS[unit] * 100:.0f} cm. "
        f"Is that wrong? {do('height')}"
    )


def _unit(size: np.ndarray) -> str:
    """The name of the unit that fits where metres do not; "" where they do."""
    longest = float(size.max()) * _metres()
    if longest <= _LONGEST:
        return ""
    return next((name for name, unit in _UNITS.items() if longest * unit <= _USUAL), "")


def _size(obj: bpy.types.Object) -> np.ndarray:
    """(3,) Blender units."""
    boxes = [
        np.array(each.bound_box) @ np.array(each.matrix_world)[:3, :3].T
        + np.array(each.matrix_world.translation)
        for each in cut_from_same_cloth(obj)
    ]
    return np.asarray(np.ptp(np.concatenate(boxes), axis=0))


def _tallest(size: np.ndarray) -> float:
    # A garment stands along z or lies along y; x is its width, which sleeves may make larger.
    return float(size[1:].max())


def _metres() -> float:
    return float(bpy.context.scene.unit_settings.scale_length)
