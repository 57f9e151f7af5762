"""What users are told: in the panel by buttons, at the command line by flags, and before work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from garments import cloth, material, print_on_cloth

from blender_addon import cli, wording
from blender_addon.garment import detail, patches, region
from blender_addon.garment.bake import bake_patch

pytestmark = pytest.mark.usefixtures("scene")


def _saved(tmp_path: Path, picture: np.ndarray) -> str:
    cloth([material("print", picture)])
    file = tmp_path / "cloth.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(file))
    return str(file)


def _checks(square: int, side: int = 256) -> np.ndarray:
    picture = np.full((side, side, 4), 255, np.uint8)
    row, column = np.indices((side, side)) // square
    picture[(row + column) % 2 == 0, :3] = (20, 60, 120)
    return picture


def test_one_action_has_a_name_in_both_places() -> None:
    panel = wording.do("everything", "exaggeration", factor="3.06")
    assert panel == "Set the patch's region to Everything, or set the exaggeration to 3.06."
    with wording.at_command_line():
        flags = wording.do("everything", "exaggeration", factor="3.06")
    assert flags.startswith("Give --region all, or set the exaggeration to 3.06 with --exag")
    assert wording.do("everything", "exaggeration", factor="3.06") == panel


def test_every_flag_that_is_named_exists_and_no_button_is_named_beside_it() -> None:
    values = dict.fromkeys(("factor", "side", "cm", "names"), "1")
    known = {
        flag
        for action in cli.parser()._subparsers._group_actions  # type: ignore[union-attr]
        for command in action.choices.values()  # type: ignore[union-attr]
        for each in command._actions
        for flag in each.option_strings
    }
    for action in wording._ACTIONS:
        assert "--" not in wording.do(action, **values)
        with wording.at_command_line():
            said = wording.do(action, **values)
        assert "press " not in said
        flags = {each.strip(".,:;()") for each in said.split() if each.startswith("--")}
        assert flags <= known


def test_a_plain_cloth_is_told_of_with_flags_at_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = np.full((64, 64, 4), 255, np.uint8)
    arguments = ["--garment", _saved(tmp_path, plain), "--out", str(tmp_path / "out")]
    assert cli.run(["bake", *arguments]) == 1
    said = capfd.readouterr().err
    assert "give --region all" in said
    assert "press" not in said


def test_what_was_found_is_told_with_size_place_and_another_way(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    garment = _saved(tmp_path, print_on_cloth(256))
    out = str(tmp_path / "out")
    assert cli.run(["bake", "--garment", garment, "--out", out, "--height-cm", "20"]) == 0
    said = capfd.readouterr().out
    # A quarter of the cloth each way, with a margin; the cloth faces the viewer.
    assert "Found 1 piece of artwork: Artwork, 5." in said
    assert "cm on the front" in said
    assert "--region all" in said
    obj = cloth([material("again", print_on_cloth(256))])
    obj.stitchwork.real_height_cm = 20.0
    assert bpy.ops.stitchwork.patch_from_artwork() == {"FINISHED"}


def test_the_width_of_shapes_ignores_soft_outlines_and_the_rest() -> None:
    checks = _checks(8)[..., :3]
    everywhere = np.ones((256, 256), bool)
    assert detail.shape_width(checks, everywhere) == pytest.approx(8, abs=1)
    soft = sum(np.roll(checks.astype(float), by, axis) for axis in (0, 1) for by in (-1, 0, 1)) / 6
    assert detail.shape_width(soft.astype(np.uint8), everywhere) == pytest.approx(8, abs=2)
    half = checks.copy()
    half[:, 128:] = 90
    right = np.zeros((256, 256), bool)
    right[:, 136:] = True
    assert detail.shape_width(half, right) == pytest.approx(120, abs=2)


def test_thread_wider_than_the_shapes_is_said_before_work_with_what_would_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    obj = cloth([material("checks", _checks(8))])
    obj.stitchwork.real_height_cm = 25.6
    patch = patches.add_patch(obj, chosen="ALL")
    patch.exaggeration = 7.0
    bake_patch(obj, patch, tmp_path)
    # 256 squares' rows of 1 mm each: a square is 8 mm, three threads of 2.8 mm are wider.
    assert patch.shape_mm == pytest.approx(8.0, abs=1.0)
    said = patches.caution(patch, 8192)
    assert "Thread drawn 2.8 mm wide is too wide" in said
    assert "exaggeration to 6." in said
    said = patches.caution(patch, 460)
    assert "Largest Image to" in said
    assert "Add Patch from Selected Faces" in said
    patch.exaggeration = 5.0
    assert patches.caution(patch, 8192) == ""
    patch.exaggeration = 7.0
    patch.rect = (0.0, 0.0, 0.5, 1.0)
    assert patches.caution(patch, 8192) == ""  # not measured there yet

    file = tmp_path / "checks.blend"
    obj.stitchwork.patches.clear()
    bpy.ops.wm.save_as_mainfile(filepath=str(file))
    wide = ["--height-cm", "25.6", "--exaggeration", "7", "--region", "all"]
    assert cli.run(["bake", "--garment", str(file), "--out", str(tmp_path / "out"), *wide]) == 0
    said = capfd.readouterr().out
    assert "warning: Thread drawn 2.8 mm wide is too wide" in said
    assert "--exaggeration 6." in said


def test_thread_many_times_as_wide_as_real_is_said_even_on_plain_cloth() -> None:
    patch: Any = SimpleNamespace(
        name="All",
        rect=(0.0, 0.0, 1.0, 1.0),
        mm_per_uv=(2000.0, 2000.0),
        thread_mm=0.4,
        thread_px=5.0,
        exaggeration=25.0,
        shape_mm=0.0,
    )
    said = patches.caution(patch, 1024)
    assert "10.0 mm wide is 25 times as wide as real" in said
    assert "exaggeration to 8.00 and Largest Image to 3125 px" in said


def test_everything_is_the_rectangle_that_the_uvs_cover() -> None:
    obj = cloth([material("a", _checks(8))], squares=[(0.25, 0.5, 0.5, 0.75)])
    assert region.used_rect(obj, "UVMap") == (0.25, 0.5, 0.5, 0.75)
