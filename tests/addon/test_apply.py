"""Laying embroidery over a garment and taking it off: exact, local, and undone by one undo."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from garments import WHOLE, cloth, fingerprint, material, noise, print_on_cloth

from blender_addon.garment import apply, bake, patches, pixels, render
from blender_addon.garment.errors import GarmentError

pytestmark = pytest.mark.usefixtures("scene")
GREEN = (0, 200, 0)


@pytest.fixture
def green(tmp_path: Path) -> Path:
    """An all-green picture of 32 pixels, opaque."""
    path = tmp_path / "green.png"
    pixels.write_png(path, np.full((32, 32, 4), (*GREEN, 255), np.uint8))
    return path


def colour(obj: bpy.types.Object, side: int = 64) -> np.ndarray:
    """The garment's base colour as it is shown now."""
    return bake.bake_colour(obj, "UVMap", WHOLE, side, side, original=False)[..., :3].astype(int)


def patch_at(obj: bpy.types.Object, *rect: float) -> object:
    return patches.add_patch(obj, rect=rect or WHOLE, chosen="ALL")


def test_apply_changes_the_rectangle_and_nothing_else(green: Path) -> None:
    obj = cloth([material("a", noise(64, 64))])
    before = colour(obj)
    apply.apply_patch(obj, patch_at(obj, 0.25, 0.25, 0.75, 0.5), green)
    after = colour(obj)
    inside = np.zeros((64, 64), bool)
    inside[32:48, 16:48] = True
    # The rectangle's border may touch a pixel's sum in its last digits.
    assert np.abs(after[~inside] - before[~inside]).max() <= 3
    assert np.abs(after[33:47, 17:47] - GREEN).max() <= 1


def test_only_the_masked_region_is_covered(green: Path, tmp_path: Path) -> None:
    obj = cloth([material("a", noise(64, 64))])
    before = colour(obj)
    patch = patch_at(obj)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 4:20] = 255
    pixels.write_png(tmp_path / "mask.png", mask)
    patch.mask_path = str(tmp_path / "mask.png")
    apply.apply_patch(obj, patch, green)
    after = colour(obj)
    changed = (after != before).any(-1)
    assert not changed[:15].any()
    assert not changed[33:].any()
    assert np.abs(after[20:28, 12:36] - GREEN).max() <= 1


def test_thread_covers_constant_metallic_missing_and_unknown_materials(green: Path) -> None:
    squares = [(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)]
    hair = material("hair")
    tree = hair.node_tree
    output = next(each for each in tree.nodes if each.type == "OUTPUT_MATERIAL")
    odd = tree.nodes.new("ShaderNodeBsdfHairPrincipled")
    tree.links.new(odd.outputs[0], output.inputs["Surface"])
    metal = material("metal", colour=(0.5, 0.2, 0.1, 1.0), metallic=1.0)
    obj = cloth([material("a", colour=(1, 0, 0, 1)), metal, None, hair], squares=squares)
    before = fingerprint()
    apply.apply_patch(obj, patch_at(obj), green)
    after = colour(obj)
    for rows, columns in ((0, 0), (0, 1), (1, 0)):
        part = after[rows * 32 + 1 : rows * 32 + 31, columns * 32 + 1 : columns * 32 + 31]
        if (rows, columns) != (0, 1):
            assert np.abs(part - GREEN).max() <= 1
    laid = obj.material_slots[3].material.node_tree
    output = next(each for each in laid.nodes if each.type == "OUTPUT_MATERIAL")
    assert output.inputs["Surface"].links[0].from_node.type == "MIX_SHADER"
    apply.revert(obj)
    obj.stitchwork.patches.clear()
    assert fingerprint() == before


def test_no_material_at_all(green: Path) -> None:
    obj = cloth([])
    before = fingerprint()
    apply.apply_patch(obj, patch_at(obj), green)
    assert np.abs(colour(obj)[1:-1, 1:-1] - GREEN).max() <= 1
    apply.revert(obj)
    assert fingerprint() == before


@pytest.mark.parametrize("link", ["DATA", "OBJECT"])
def test_revert_restores_everything(green: Path, link: str) -> None:
    made = material("a", print_on_cloth(64))
    tree = made.node_tree
    shader = next(each for each in tree.nodes if each.type == "BSDF_PRINCIPLED")
    normal = tree.nodes.new("ShaderNodeNormalMap")
    tree.links.new(normal.outputs[0], shader.inputs["Normal"])
    made["note"] = 5
    obj = cloth(
        [made, material("b", colour=(0, 0, 1, 1))], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 1)]
    )
    obj.material_slots[0].link = link
    obj.material_slots[0].material = made
    before = fingerprint()
    one, two = patch_at(obj, 0, 0, 0.8, 0.8), patch_at(obj, 0.2, 0.2, 1, 1)
    apply.apply_patch(obj, obj.stitchwork.patches[0], green)
    only_first = colour(obj)
    apply.apply_patch(obj, obj.stitchwork.patches[1], green)
    assert (colour(obj) != only_first).any()
    # Taking off the upper one gives what was before it, the lower one then everything.
    assert apply.revert(obj, obj.stitchwork.patches[1])
    assert (colour(obj) == only_first).all()
    assert apply.revert(obj)
    assert not apply.revert(obj)
    assert fingerprint() == before
    assert one is not two


