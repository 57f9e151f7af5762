"""Patches that show words: what is asked for, where it may lie, and that only a motif is thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from garments import WHOLE, apply_and_undo, cloth, fingerprint, material, print_on_cloth

from blender_addon.garment import apply, bake, patches, pixels, relief
from blender_addon.link.client import LinkError
from blender_addon.link.jobs import GenerateJob, RestyleJob, TrainJob
from blender_addon.link.session import Task
from blender_addon.link.tasks import preview_task, restyle_task, train_task

pytestmark = pytest.mark.usefixtures("scene")
GREEN = (0, 200, 0)


def with_words(obj: bpy.types.Object, words: str = " a red heart ", chosen: str = "AUTO") -> Any:
    patch = patches.add_patch(obj, chosen=chosen)
    patch.exaggeration = 5.0
    patch.words = words
    return patch


def blank() -> bpy.types.Object:
    return cloth([material("a", np.full((32, 32, 4), 255, np.uint8))])


@pytest.fixture
def style(tmp_path: Path) -> str:
    folder = tmp_path / "satin"
    folder.mkdir()
    (folder / "style.json").write_text(json.dumps({"thread_width_px": 5.0}))
    return str(folder)


def motif(path: Path, height: int, width: int) -> np.ndarray:
    """A disc in thread with a soft edge in the middle of a clear picture; writes it."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y - height / 2 + 0.5, x - width / 2 + 0.5)
    alpha = np.clip(0.25 * height - away + 0.5, 0.0, 1.0)
    rgba = np.empty((height, width, 4), np.uint8)
    rgba[..., :3] = GREEN
    rgba[..., 3] = np.round(alpha * 255)
    pixels.write_png(path, rgba)
    return alpha


def sewn(obj: bpy.types.Object, patch: Any, folder: Path) -> np.ndarray:
    """Lay a motif over the patch's bake; returns its alpha."""
    width, height = bake.bake_patch(obj, patch, folder).size
    alpha = motif(folder / "motif.png", height, width)
    apply.apply_patch(obj, patch, folder / "motif.png")
    return alpha


def shown(obj: bpy.types.Object, side: int) -> np.ndarray:
    return bake.bake_colour(obj, "UVMap", WHOLE, side, side, original=False)[..., :3].astype(int)


def test_words_need_no_artwork_and_have_the_whole_rectangle(tmp_path: Path) -> None:
    obj = blank()
    patch = with_words(obj)
    assert pixels.read(bake.bake_patch(obj, patch, tmp_path).mask_path)[..., 0].min() == 255
    patch.words = "  "
    with pytest.raises(apply.GarmentError, match="No artwork was found"):
        bake.bake_patch(obj, patch, tmp_path)


def test_a_region_that_was_chosen_stays_one(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))], squares=[(0, 0, 0.5, 1), (0.5, 0, 1, 1)])
    patch = with_words(obj, chosen="FACES")
    patch.faces = "1"
    mask = pixels.read(bake.bake_patch(obj, patch, tmp_path).mask_path)[..., 0] > 0
    half = mask.shape[1] // 2
    assert not mask[:, : half - 1].any()
    assert mask[:, half + 1 :].all()


