"""Pictures of a garment: framing, orientation, and nothing of the user's scene changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from blender_addon.garment import pixels, render
from blender_addon.garment.errors import GarmentError

FAST: dict[str, Any] = {"size": 48, "samples": 2, "threads": 1}
WHOLE = SimpleNamespace(rect=(0.0, 0.0, 1.0, 1.0), uv_layer="")


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    yield
    bpy.ops.wm.read_factory_settings(use_empty=True)


def _banner(scale: float = 1.0) -> bpy.types.Object:
    """A square hanging in the x-z plane, facing -y; red, green, blue, white quarters.

    Red is at the upper left of the texture, green upper right, blue lower left, white lower right.
    """
    corners = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0.5, 0, 1], [-0.5, 0, 1]]) * scale
    mesh = bpy.data.meshes.new("banner")
    mesh.from_pydata(corners.tolist(), [], [(0, 1, 2, 3)])
    mesh.uv_layers.new(name="UVMap").data.foreach_set(
        "uv", np.array([0, 0, 1, 0, 1, 1, 0, 1], np.float32)
    )
    quarters = np.zeros((64, 64, 4), np.uint8)
    quarters[:32, :32] = (220, 20, 20, 255)
    quarters[:32, 32:] = (20, 200, 20, 255)
    quarters[32:, :32] = (20, 20, 220, 255)
    quarters[32:, 32:] = (230, 230, 230, 255)
    material = bpy.data.materials.new("banner")
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    picture = material.node_tree.nodes.new("ShaderNodeTexImage")
    picture.image = pixels.to_image("banner", quarters)
    shader = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(picture.outputs["Color"], shader.inputs["Base Color"])
    mesh.materials.append(material)
    obj = bpy.data.objects.new("banner", mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def _quarters(picture: np.ndarray) -> str:
    """The leading colour of a picture's four quarters, read like text."""
    height, width = picture.shape[:2]
    names = []
    for y in (height * 3 // 8, height * 5 // 8):
        for x in (width * 3 // 8, width * 5 // 8):
            red, green, blue = picture[y, x, :3].astype(int)
            spread = max(red, green, blue) - min(red, green, blue)
            names.append("w" if spread < 60 else "rgb"[int(np.argmax([red, green, blue]))])
    return "".join(names)


def test_front_shows_all_of_it_upright_with_a_margin(tmp_path: Path) -> None:
    picture = pixels.read(render.render_garment(_banner(), tmp_path / "front.png", **FAST))
    assert picture.shape == (48, 48, 4)
    assert _quarters(picture) == "rgbw"
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])[:, :3]
    assert np.ptp(border.astype(int), axis=1).max() < 40  # the grey wall all round


def test_close_up_fills_the_picture_along_the_normal(tmp_path: Path) -> None:
    banner = _banner()
    banner.rotation_euler = (0.7, 0.2, 2.0)
    bpy.context.view_layer.update()
    middle = SimpleNamespace(rect=(0.2, 0.2, 0.8, 0.8), uv_layer="")
    picture = pixels.read(
        render.render_garment(banner, tmp_path / "close.png", patches=[middle], **FAST)
    )
    assert _quarters(picture) == "rgbw"
    corner = SimpleNamespace(rect=(0.5, 0.5, 1.0, 1.0), uv_layer="UVMap")
    picture = pixels.read(
        render.render_garment(banner, tmp_path / "c.png", patches=[corner], **FAST)
    )
    assert _quarters(picture) == "gggg"


def test_front_turns_to_a_patch_on_the_back(tmp_path: Path) -> None:
    banner = _banner()
    banner.rotation_euler = (0.0, 0.0, np.pi)
    bpy.context.view_layer.update()
    file = tmp_path / "back.png"
    render.render_garment(banner, file, view="front", patches=[WHOLE], **FAST)
    assert _quarters(pixels.read(file)) == "rgbw"


def test_units_do_not_matter_and_the_same_call_gives_the_same_picture(tmp_path: Path) -> None:
    small, again, large = (
        pixels.read(render.render_garment(_banner(scale), tmp_path / "a.png", **FAST)).astype(int)
        for scale in (0.5, 0.5, 60.0)
    )
    assert np.array_equal(small, again)
    assert np.abs(small - large).mean() < 2.0


def test_the_users_scene_stays_as_it_was(tmp_path: Path) -> None:
    banner = _banner()
    banner.hide_render = True
    scene = bpy.context.scene
    scene.render.filepath = "/tmp/mine.png"
    kinds = ("scenes", "objects", "meshes", "cameras", "lights", "worlds", "materials")
    before = {kind: sorted(each.name for each in getattr(bpy.data, kind)) for kind in kinds}
    picture = pixels.read(render.render_garment(banner, tmp_path / "front.png", **FAST))
    assert _quarters(picture) == "rgbw"
    after = {kind: sorted(each.name for each in getattr(bpy.data, kind)) for kind in kinds}
    assert after == before
    assert bpy.context.scene == scene
    assert scene.camera is None
    assert scene.world is None
    assert scene.render.filepath == "/tmp/mine.png"
    assert banner.users_scene == (scene,)


def test_a_picture_may_be_wide(tmp_path: Path) -> None:
    file = render.render_garment(
        _banner(), tmp_path / "new" / "wide.png", size=(64, 32), samples=2, threads=1
    )
    picture = pixels.read(file)
    assert picture.shape == (32, 64, 4)
    assert np.ptp(picture[:, 4, :3].astype(int), axis=1).max() < 40


def test_what_cannot_be_rendered_says_why(tmp_path: Path) -> None:
    banner = _banner()
    with pytest.raises(GarmentError, match="no patch"):
        render.render_garment(banner, tmp_path / "close.png", view="closeup", **FAST)
    lamp = bpy.data.objects.new("lamp", None)
    with pytest.raises(GarmentError, match="not a mesh"):
        render.render_garment(lamp, tmp_path / "lamp.png", **FAST)
    (tmp_path / "file").write_text("")
    with pytest.raises(GarmentError, match="cannot be written"):
        render.render_garment(banner, tmp_path / "file" / "front.png", **FAST)
    assert [scene.name for scene in bpy.data.scenes] == ["Scene"]
