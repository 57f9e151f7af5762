"""Where pictures are taken from: the camera sees the embroidery, whatever the file's axes are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

from blender_addon.garment import parts, pixels, scale, surface, uv, view

SIZE = (64, 64)
FRONT, BACK, LEFT = (0.05, 0.4, 0.35, 0.8), (0.45, 0.3, 0.75, 0.8), (0.8, 0.2, 0.9, 0.8)
WHOLE = (0.0, 0.0, 1.0, 1.0)
TURNS = {
    "as usual": (0, 0, 0),
    "turned round": (0, 0, 180),
    "askew": (0, 0, 213),
    "lying on its front": (90, 0, 0),
    "lying on its back": (-90, 0, 0),
}


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    yield
    bpy.ops.wm.read_factory_settings(use_empty=True)


def _vest(
    turn: tuple[float, float, float] = (0, 0, 0), *, inside_out: bool = False
) -> bpy.types.Object:
    """A box without top and bottom, 40 × 14 × 60, its neckline lower in front (-y).

    UV, from left to right: front (0 to 0.4), back (to 0.8), the wearer's left (to 0.9) and right.
    """
    outline = [(-20, -7), (0, -7), (20, -7), (20, 7), (0, 7), (-20, 7)]
    tops = [60, 50, 60, 60, 60, 60]
    vertices = [(x, y, 0) for x, y in outline]
    vertices += [(x, y, top) for (x, y), top in zip(outline, tops, strict=True)]
    spans = [(0.0, 0.2), (0.2, 0.4), (0.8, 0.9), (0.4, 0.6), (0.6, 0.8), (0.9, 1.0)]
    faces, corners = [], []
    for index, (left, right) in enumerate(spans):
        after = (index + 1) % 6
        faces.append([index, after, after + 6, index + 6])
        corners += [(left, 0), (right, 0), (right, tops[after] / 60), (left, tops[index] / 60)]
    mesh = bpy.data.meshes.new("vest")
    mesh.from_pydata(vertices, [], faces)
    layer = mesh.uv_layers.new(name="UVMap")
    layer.uv.foreach_set("vector", np.array(corners, np.float32).ravel())
    if inside_out:
        mesh.flip_normals()
    obj = bpy.data.objects.new("vest", mesh)
    bpy.context.scene.collection.objects.link(obj)
    obj.matrix_world = Euler(np.radians(turn)).to_matrix().to_4x4() @ Matrix.Scale(0.01, 4)
    bpy.context.view_layer.update()
    return obj


def _seen(obj: bpy.types.Object, *rects: uv.Rect) -> tuple[view.Scenery, surface.Surfels]:
    patches: list[Any] = [SimpleNamespace(rect=rect, uv_layer="") for rect in rects]
    found = surface.find_surfels(obj, patches)
    assert found is not None
    return view.Scenery(surface.mesh_corners(obj)), found


def _direction(obj: bpy.types.Object, vector: tuple[float, float, float]) -> np.ndarray:
    return np.array((obj.matrix_world.to_3x3() @ Matrix.Scale(100, 3)) @ _vector(vector))


def _vector(vector: tuple[float, float, float]) -> Any:
    from mathutils import Vector

    return Vector(vector)


def _in_picture(frame: view.Frame, points: np.ndarray) -> np.ndarray:
    """Places across and up in the picture, ±1 at its borders."""
    local = (points - frame.eye) @ np.stack([frame.right, frame.up, frame.back], axis=1)
    assert (local[:, 2] < 0).all()
    return np.asarray(local[:, :2] / -local[:, 2:] / view.reach(SIZE))


@pytest.mark.parametrize("inside_out", [False, True], ids=["", "reversed winding"])
@pytest.mark.parametrize(("rect", "facing"), [(FRONT, (0, -1, 0)), (BACK, (0, 1, 0))])
@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_the_camera_looks_at_the_patch_and_the_garment_stands_upright(
    turn: tuple[float, float, float],
    rect: uv.Rect,
    facing: tuple[float, float, float],
    inside_out: bool,
) -> None:
    obj = _vest(turn, inside_out=inside_out)
    scenery, seen = _seen(obj, rect)
    frame = view.front_frame(scenery, seen, SIZE)
    assert frame.back @ _direction(obj, facing) > 0.95
    assert frame.up @ _direction(obj, (0, 0, 1)) > 0.95
    assert np.abs(_in_picture(frame, seen.points)).max() < 1
    assert np.abs(_in_picture(frame, scenery.points)).max() <= 1
    near = view.close_frame(scenery, seen, SIZE, None)
    assert near.back @ _direction(obj, facing) > 0.95
    assert near.up @ _direction(obj, (0, 0, 1)) > 0.95
    middle = _in_picture(near, seen.points.mean(axis=0, keepdims=True))
    assert np.abs(middle).max() < 0.5


@pytest.mark.parametrize("turn", [(0, 0, 0), (0, 0, 180), (0, 0, 90)])
def test_a_garment_covered_all_over_is_shown_from_its_own_front(
    turn: tuple[float, float, float],
) -> None:
    obj = _vest(turn)
    scenery, seen = _seen(obj, WHOLE)
    for frame in (
        view.front_frame(scenery, seen, SIZE),
        view.front_frame(scenery, None, SIZE),
        view.close_frame(scenery, seen, SIZE, None),
    ):
        assert frame.back @ _direction(obj, (0, -1, 0)) > 0.95


def test_a_patch_on_a_side_is_shown_from_between_and_the_larger_patch_decides() -> None:
    obj = _vest()
    frame = view.front_frame(*_seen(obj, LEFT), SIZE)
    assert frame.back @ _direction(obj, (1, 0, 0)) > 0.6
    assert frame.back @ _direction(obj, (0, -1, 0)) > 0.6
    small_front = (0.1, 0.5, 0.2, 0.6)
    frame = view.front_frame(*_seen(obj, small_front, BACK), SIZE)
    assert frame.back @ _direction(obj, (0, 1, 0)) > 0.95


def test_a_close_up_looks_where_thread_lies_and_shows_so_many_threads(tmp_path: Path) -> None:
    obj = _vest()
    mask = np.zeros((100, 100), np.uint8)
    mask[60:, :30] = 255  # below, at the viewer's left
    pixels.write_png(tmp_path / "mask.png", mask)
    patch: Any = SimpleNamespace(rect=FRONT, uv_layer="", mask_path=str(tmp_path / "mask.png"))
    seen = surface.find_surfels(obj, [patch])
    assert seen is not None
    scenery = view.Scenery(surface.mesh_corners(obj))
    thread = 0.001
    frame = view.close_frame(scenery, seen, SIZE, thread)
    u, v = frame.middle[0] / 1.0 + 0.2, frame.middle[2] / 0.6
    assert FRONT[0] < u < FRONT[0] + 0.3 * (FRONT[2] - FRONT[0])
    assert FRONT[1] < v < FRONT[1] + 0.4 * (FRONT[3] - FRONT[1])
    width = 2 * float(np.linalg.norm(frame.eye - frame.middle)) * view.reach(SIZE)[0]
    assert 40 * thread < width < 50 * thread


def test_where_a_patch_lies_in_words() -> None:
    obj = _vest((0, 0, 213), inside_out=True)
    names = [view.side_name(*_seen(obj, rect)) for rect in (FRONT, BACK, LEFT)]
    assert names == ["front", "back", "wearer's left side"]


def test_parts_of_one_material_or_import_make_one_garment(scene: bpy.types.Scene) -> None:
    front, back, other = (_vest() for _ in range(3))
    cloth = bpy.data.materials.new("cloth")
    for each in (front, back):
        each.data.materials.append(cloth)
    back.location.z = 0.6
    bpy.context.view_layer.update()
    assert parts.garment_parts(front) == [front, back]
    front.stitchwork.real_height_cm = 240.0
    # Both together are 1.2 units tall.
    assert scale.millimetres(front) == pytest.approx(2000.0)
    root = bpy.data.objects.new("root", None)
    scene.collection.objects.link(root)
    for each in (front, other):
        each.parent = root
    assert set(parts.garment_parts(front)) == {front, back, other}
    back.hide_render = True
    assert set(parts.garment_parts(front)) == {front, other}
