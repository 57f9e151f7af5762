"""A garment whose file has no texture is given one."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from garments import cloth, material, print_on_cloth

from blender_addon import cli, scenes
from blender_addon.garment import patches, pixels
from blender_addon.garment.errors import GarmentError

pytestmark = pytest.mark.usefixtures("scene")


def _print(path: Path) -> Path:
    pixels.write_png(path, print_on_cloth())
    return path


@pytest.mark.parametrize("dressed", [False, True])
def test_a_print_is_found_as_artwork(dressed: bool, tmp_path: Path) -> None:
    obj = cloth([material("a", colour=(0.2, 0.4, 0.6, 1))] if dressed else [None])
    with pytest.raises(GarmentError, match="it is of one colour"):
        patches.patches_from_artwork(obj)
    scenes.print_on(obj, _print(tmp_path / "print.png"))
    assert len(patches.patches_from_artwork(obj)) == 1
    left, bottom, right, top = obj.stitchwork.patches[0].rect
    assert (left, right) == pytest.approx((0.25, 0.5), abs=0.05)
    assert (bottom, top) == pytest.approx((0.5, 0.75), abs=0.05)


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    obj, words = cloth([None]), tmp_path / "words.png"
    words.write_text("no picture")
    with pytest.raises(GarmentError, match=r"words\.png is no picture"):
        scenes.print_on(obj, words)
    with pytest.raises(GarmentError, match=r"gone\.png cannot be opened"):
        scenes.print_on(obj, tmp_path / "gone.png")
    assert not any(obj.data.materials)
    assert not bpy.data.images


def test_at_the_command_line(tmp_path: Path) -> None:
    cloth([None])
    garment, out = tmp_path / "garment.blend", tmp_path / "out"
    scenes.save(garment)
    files = ["--garment", str(garment), "--print", str(_print(tmp_path / "print.png"))]
    assert cli.run(["bake", *files, "--exaggeration", "4", "--out", str(out)]) == 0
    baked = pixels.read(out / "bake.png")[..., :3].astype(int)
    assert (np.abs(baked - (200, 30, 40)).max(axis=2) < 4).mean() > 0.3
