"""Makes tshirt.blend: `python -m blender_addon.samples.tshirt [FILE]` with Blender's Python.

Pattern pieces are sewn and draped (sewing.py), the print (artwork.py) is drawn into a base colour
texture laid out as the pattern, and both are saved packed and compressed. Takes about a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from ..garment.emission import new_material
from . import TSHIRT_BLEND, TSHIRT_NAME
from .artwork import COLOURS, Layer, bird, sprig
from .drawing import Canvas, Floats, hex_colour
from .pattern import CM_PER_UV, PIECES, RIB_HEIGHT, uv_offset
from .sewing import Garment, sew

__all__ = ["CHEST_PRINT", "SLEEVE_PRINT", "TEXTURE_SIZE", "build", "print_rect"]

Pixels = NDArray[np.float32]

TEXTURE_SIZE = 2048
CLOTH = hex_colour("#557085")
CHEST_PRINT = ("front", (0.0, 44.5), 24.5)
"""Piece, centre in its pattern coordinates and side of the square box, cm."""
SLEEVE_PRINT = ("sleeve_left", (-5.2, 7.4), 9.0)


def print_rect(where: tuple[str, tuple[float, float], float]) -> tuple[float, float, float, float]:
    """UV rectangle (u0, v0, u1, v1) of a print."""
    piece, centre, side = where
    middle = uv_offset(piece) + centre
    low, high = (middle - side / 2) / CM_PER_UV, (middle + side / 2) / CM_PER_UV
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def texture() -> Pixels:
    """The base colour, (S, S, 3) sRGB values, first row on top (v = 1)."""
    pixels: Pixels = np.empty((TEXTURE_SIZE, TEXTURE_SIZE, 3), dtype=np.float32)
    pixels[:] = CLOTH
    _paint_rib(pixels)
    for name in ("front", "back", "sleeve_left", "sleeve_right"):
        _paint_topstitching(pixels, name)
    _print(pixels, CHEST_PRINT, bird())
    _print(pixels, SLEEVE_PRINT, sprig())
    return pixels


def _print(
    pixels: Pixels, where: tuple[str, tuple[float, float], float], layers: list[Layer]
) -> None:
    u0, _, u1, v1 = (value * TEXTURE_SIZE for value in print_rect(where))
    column, row = round(u0), round(TEXTURE_SIZE - v1)
    side = round(u1 - u0)
    canvas = Canvas(side, side, CLOTH)
    for colour, polygons in layers:
        canvas.fill(polygons, COLOURS[colour], side / 100.0)
    pixels[row : row + side, column : column + side] = canvas.picture()


def _piece_grid(name: str) -> tuple[Floats, Floats]:
    """Pattern x of every texture column and y of every row, cm."""
    steps = (np.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE * CM_PER_UV
    origin = uv_offset(name)
    return steps - origin[0], steps[::-1] - origin[1]


def _paint_rib(pixels: Pixels) -> None:
    x, y = _piece_grid("rib")
    rows = (y > -0.4) & (y < RIB_HEIGHT + 0.6)
    shade = 0.93 + 0.07 * np.cos(2 * np.pi * x / 0.34)
    pixels[rows] = CLOTH * shade[None, :, None]


def _paint_topstitching(pixels: Pixels, name: str) -> None:
    """The twin row of stitches that holds a hem."""
    x, y = _piece_grid(name)
    low, high = PIECES[name].outline.min(axis=0), PIECES[name].outline.max(axis=0)
    columns = (x > low[0]) & (x < high[0])
    for height in (2.0, 2.5):
        row = int(np.argmin(np.abs(y - height)))
        pixels[row, columns & ((x % 0.36) < 0.27)] = CLOTH * 0.74


def _mesh(garment: Garment) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new(TSHIRT_NAME)
    mesh.from_pydata((garment.points / 100.0).tolist(), [], garment.faces.tolist())
    layer = mesh.uv_layers.new(name="UVMap")
    layer.uv.foreach_set("vector", garment.uvs.reshape(-1).astype(np.float32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
    mesh.update()
    if mesh.validate():
        raise ValueError("the sewn mesh is not sound: two faces coincide")
    return mesh


def _image(pixels: Pixels) -> bpy.types.Image:
    size = pixels.shape[0]
    image = bpy.data.images.new("T-shirt base colour", size, size, alpha=False)
    rgba = np.ones((size, size, 4), dtype=np.float32)
    rgba[..., :3] = pixels[::-1]
    image.pixels.foreach_set(rgba.reshape(-1))
    image.update()
    image.pack()
    return image


def _material(image: bpy.types.Image) -> bpy.types.Material:
    """Cotton jersey: matt, a little sheen, and the knit's wales and courses as bump."""
    material = new_material("Cotton jersey")
    tree = material.node_tree
    shader = tree.nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = 0.86
    shader.inputs["Specular IOR Level"].default_value = 0.25
    shader.inputs["Sheen Weight"].default_value = 0.12
    shader.inputs["Sheen Roughness"].default_value = 0.5
    shader.location = (300, 0)
    picture = tree.nodes.new("ShaderNodeTexImage")
    picture.image = image
    picture.extension = "EXTEND"
    picture.location = (-320, 200)
    tree.links.new(picture.outputs["Color"], shader.inputs["Base Color"])
    coordinates = tree.nodes.new("ShaderNodeUVMap")
    coordinates.uv_map = "UVMap"
    coordinates.location = (-900, -260)
    product = tree.nodes.new("ShaderNodeMath")
    product.operation = "MULTIPLY"
    product.location = (-80, -260)
    for index, (direction, period) in enumerate((("X", 0.085), ("Y", 0.07))):
        wave = tree.nodes.new("ShaderNodeTexWave")
        wave.bands_direction = direction
        # Blender's wave has a period of pi / (10 scale) along its axis.
        wave.inputs["Scale"].default_value = np.pi / 10 / period * CM_PER_UV
        wave.location = (-500, -160 - 300 * index)
        tree.links.new(coordinates.outputs["UV"], wave.inputs["Vector"])
        tree.links.new(wave.outputs["Fac"], product.inputs[index])
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.35
    bump.inputs["Distance"].default_value = 0.0004
    bump.location = (100, -260)
    tree.links.new(product.outputs[0], bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], shader.inputs["Normal"])
    return material


def build(file: Path = TSHIRT_BLEND, seconds: float = 2.4) -> bpy.types.Object:
    """Make the T-shirt in an empty Blender and save it; replaces what is open there.

    `seconds` is the simulated time of the drape.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    garment = sew(seconds)
    mesh = _mesh(garment)
    mesh.materials.append(_material(_image(texture())))
    shirt = bpy.data.objects.new(TSHIRT_NAME, mesh)
    bpy.context.scene.collection.objects.link(shirt)
    bpy.context.view_layer.objects.active = shirt
    shirt.select_set(True)
    bpy.context.preferences.filepaths.save_version = 0
    bpy.ops.wm.save_as_mainfile(filepath=str(file), compress=True, relative_remap=False)
    return shirt


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TSHIRT_BLEND
    build(target)
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