def test_lower_patch_can_be_taken_off_first(green: Path) -> None:
    obj = cloth([material("a", colour=(0.2, 0.4, 0.6, 1))])
    before, plain = fingerprint(), colour(obj)
    patch_at(obj, 0, 0, 0.5, 1)
    patch_at(obj, 0.5, 0, 1, 1)
    first, second = obj.stitchwork.patches
    apply.apply_patch(obj, first, green)
    apply.apply_patch(obj, second, green)
    apply.revert(obj, first)
    after = colour(obj)
    assert (after[:, :31] == plain[:, :31]).all()
    assert np.abs(after[1:-1, 33:63] - GREEN).max() <= 1
    apply.revert(obj, second)
    assert fingerprint() == before


def test_apply_twice_replaces(green: Path, tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    patch = patch_at(obj)
    apply.apply_patch(obj, patch, green)
    blue = tmp_path / "blue.png"
    pixels.write_png(blue, np.full((32, 32, 4), (0, 0, 200, 255), np.uint8))
    apply.apply_patch(obj, patch, blue)
    assert np.abs(colour(obj)[1:-1, 1:-1] - (0, 0, 200)).max() <= 1
    assert len(bpy.data.node_groups) == 1
    assert len(bpy.data.images) == 3


def test_shared_material_and_shared_mesh_do_not_leak(green: Path) -> None:
    shared = material("shared", print_on_cloth(64))
    obj = cloth([shared])
    stranger = cloth([shared], name="Stranger")
    twin = obj.copy()
    twin.name = "Twin"
    bpy.context.scene.collection.objects.link(twin)
    bpy.context.view_layer.update()
    apply.apply_patch(obj, patch_at(obj), green)
    assert np.abs(colour(obj)[1:-1, 1:-1] - GREEN).max() <= 1
    for other in (stranger, twin):
        assert np.abs(colour(other) - print_on_cloth(64)[..., :3]).max() <= 1


def test_reverting_a_duplicate_leaves_the_first_embroidered(green: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    apply.apply_patch(obj, patch_at(obj), green)
    twin = obj.copy()
    bpy.context.scene.collection.objects.link(twin)
    bpy.context.view_layer.update()
    shown = colour(obj)
    apply.revert(twin)
    assert (colour(obj) == shown).all()
    assert np.abs(colour(twin) - print_on_cloth(64)[..., :3]).max() <= 1
    apply.revert(obj)
    assert not bpy.data.node_groups
    assert [each.name for each in bpy.data.materials] == ["a"]


def test_a_render_shows_the_embroidery(green: Path, tmp_path: Path) -> None:
    obj = cloth([material("a", colour=(0.8, 0.0, 0.0, 1))])
    patch = patch_at(obj)
    apply.apply_patch(obj, patch, green)
    for shown in (True, False):
        apply.show(obj, shown)
        path = tmp_path / "near.png"
        render.render_garment(obj, path, view="closeup", size=32, samples=1, threads=1)
        red, green_ = pixels.read(path)[16, 16, :2].astype(int)
        assert (green_ > red) == shown


def test_toggle_shows_before_and_after(green: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    before = colour(obj)
    apply.apply_patch(obj, patch_at(obj), green)
    after = colour(obj)
    apply.show(obj, False)
    assert (colour(obj) == before).all()
    apply.show(obj, True)
    assert (colour(obj) == after).all()


def test_missing_and_damaged_pictures_change_nothing(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    patch = patch_at(obj)
    before = fingerprint()
    with pytest.raises(GarmentError, match=r"gone\.png does not exist"):
        apply.apply_patch(obj, patch, tmp_path / "gone.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(GarmentError, match=r"bad\.png"):
        apply.apply_patch(obj, patch, tmp_path / "bad.png")
    assert fingerprint() == before


def test_relief_reaches_the_shader_and_zero_relief_leaves_the_normal(green: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    patch = patch_at(obj)
    patch.relief = 0.0
    apply.apply_patch(obj, patch, green)
    assert not [each for each in patch.group.nodes if each.type == "BUMP"]
    patch.relief = 0.5
    apply.apply_patch(obj, patch, green)
    bump = next(each for each in patch.group.nodes if each.type == "BUMP")
    assert bump.inputs["Strength"].default_value == 0.5
    # Thread of 0.4 mm in a scene of metres.
    assert bump.inputs["Distance"].default_value == pytest.approx(0.0004)


def test_result_survives_saving_without_its_files(green: Path, tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    apply.apply_patch(obj, patch_at(obj), green)
    shown = colour(obj)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "garment.blend"))
    green.unlink()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "garment.blend"))
    again = bpy.data.objects["Cloth"]
    assert (colour(again) == shown).all()
    apply.revert(again)
    assert np.abs(colour(again) - print_on_cloth(64)[..., :3]).max() <= 1