def test_the_artwork_under_words_is_not_measured(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    patch = patches.add_patch(obj)
    patch.exaggeration = 8.0
    patch.shape_mm = 0.1
    assert patches.caution(patch, 8192)
    patch.words = "a red heart"
    assert not patches.caution(patch, 8192)
    bake.bake_patch(obj, patch, tmp_path)
    assert patch.shape_mm == 0.0


def test_words_are_asked_for_without_ground_in_the_region(
    scene: bpy.types.Scene, style: str
) -> None:
    obj = blank()
    patch = with_words(obj)
    patch.style = style
    options = {"strength": 0.5, "embroidery": "relief", "start": "design", "seed": 7}
    job = restyle_task(scene, obj, patch, **options).job
    assert isinstance(job, GenerateJob)
    assert (job.prompt, job.ground, job.seed) == ("a red heart", "none", 7)
    mask = pixels.read(Path(str(job.mask)))
    assert np.array_equal(mask, pixels.read(Path(patch.mask_path)))
    assert mask.shape == pixels.read(Path(patch.bake_path)).shape
    patch.words, patch.region = "", "ALL"
    job = restyle_task(scene, obj, patch, **options).job
    assert isinstance(job, RestyleJob)
    assert (job.strength, job.embroidery) == (0.5, "relief")


def prompt_of(task: Task) -> str | None:
    assert isinstance(task.job, TrainJob)
    return task.job.prompt


def test_training_is_told_what_is_to_be_drawn(scene: bpy.types.Scene, tmp_path: Path) -> None:
    obj = blank()
    patch = with_words(obj)
    pixels.write_png(tmp_path / "photo.png", np.full((64, 64, 3), 128, np.uint8))
    scene.stitchwork.reference = str(tmp_path / "photo.png")
    assert prompt_of(train_task(scene, patch, obj=obj)) == "a red heart"
    assert prompt_of(train_task(scene, prompt="a fish")) == "a fish"
    patch.words = " "
    assert prompt_of(train_task(scene, patch, obj=obj)) is None


def test_a_first_look_says_why_it_cannot(scene: bpy.types.Scene, tmp_path: Path) -> None:
    obj = blank()
    patch = with_words(obj)
    pixels.write_png(tmp_path / "photo.png", np.full((64, 64, 3), 128, np.uint8))
    scene.stitchwork.reference = str(tmp_path / "photo.png")
    with pytest.raises(LinkError, match="cannot draw words") as refused:
        preview_task(scene, obj, patch)
    assert "clear the patch's Words" in refused.value.remedy
    assert not bpy.ops.stitchwork.preview.poll()
    with pytest.raises(RuntimeError, match="cannot draw words"):
        bpy.ops.stitchwork.preview()
    patch.words = ""
    assert bpy.ops.stitchwork.preview.poll()


def test_only_the_motif_is_thread_and_one_revert_takes_it_off(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    patch = with_words(obj)
    before = fingerprint()
    alpha = sewn(obj, patch, tmp_path)
    side = len(alpha)
    plain, after = pixels.read(Path(patch.bake_path))[..., :3].astype(int), shown(obj, side)
    y, x = np.mgrid[:side, :side]
    away = np.hypot(y - side / 2 + 0.5, x - side / 2 + 0.5)
    assert np.abs(after[away < 0.25 * side - 3] - GREEN).max() <= 1
    # Not grown to close a seam, as embroidery is that ends with its island.
    beside = away > 0.25 * side + 2
    assert np.abs(after[beside] - plain[beside]).max() <= 1
    assert len(np.unique(pixels.from_image(patch.image)[..., 3])) > 5  # no steps on its outline
    assert apply.revert(obj)
    assert fingerprint() == before
    assert patch.words == " a red heart "


def test_one_undo_takes_a_motif_off(tmp_path: Path) -> None:
    obj = cloth([material("a", print_on_cloth(64))])
    sewn(obj, with_words(obj), tmp_path)
    apply.revert(obj)
    apply_and_undo()
    assert bpy.data.objects["Cloth"].stitchwork.patches[0].words == " a red heart "


def test_print_under_a_motif_leaves_no_relief(tmp_path: Path) -> None:
    heights = []
    for picture in (print_on_cloth(64), np.full((64, 64, 4), 255, np.uint8)):
        obj = cloth([material("a", picture)])
        patch = with_words(obj)
        sewn(obj, patch, tmp_path)
        (grey,) = (each for each in bpy.data.images if each.name.endswith("relief"))
        heights.append(pixels.from_image(grey))
        apply.revert(obj)
        bpy.data.objects.remove(obj)
    assert np.array_equal(*heights)
    assert np.ptp(heights[0][..., 0]) <= 2  # the motif is even


def test_colours_of_a_motif_leave_no_step_in_its_relief() -> None:
    x = np.arange(200)
    thread = 0.04 * np.sin(2 * np.pi * np.arange(200) / 6.0)[:, None]
    lightness = np.where(x < 100, 0.3, 0.75) + thread
    rgba = np.full((200, 200, 4), 255, np.uint8)
    rgba[..., :3] = np.round(lightness * 255)[..., None]
    height = relief.height_map(rgba, None, 6.0)
    inside, border = height[20:-20, 30:70].astype(int), height[20:-20, 92:108].astype(int)
    assert np.ptp(inside) > 40  # thread
    assert abs(border.max() - inside.max()) < 0.25 * np.ptp(inside)
    assert abs(border.min() - inside.min()) < 0.25 * np.ptp(inside)
