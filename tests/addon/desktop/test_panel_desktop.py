"""The panel in a desktop Blender: drawn, clicked, followed to its end, and taken back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.addon.desktop.desk import Desk, until

pytestmark = pytest.mark.desktop

PICTURES = os.environ.get("STITCHWORK_PICTURES")


def keep(desk: Desk, name: str) -> None:
    """Take a screenshot; it is kept where STITCHWORK_PICTURES says."""
    path = desk.picture(desk.folder / f"{name}.png")
    assert path.stat().st_size > 10_000
    if PICTURES:
        shutil.copy(path, Path(PICTURES) / f"{name}.png")


def garment(desk: Desk, expression: str) -> object:
    return desk.ask(f"obj = bpy.context.view_layer.objects.active; answer = {expression}")


def tasks(desk: Desk) -> list[str]:
    titles = desk.ask("answer = [each.title for each in addon.link.polling.session.tasks]")
    assert isinstance(titles, list)
    return titles


def said(desk: Desk) -> str:
    return str(desk.ask("n = addon.link.polling.notice; answer = n.text + ' ' + n.remedy"))


def finished(desk: Desk) -> None:
    until(lambda: not tasks(desk), "the end of the job")


@pytest.fixture(scope="module", autouse=True)
def shirt(desk: Desk) -> None:
    """The sample T-shirt, seen from the front."""
    desk.ask(
        "bpy.data.objects.remove(bpy.data.objects['Cube'])\n"
        "bpy.ops.stitchwork.load_sample()\n"
        "w, a, r = view()\n"
        "main = next(each for each in a.regions if each.type == 'WINDOW')\n"
        "with bpy.context.temp_override(window=w, area=a, region=main):\n"
        "    bpy.ops.view3d.view_axis(type='FRONT')\n"
        "    bpy.ops.view3d.view_selected()\n"
        "a.spaces.active.overlay.show_overlays = False\n"
        "a.spaces.active.shading.color_type = 'TEXTURE'\n"
    )


def test_a_designers_way_from_garment_to_embroidery(desk: Desk) -> None:
    keep(desk, "1-garment")
    desk.click("stitchwork.patch_from_artwork")
    until(lambda: garment(desk, "len(obj.stitchwork.patches)"), "a patch")
    garment(desk, "setattr(obj.stitchwork.patches[0], 'exaggeration', 4.0)")
    keep(desk, "2-patch")

    desk.click("stitchwork.preview")
    until(lambda: "first look" in said(desk), "the first look")
    assert garment(desk, "obj.stitchwork.patches[0].applied")
    keep(desk, "3-first-look")

    desk.click("stitchwork.train")
    until(lambda: garment(desk, "bpy.context.scene.stitchwork.job_progress > 0.2"), "progress")
    # Blender loads pictures in the background.
    newest = "answer = [addon.panels._newest(each) for each in addon.link.polling.session.tasks]"
    assert all(desk.ask(newest))
    keep(desk, "4-training")
    finished(desk)
    assert "trained" in said(desk)
    style = str(garment(desk, "obj.stitchwork.patches[0].style"))
    assert (Path(style) / "style.json").is_file()

    desk.click("stitchwork.restyle")
    until(lambda: "is embroidered" in said(desk), "the embroidery")
    keep(desk, "5-embroidered")

    desk.click("stitchwork.revert")
    until(lambda: not garment(desk, "obj.stitchwork.patches[0].applied"), "the revert")
    assert garment(desk, "[m.name for m in bpy.data.materials if 'embroidered' in m.name]") == []


def test_cancel_leaves_the_garment_alone_and_the_timer_rests(desk: Desk) -> None:
    (desk.folder / "hold").touch()
    desk.click("stitchwork.train")
    until(lambda: tasks(desk), "the training")
    desk.click("stitchwork.job_cancel")
    finished(desk)
    assert "cancelled" in said(desk)
    still = "answer = not bpy.app.timers.is_registered(addon.link.polling._tick)"
    until(lambda: desk.ask(still), "the timer's rest")


def test_one_undo_takes_an_embroidery_back(desk: Desk) -> None:
    if not garment(desk, "len(obj.stitchwork.patches)"):
        garment(desk, "bpy.ops.stitchwork.patch_from_artwork() and None")
        garment(desk, "setattr(obj.stitchwork.patches[0], 'exaggeration', 4.0)")
        desk.ask("bpy.ops.ed.undo_push(message='a patch')")
    desk.click("stitchwork.preview")
    until(lambda: garment(desk, "obj.stitchwork.patches[0].applied"), "the first look")
    finished(desk)
    desk.ask(
        "w, a, r = view()\n"
        "with bpy.context.temp_override(window=w, area=a, region=r): bpy.ops.ed.undo()"
    )
    until(lambda: not garment(desk, "obj.stitchwork.patches[0].applied"), "the undo")
    assert garment(desk, "obj.material_slots[0].link") == "DATA"


def test_preferences_are_drawn(desk: Desk) -> None:
    desk.ask(
        "w, a, r = view()\n"
        "with bpy.context.temp_override(window=w):\n"
        "    bpy.ops.preferences.addon_show(module=addon.__name__)\n"
    )
    until(lambda: desk.ask("answer = len(bpy.context.window_manager.windows) == 2"), "preferences")
    desk.x("sleep", "1")
    keep(desk, "6-preferences")


def test_nothing_complained(desk: Desk) -> None:
    assert desk.errors() == []


def test_the_backend_ends_with_a_killed_blender(desk: Desk) -> None:
    desk.ask("if bpy.ops.stitchwork.backend_start.poll(): bpy.ops.stitchwork.backend_start()")
    ready = "answer = addon.link.polling.session.phase.value == 'ready'"
    until(lambda: desk.ask(ready), "the backend's start")
    pid = desk.ask("answer = addon.link.polling.session._process.pid")
    desk.close(kill=True)
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), "the backend's end", 5.0)
