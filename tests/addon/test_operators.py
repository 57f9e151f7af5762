"""The operators: results, messages, undo; and registering leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from garments import apply_and_undo, cloth, fingerprint, material, print_on_cloth

import blender_addon
from blender_addon.garment import pixels

pytestmark = pytest.mark.usefixtures("scene")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def garment(tmp_path: Path) -> bpy.types.Object:
    """A piece of printed cloth with one patch, and a picture to lay over it."""
    obj = cloth([material("a", print_on_cloth(64))])
    bpy.ops.stitchwork.patch_add()
    patch = obj.stitchwork.patches[0]
    patch.exaggeration = 8.0
    pixels.write_png(tmp_path / "green.png", np.full((32, 32, 4), (0, 200, 0, 255), np.uint8))
    patch.result_path = str(tmp_path / "green.png")
    return obj


def test_one_undo_takes_embroidery_off_exactly(garment: bpy.types.Object) -> None:
    apply_and_undo()
    assert not bpy.data.objects["Cloth"].stitchwork.patches[0].applied


def test_apply_toggle_revert_by_operator(garment: bpy.types.Object) -> None:
    before = fingerprint()
    patch = garment.stitchwork.patches[0]
    assert bpy.ops.stitchwork.bake() == {"FINISHED"}
    assert Path(patch.bake_path).is_file()
    assert bpy.ops.stitchwork.apply() == {"FINISHED"}
    assert patch.applied
    assert bpy.ops.stitchwork.toggle() == {"FINISHED"}
    assert not garment.stitchwork.shown
    assert bpy.ops.stitchwork.toggle() == {"FINISHED"}
    assert bpy.ops.stitchwork.revert() == {"FINISHED"}
    assert fingerprint() == before
    assert not bpy.ops.stitchwork.revert.poll()


def test_bake_down_writes_where_it_is_told(garment: bpy.types.Object, tmp_path: Path) -> None:
    bpy.ops.stitchwork.apply()
    bpy.ops.ed.undo_push(message="Before")
    before = fingerprint()
    path = tmp_path / "texture.png"
    assert bpy.ops.stitchwork.bake_down(side=64, filepath=str(path)) == {"FINISHED"}
    bpy.ops.ed.undo_push(message="Bake Down")
    assert pixels.read(path).shape == (64, 64, 4)
    assert pixels.read(tmp_path / "texture-normal.png").shape == (64, 64, 4)
    bpy.ops.ed.undo()
    assert fingerprint() == before


def test_patches_by_operator(garment: bpy.types.Object) -> None:
    held = garment.stitchwork
    assert bpy.ops.stitchwork.patch_from_artwork() == {"FINISHED"}
    assert [each.name for each in held.patches] == ["Patch", "Artwork"]
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    assert bpy.ops.stitchwork.patch_add() == {"FINISHED"}
    bpy.ops.object.mode_set(mode="OBJECT")
    assert held.patches[2].region == "FACES"
    assert np.allclose(held.patches[2].rect, (-0.02, -0.02, 1.02, 1.02))
    held.active_patch = 0
    bpy.ops.stitchwork.apply()
    bpy.ops.stitchwork.patch_remove()
    assert [each.name for each in held.patches] == ["Artwork", "Patch 2"]
    assert not bpy.data.node_groups


def test_errors_are_reported_with_a_remedy_and_cancel() -> None:
    cloth([None], uv=False)
    with pytest.raises(RuntimeError, match=r"no UV layer.*Press Unwrap"):
        bpy.ops.stitchwork.patch_add()
    assert bpy.ops.stitchwork.unwrap() == {"FINISHED"}
    assert bpy.ops.stitchwork.patch_add() == {"FINISHED"}
    with pytest.raises(RuntimeError, match=r"no embroidered picture.*Embroider it first"):
        bpy.ops.stitchwork.apply()


def test_unwrap_becomes_the_patch_layer(garment: bpy.types.Object) -> None:
    assert bpy.ops.stitchwork.unwrap() == {"FINISHED"}
    assert garment.stitchwork.patches[0].uv_layer == "Stitchwork"


def test_style_sets_the_thread_width(garment: bpy.types.Object, tmp_path: Path) -> None:
    patch = garment.stitchwork.patches[0]
    patch.exaggeration = 1.0
    (tmp_path / "style.json").write_text('{"thread_width_px": 8.0}')
    patch.style = str(tmp_path)
    assert patch.density == pytest.approx(20.0)
    (tmp_path / "style.json").write_text("damaged")
    patch.style = str(tmp_path)
    assert patch.density == pytest.approx(12.5)


def test_sample_garment_loads_with_photo_and_artwork() -> None:
    assert bpy.ops.stitchwork.load_sample() == {"FINISHED"}
    shown = bpy.context.scene.stitchwork
    assert Path(shown.reference).is_file()
    assert Path(shown.design).is_file()
    assert bpy.ops.stitchwork.patch_from_artwork() == {"FINISHED"}
    assert len(bpy.context.object.stitchwork.patches) == 2


def test_register_twice_leaves_nothing_and_stderr_is_empty() -> None:
    program = """
import bpy, blender_addon
before = {name for name in dir(bpy.types)}
for _ in range(2):
    blender_addon.register()
    assert hasattr(bpy.types.Object, "stitchwork")
    blender_addon.unregister()
assert not hasattr(bpy.types.Object, "stitchwork")
assert not hasattr(bpy.types.Scene, "stitchwork")
assert "stitchwork" not in dir(bpy.ops.stitchwork) and not dir(bpy.ops.stitchwork)
left = {name for name in dir(bpy.types)} - before
assert not [name for name in left if name.upper().startswith("STITCHWORK")], left
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_modules_register_and_unregister() -> None:
    for module in blender_addon.MODULES:
        assert callable(module.register)
        assert callable(module.unregister)


def test_a_patch_from_faces_selected_in_object_mode_and_other_faces_later() -> None:
    obj = cloth([None], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 0.5)])
    for face in obj.data.polygons:
        face.select = face.index == 1
    assert bpy.ops.stitchwork.patch_from_faces() == {"FINISHED"}
    patch = obj.stitchwork.patches[0]
    assert (patch.region, patch.faces) == ("FACES", "1")
    assert patch.rect[0] == pytest.approx(0.49)
    for face in obj.data.polygons:
        face.select = face.index == 0
    assert bpy.ops.stitchwork.patch_faces() == {"FINISHED"}
    assert patch.faces == "0"
    assert patch.rect[0] == pytest.approx(-0.02)
