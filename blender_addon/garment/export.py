"""Merging embroidery and cloth into ordinary textures that any program can show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from . import apply, bake, pixels, uv
from .errors import GarmentError

__all__ = ["Merged", "bake_down"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What `bake_down` made; images are in the .blend file and at their `filepath_raw`.

    Attributes:
        colour: base colour.
        normals: tangent-space normals of relief and cloth; None where no patch has relief.
    """

    colour: bpy.types.Image
    normals: bpy.types.Image | None

    @property
    def words(self) -> str:
        """What it is and where, for the user."""
        said = f"Image '{self.colour.name}' is in {self.colour.filepath_raw}"
        if self.normals is None:
            return f"{said} (no patch has relief)"
        return f"{said}, its relief as a normal map in {self.normals.filepath_raw}"


def bake_down(obj: bpy.types.Object, path: Path, side: int, layer_name: str = "") -> Merged:
    """Merge all applied patches of a UV layer and the cloth into ordinary textures.

    The relief goes, with the cloth's own bumps, into a second texture, a tangent-space normal map
    beside the first: NAME-normal.png. Gloss stays in the material.

    Args:
        path: PNG to write.
        side: width and height in pixels.

    Raises:
        GarmentError: no patch is applied, or a file cannot be written.
    """
    uv.require_mesh(obj)
    layer = uv.require_layer(obj, layer_name).name
    garment = obj.stitchwork
    applied = [each for each in garment.patches if each.applied]
    if not applied:
        raise GarmentError(f"No patch is applied to '{obj.name}'.", "Apply a patch first.")
    shown = garment.shown
    normals = None
    try:
        apply.show(obj, True)
        colour = bake.bake_colour(obj, layer, (0.0, 0.0, 1.0, 1.0), side, side, original=False)
        if any(each.relief > 0 for each in applied):
            normals = bake.bake_normals(obj, layer, side, side)
    finally:
        apply.show(obj, shown)
    name, beside = f"{obj.name} embroidered", path.with_stem(f"{path.stem}-normal")
    # Both files before either image: a failure leaves nothing in the .blend file.
    _write(path, colour, colour=True)
    if normals is None:
        return Merged(_image(name, path, colour, colour=True), None)
    _write(beside, normals, colour=False)
    return Merged(
        _image(name, path, colour, colour=True),
        _image(f"{name} normal", beside, normals, colour=False),
    )


def _write(path: Path, rgba: np.ndarray, *, colour: bool) -> None:
    # An ordinary texture is opaque; it runs on past the islands.
    rgba[..., 3] = 255
    pixels.write_png(path, rgba[..., :3], colour=colour)


def _image(name: str, path: Path, rgba: np.ndarray, *, colour: bool) -> bpy.types.Image:
    image = pixels.to_image(name, rgba, colour=colour)
    image.filepath_raw = str(path)
    return image
