"""Patches merged into ordinary textures: colours as they are shown, relief as a normal map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from garments import WHOLE, cloth, fingerprint, material, print_on_cloth

from blender_addon.garment import apply, bake, export, patches, pixels
from blender_addon.garment.errors import GarmentError

pytestmark = pytest.mark.usefixtures("scene")
SIDE = 128
PERIOD = 8


def sewn(tmp_path: Path, relief: float) -> tuple[bpy.types.Object, Any]:
    """Cloth with upright threads on its lower left quarter."""
    obj = cloth([material("a", print_on_cloth(64))])
    patch = patches.add_patch(obj, rect=(0.0, 0.0, 0.5, 0.5), chosen="ALL")
    patch.relief, patch.exaggeration = relief, 8.0
    threads = np.full((SIDE, SIDE, 4), 255, np.uint8)
    ridges = np.cos(2 * np.pi * (np.arange(SIDE) + 0.5) / (2 * PERIOD))
    threads[..., 1] = 150 + 100 * ridges
    path = tmp_path / "threads.png"
    pixels.write_png(path, threads)
    apply.apply_patch(obj, patch, path)
    return obj, patch


def shown_normals(obj: bpy.types.Object) -> np.ndarray:
    return bake.bake_normals(obj, "UVMap", SIDE, SIDE)[..., :3].astype(int)


def test_colours_are_merged_and_nothing_of_the_garment_changes(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    with pytest.raises(GarmentError, match="No patch is applied"):
        export.bake_down(obj, tmp_path / "down.png", SIDE)
    bpy.data.objects.remove(obj)
    obj, _ = sewn(tmp_path, 0.0)
    shown = bake.bake_colour(obj, "UVMap", WHOLE, SIDE, SIDE, original=False)[..., :3]
    before = fingerprint()
    apply.show(obj, False)
    merged = export.bake_down(obj, tmp_path / "down.png", SIDE)
    assert not obj.stitchwork.shown
    apply.show(obj, True)
    assert (pixels.read(tmp_path / "down.png")[..., :3] == shown).all()
    assert (pixels.from_image(merged.colour)[..., :3] == shown).all()
    assert merged.normals is None
    assert [each.name for each in tmp_path.glob("down*")] == ["down.png"]
    bpy.data.images.remove(merged.colour)
    assert fingerprint() == before


def test_threads_rise_in_the_normal_map_and_cloth_beside_them_stays_flat(tmp_path: Path) -> None:
    obj, _ = sewn(tmp_path, 1.0)
    before = fingerprint()
    merged = export.bake_down(obj, tmp_path / "down.png", SIDE)
    assert str(tmp_path / "down-normal.png") in merged.words
    normals = pixels.read(tmp_path / "down-normal.png")[..., :3].astype(int) - 128
    flat = normals[: SIDE // 2 - 2]
    assert np.abs(flat[..., :2]).max() <= 1
    assert flat[..., 2].min() >= 126
    threads = normals[SIDE // 2 + 4 : -4, 4 : SIDE // 2 - 4]
    across, along = threads[..., 0], threads[..., 1]
    assert np.abs(along).max() <= 4 < 20 < across.max()
    # Where the surface rises to the right, its normal leans to the left.
    slope = np.sin(2 * np.pi * (np.arange(4, SIDE // 2 - 4) + 0.5) / PERIOD)
    assert np.corrcoef(across.mean(0), slope)[0, 1] > 0.9
    for each in (merged.colour, merged.normals):
        bpy.data.images.remove(each)
    assert fingerprint() == before


def test_an_ordinary_material_shows_the_same_surface(tmp_path: Path) -> None:
    obj, _ = sewn(tmp_path, 1.0)
    merged = export.bake_down(obj, tmp_path / "down.png", SIDE)
    as_sewn = shown_normals(obj)
    apply.revert(obj)
    assert np.abs(shown_normals(obj) - as_sewn).max() > 20
    plain = material("plain")
    tree = plain.node_tree
    texture, normal = (tree.nodes.new(f"ShaderNode{each}") for each in ("TexImage", "NormalMap"))
    texture.image = merged.normals
    tree.links.new(texture.outputs["Color"], normal.inputs["Color"])
    shader = next(each for each in tree.nodes if each.type == "BSDF_PRINCIPLED")
    tree.links.new(normal.outputs["Normal"], shader.inputs["Normal"])
    obj.material_slots[0].material = plain
    # Cycles averages a pixel's samples, which reach into its neighbours.
    difference = np.abs(shown_normals(obj) - as_sewn)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 10


def test_a_normal_map_that_cannot_be_written_is_said_and_makes_no_image(tmp_path: Path) -> None:
    obj, _ = sewn(tmp_path, 1.0)
    before = fingerprint()
    (tmp_path / "down-normal.png").mkdir()
    with pytest.raises(GarmentError, match=r"down-normal\.png cannot be written"):
        export.bake_down(obj, tmp_path / "down.png", SIDE)
    assert fingerprint() == before
