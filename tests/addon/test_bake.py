"""Baking: colours as in the source, densities, materials of every kind, nothing left changed."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from garments import WHOLE, cloth, fingerprint, material, noise, print_on_cloth

from blender_addon.garment import bake, patches, pixels
from blender_addon.garment.errors import GarmentError

pytestmark = pytest.mark.usefixtures("scene")


def baked(obj: bpy.types.Object, rect: tuple[float, ...] = WHOLE, side: int = 64) -> np.ndarray:
    return bake.bake_colour(obj, "UVMap", rect, side, side)


def worst(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one[..., :3].astype(int) - other[..., :3].astype(int)).max())


def test_bake_is_the_source_texture_to_a_step_of_256() -> None:
    source = noise(64, 64)
    obj = cloth([material("a", source)])
    assert worst(baked(obj), source) <= 1


def test_sub_rectangle_has_its_own_density() -> None:
    source = noise(64, 64)
    obj = cloth([material("a", source)])
    # A quarter of the texture at twice its density: every texel becomes 2×2 pixels.
    got = baked(obj, (0.25, 0.5, 0.75, 1.0), 64)
    assert worst(got, source[:32, 16:48].repeat(2, 0).repeat(2, 1)) <= 1


def test_several_materials_constant_missing_and_metallic() -> None:
    squares = [(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)]
    half = material("half", colour=(0.5, 0.2, 0.1, 1.0))
    metal = material("metal", colour=(0.5, 0.2, 0.1, 1.0), metallic=1.0)
    source = noise(64, 64)
    obj = cloth([half, metal, None, material("a", source)], squares=squares)
    got = baked(obj)
    expected = (188, 124, 89)
    assert np.abs(got[33:63, 1:31, :3].astype(int) - expected).max() <= 1
    assert np.abs(got[33:63, 33:63, :3].astype(int) - expected).max() <= 1
    assert np.abs(got[1:31, 1:31, :3].astype(int) - 231).max() <= 1
    assert worst(got[:32, 32:], source[:32, 32:]) <= 1


def test_no_material_and_material_without_nodes() -> None:
    obj = cloth([])
    assert np.abs(baked(obj)[..., :3].astype(int) - 231).max() <= 1
    if bpy.app.version < (5, 0):
        plain = bpy.data.materials.new("plain")
        plain.use_nodes = False
        plain.diffuse_color = (0.5, 0.2, 0.1, 1.0)
        other = cloth([plain], name="Other")
        assert np.abs(baked(other)[..., :3].astype(int) - (188, 124, 89)).max() <= 1


def test_mixed_transparent_and_grouped_shaders_give_their_colour() -> None:
    mixed = material("mixed", colour=(0.5, 0.2, 0.1, 1.0))
    tree = mixed.node_tree
    shader = next(each for each in tree.nodes if each.type == "BSDF_PRINCIPLED")
    output = next(each for each in tree.nodes if each.type == "OUTPUT_MATERIAL")
    clear, mix = tree.nodes.new("ShaderNodeBsdfTransparent"), tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(clear.outputs[0], mix.inputs[1])
    tree.links.new(shader.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])

    grouped = material("grouped")
    tree = grouped.node_tree
    inner = bpy.data.node_groups.new("inner", "ShaderNodeTree")
    inner.interface.new_socket("BSDF", in_out="OUTPUT", socket_type="NodeSocketShader")
    diffuse, end = inner.nodes.new("ShaderNodeBsdfDiffuse"), inner.nodes.new("NodeGroupOutput")
    diffuse.inputs["Color"].default_value = (0.1, 0.5, 0.2, 1.0)
    inner.links.new(diffuse.outputs[0], end.inputs[0])
    node = tree.nodes.new("ShaderNodeGroup")
    node.node_tree = inner
    output = next(each for each in tree.nodes if each.type == "OUTPUT_MATERIAL")
    tree.links.new(node.outputs[0], output.inputs["Surface"])

    got = baked(cloth([mixed, grouped], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 1)]))
    assert np.abs(got[:, 1:31, :3].astype(int) - (188, 124, 89)).max() <= 1
    assert np.abs(got[:, 33:63, :3].astype(int) - (89, 188, 124)).max() <= 1


def test_alpha_is_island_coverage_and_colour_runs_on() -> None:
    obj = cloth([material("a", colour=(0.5, 0.2, 0.1, 1.0))], squares=[(0.25, 0.25, 0.75, 0.5)])
    got = baked(obj)
    covered = np.zeros((64, 64), bool)
    covered[32:48, 16:48] = True
    assert ((got[..., 3] == 255) == covered).all()
    assert set(np.unique(got[..., 3])) == {0, 255}
    assert np.abs(got[..., :3].astype(int) - (188, 124, 89)).max() <= 1


def test_missing_image_is_named_and_packed_image_works(tmp_path: Path) -> None:
    path = tmp_path / "print.png"
    pixels.write_png(path, noise(16, 16))
    made = material("a", noise(16, 16))
    texture = next(each for each in made.node_tree.nodes if each.type == "TEX_IMAGE")
    texture.image = bpy.data.images.load(str(path))
    obj = cloth([made])
    texture.image.pack()
    path.unlink()
    assert worst(baked(obj, side=16), noise(16, 16)) <= 1
    texture.image.unpack(method="REMOVE")
    texture.image.reload()
    before = fingerprint()
    with pytest.raises(GarmentError, match=r"print\.png.*of material 'a' is missing.*Find Missing"):
        baked(obj)
    assert fingerprint() == before


def test_bake_changes_nothing_even_in_edit_mode(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth())])
    other = cloth([None], name="Other")
    bpy.context.view_layer.objects.active = obj
    other.select_set(True)
    bpy.context.scene.render.engine = "BLENDER_WORKBENCH"
    obj["note"] = "mine"
    patch = patches.add_patch(obj, chosen="ALL")
    patch.exaggeration = 8.0
    bpy.ops.object.mode_set(mode="EDIT")
    before = fingerprint()
    bake.bake_patch(obj, patch, tmp_path)
    assert fingerprint() == before


def test_modifiers_and_full_uv_layers_bake() -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    obj.modifiers.new("thick", "SOLIDIFY").thickness = 0.001
    for index in range(7):
        assert obj.data.uv_layers.new(name=f"spare {index}")
    assert worst(baked(obj), print_on_cloth(64)) <= 1
    assert len(obj.data.uv_layers) == 8


def test_scaled_patch_files_and_second_bake_ignores_applied_embroidery(tmp_path: Path) -> None:
    from blender_addon.garment import apply

    obj = cloth([material("a", print_on_cloth())])
    patch = patches.add_patch(obj, chosen="ALL")
    patch.exaggeration = 5.0
    first = bake.bake_patch(obj, patch, tmp_path)
    # 100 mm at 5 px per 0.4 mm thread, five times exaggerated.
    assert first.size == (250, 250)
    assert first.px_per_mm == pytest.approx(2.5)
    source = pixels.read(first.image_path)
    assert source.shape == (250, 250, 4)
    assert (pixels.read(first.mask_path)[..., 0] == 255).all()
    pixels.write_png(tmp_path / "green.png", np.full((250, 250, 4), (0, 200, 0, 255), np.uint8))
    apply.apply_patch(obj, patch, tmp_path / "green.png")
    second = bake.bake_patch(obj, patch, tmp_path)
    assert (pixels.read(second.image_path) == source).all()


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth())])
    patch = patches.add_patch(obj, chosen="ALL")
    patch.exaggeration = 8.0
    (tmp_path / "file").write_text("")
    with pytest.raises(GarmentError, match=r"file.*cannot be written.*another work folder"):
        bake.bake_patch(obj, patch, tmp_path / "file" / "folder")
