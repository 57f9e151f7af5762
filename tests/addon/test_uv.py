"""Millimetres from UVs, image sizes, and what is unusual in a UV layer."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from garments import cloth, material

from blender_addon.garment import patches, raster, scale, unwrap, uv
from blender_addon.garment.errors import GarmentError

pytestmark = pytest.mark.usefixtures("scene")


def test_millimetres_follow_mesh_scale_units_and_typed_height(scene: bpy.types.Scene) -> None:
    obj = cloth([None], size=0.1, squares=[(0.0, 0.0, 0.5, 0.25)])
    assert uv.measure(obj, "UVMap", (0, 0, 1, 1)) == pytest.approx((200, 400), rel=1e-5)
    obj.scale = (3, 3, 3)
    bpy.context.view_layer.update()
    assert uv.measure(obj, "UVMap", (0, 0, 1, 1)) == pytest.approx((600, 1200), rel=1e-5)
    scene.unit_settings.scale_length = 0.5
    assert uv.measure(obj, "UVMap", (0, 0, 1, 1)) == pytest.approx((300, 600), rel=1e-5)
    patch = patches.add_patch(obj, rect=(0.0, 0.0, 0.5, 0.25))
    obj.stitchwork.real_height_cm = 20
    assert tuple(patch.mm_per_uv) == pytest.approx((400, 800), rel=1e-5)
    assert patch.size_text == "20.0 × 20.0 cm, 2500 × 2500 px"


@pytest.mark.parametrize(
    ("long", "unit", "real"),
    [
        (3.9, "", 3.9),
        (11.6, "decimetres", 1.16),
        (61.0, "centimetres", 0.61),
        (700.0, "milli", 0.7),
    ],
)
def test_a_file_in_another_unit_than_metres(long: float, unit: str, real: float) -> None:
    obj = cloth([None], size=long)
    patch = patches.add_patch(obj)
    assert patch.mm_per_uv[0] == pytest.approx(real * 1000.0, rel=1e-5)
    assert unit in scale.assumed(obj)
    assert bool(unit) == bool(scale.assumed(obj))
    # What is typed counts, and nothing is assumed then.
    obj.stitchwork.real_height_cm = 50.0
    assert patch.mm_per_uv[1] == pytest.approx(500.0, rel=1e-5)
    assert not scale.assumed(obj)


def test_too_large_names_the_factor_that_fits() -> None:
    obj = cloth([None], size=2.0)
    patch = patches.add_patch(obj)
    with pytest.raises(GarmentError, match=r"25000 × 25000 pixels.*exaggeration to 3\.06"):
        uv.plan(obj, patch, 8192)
    patch.exaggeration = 3.06
    assert uv.plan(obj, patch, 8192).width <= 8192


def test_too_small_empty_and_missing_are_said() -> None:
    obj = cloth([None], size=0.002)
    patch = patches.add_patch(obj)
    with pytest.raises(GarmentError, match=r"only 25 × 25 pixels"):
        uv.plan(obj, patch, 8192)
    patch.rect = (0.5, 0.5, 0.5, 0.6)
    with pytest.raises(GarmentError, match="is empty"):
        uv.plan(obj, patch, 8192)
    patch.rect = (2, 2, 3, 3)
    with pytest.raises(GarmentError, match="No face of 'Cloth' lies in the rectangle"):
        uv.plan(obj, patch, 8192)
    assert patch.size_text == "beside the UV islands"
    patch.uv_layer = "gone"
    with pytest.raises(GarmentError, match=r"no UV layer 'gone'.*UVMap"):
        uv.plan(obj, patch, 8192)


def test_not_a_mesh_no_faces_no_layer() -> None:
    with pytest.raises(GarmentError, match="No garment is selected"):
        uv.require_mesh(None)
    with pytest.raises(GarmentError, match="'Lamp' is not a mesh"):
        uv.require_mesh(bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "SUN")))
    with pytest.raises(GarmentError, match="'Bare' has no faces"):
        uv.require_mesh(bpy.data.objects.new("Bare", bpy.data.meshes.new("Bare")))
    with pytest.raises(GarmentError, match=r"no UV layer.*Unwrap"):
        patches.add_patch(cloth([None], uv=False))


def test_sound_uvs_give_no_warning() -> None:
    obj = cloth([None], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 1)])
    assert uv.warnings(obj, "UVMap") == []


def test_warnings_say_which_islands_and_faces() -> None:
    squares = [
        (0.0, 0.0, 0.4, 0.4),
        (0.2, 0.2, 0.6, 0.6),
        (1.0, 0.7, 0.8, 0.9),
        (0.9, 0.9, 1.2, 1.0),
        (0.7, 0.1, 0.7, 0.4),
    ]
    found = uv.warnings(cloth([None], squares=squares), "UVMap")
    assert found == [
        "1 faces have no UV area and stay as they are: 4.",
        "Islands out of the 0–1 range: 3.",
        "Mirrored islands: 2.",
        "Overlapping islands get the same embroidery: 0 and 1.",
    ]
    mirrored = uv.warnings(cloth([None], squares=[(1, 0, 0, 1)]), "UVMap")
    assert mirrored == ["All islands are mirrored: lettering reads backwards in the image."]


def test_unwrap_makes_a_new_layer_and_keeps_the_old(scene: bpy.types.Scene) -> None:
    obj = cloth([material("a")], squares=[(0, 0, 1, 1), (0, 0, 1, 1)])
    old = np.empty(16, np.float32)
    obj.data.uv_layers["UVMap"].uv.foreach_get("vector", old)
    bpy.ops.object.mode_set(mode="EDIT")
    name = unwrap.unwrap(obj)
    assert obj.mode == "EDIT"
    bpy.ops.object.mode_set(mode="OBJECT")
    layers = obj.data.uv_layers
    assert [each.name for each in layers] == ["UVMap", name]
    assert layers.active.name == "UVMap"
    assert layers["UVMap"].active_render
    kept = np.empty(16, np.float32)
    layers["UVMap"].uv.foreach_get("vector", kept)
    assert (kept == old).all()
    assert uv.warnings(obj, name) == []
    assert [each.name for each in bpy.data.scenes] == [scene.name]
    assert len(bpy.data.objects) == len(bpy.data.meshes) == 1


def test_unwrap_without_any_layer_and_with_all_taken() -> None:
    obj = cloth([None], uv=False)
    assert unwrap.unwrap(obj) == "Stitchwork"
    for index in range(7):
        obj.data.uv_layers.new(name=str(index))
    with pytest.raises(GarmentError, match="as many UV layers as Blender allows"):
        unwrap.unwrap(obj)


def test_fragments_cover_each_pixel_of_a_quad_once() -> None:
    corners = np.array([[1.2, 0.3], [17.7, 2.1], [15.1, 20.4], [0.1, 13.3]])
    triangles = corners[[[0, 1, 2], [0, 2, 3]]]
    hits = np.zeros((24, 24), int)
    for triangle, row, column, weights in raster.fragments(triangles, 24, 24):
        np.add.at(hits, (row, column), 1)
        centre = (weights[..., None] * triangles[triangle]).sum(1)
        assert np.allclose(centre, np.stack([column + 0.5, row + 0.5], 1))
    assert hits.max() == 1
    (a, b), (c, d) = corners[2] - corners[0], corners[3] - corners[1]
    area = 0.5 * abs(a * d - b * c)
    assert hits.sum() == pytest.approx(area, abs=12)


def test_dilate_is_a_disc_and_shrinking_undoes_growing() -> None:
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    rows, columns = np.mgrid[-20:21, -20:21]
    for radius in (1, 2.5, 9.3):
        assert (raster.dilate(mask, radius) == (rows**2 + columns**2 <= radius**2)).all()
    mask[10:30, 12:25] = True
    assert (raster.dilate(raster.dilate(mask, 3), -3) == mask).all()


def test_labels_join_neighbours_of_one_kind_only() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [1, 0, 1, 1]], bool)
    labels = raster.label(mask)
    assert len(np.unique(labels)) == 4
    assert labels[0, 0] == labels[1, 1]
    assert labels[0, 3] == labels[2, 2]
    kind = np.array([[1, 2, 0, 1], [0, 2, 0, 1], [1, 0, 1, 1]])
    assert raster.label(mask, kind)[0, 0] != raster.label(mask, kind)[0, 1]
