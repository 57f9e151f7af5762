"""The main button in a desktop Blender with the real backend: followed, cancelled, taken back.

Trains the starter on the sample photo, so it takes minutes:

    STITCHWORK_DESK_BACKEND=.venvs/backend/bin/python pytest -m desktop tests/addon/desktop

STITCHWORK_DESK_STEPS shortens the training.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.addon.desktop.desk import Desk, until

pytestmark = pytest.mark.desktop

PICTURES = os.environ.get("STITCHWORK_PICTURES")
# Steps of each stage of the training, for a slow machine; the profile's own without it.
STEPS = os.environ.get("STITCHWORK_DESK_STEPS", "")
MINUTES = 20 * 60.0
# Blender may pause for a bake and for the slow redraws of a software renderer, not for a job.
LONGEST_PAUSE = 10.0
SHOWN = (
    "panels, polling = addon.panels, addon.link.polling\n"
    "answer = [[panels._share(t), panels._progress_text(t)] for t in polling.session.tasks]"
)


def keep(desk: Desk, name: str) -> None:
    """A screenshot in material preview, which is too slow in software to leave it on."""
    if PICTURES:
        desk.ask("view()[1].spaces.active.shading.type = 'MATERIAL'")
        desk.x("sleep", "6")
        # Until its shaders are compiled everything is grey.
        compiling = "answer = bpy.app.is_job_running('SHADER_COMPILATION')"
        until(lambda: not desk.ask(compiling), "the shaders")
        desk.x("sleep", "2")
        desk.ask("answer = 0")
        shutil.copy(desk.picture(desk.folder / f"{name}.png"), PICTURES)
        desk.ask("view()[1].spaces.active.shading.type = 'SOLID'")


def said(desk: Desk) -> str:
    return str(desk.ask("n = addon.link.polling.notice; answer = n.text + ' ' + n.remedy"))


def patch(desk: Desk, expression: str) -> object:
    obj = "bpy.context.view_layer.objects.active.stitchwork"
    return desk.ask(f"patch = {obj}.patches[0]; answer = {expression}")


def follow(desk: Desk, end: str) -> list[tuple[float, str]]:
    """Wait for the panel to say `end`; everything that its progress bar showed until then."""
    shown: list[tuple[float, str]] = []

    def look() -> bool:
        for share, text in desk.ask(SHOWN):
            if not shown or shown[-1] != (share, text):
                shown.append((share, text))
        return end in said(desk)

    until(look, end, MINUTES)
    return shown


@pytest.fixture(scope="module")
def before(real_desk: Desk) -> dict[str, str]:
    """The sample T-shirt from the front, and a hash of all that is in the file."""
    real_desk.ask(
        "bpy.context.preferences.view.smooth_view = 0\n"
        "bpy.data.objects.remove(bpy.data.objects['Cube'])\n"
        "bpy.ops.stitchwork.load_sample()\n"
        "w, a, r = view()\n"
        "main = next(each for each in a.regions if each.type == 'WINDOW')\n"
        "with bpy.context.temp_override(window=w, area=a, region=main):\n"
        "    bpy.ops.view3d.view_axis(type='FRONT')\n"
        "    bpy.ops.view3d.view_selected()\n"
        "a.spaces.active.region_3d.view_distance *= 0.8\n"
        "a.spaces.active.region_3d.view_location.x += 0.1\n"
        "a.spaces.active.overlay.show_overlays = False\n"
        "a.spaces.active.shading.color_type = 'TEXTURE'\n"
    )
    owned = real_desk.ask("answer = owned()")
    assert isinstance(owned, dict)
    if STEPS:
        real_desk.ask(
            "import functools; tasks = addon.link.tasks; wanted = dict.fromkeys("
            f"('steps_one', 'steps_two'), {int(STEPS)})\n"
            "tasks.TrainJob = functools.partial(tasks.TrainJob, **wanted)"
        )
    real_desk.click("stitchwork.patch_from_artwork")
    active = "bpy.context.view_layer.objects.active"
    until(lambda: real_desk.ask(f"answer = len({active}.stitchwork.patches)"), "a patch")
    patch(real_desk, "setattr(patch, 'exaggeration', 4.0)")
    real_desk.ask("bpy.ops.ed.undo_push(message='Thread')")
    return owned


def test_cancel_leaves_everything_as_it_was(real_desk: Desk, before: dict[str, str]) -> None:
    real_desk.click("stitchwork.run_all")
    timed = "the time left"
    until(lambda: any("left" in text for _, text in real_desk.ask(SHOWN)), timed, MINUTES)
    real_desk.click("stitchwork.job_cancel", small=True)
    until(lambda: "cancelled" in said(real_desk), "the cancel")
    assert real_desk.ask("answer = owned()") == before
    styles = "answer = [f.name for f in addon.link.folders.style_folders()]"
    assert real_desk.ask(styles) == []


def test_the_main_button_embroiders_while_blender_stays_awake(
    real_desk: Desk, before: dict[str, str]
) -> None:
    real_desk.ask("pulses.append(Pulse())")
    real_desk.click("stitchwork.run_all")
    shown = follow(real_desk, "is embroidered")
    pulse = real_desk.ask("answer = pulses.pop().end()")
    print(pulse, *shown, sep="\n")
    keep(real_desk, "real-1-embroidered")
    assert patch(real_desk, "patch.applied")
    assert sum("left" in text for _, text in shown) > 10
    assert pulse["longest"] < LONGEST_PAUSE
    assert pulse["redraws"] > pulse["seconds"] / 4
    assert real_desk.ask("answer = owned()") != before


def test_undo_takes_it_back(real_desk: Desk, before: dict[str, str]) -> None:
    real_desk.x("mousemove", "400", "500", "sleep", "1", "key", "ctrl+z")
    until(lambda: not patch(real_desk, "patch.applied"), "the undo")
    assert real_desk.ask("answer = owned()") == before


def test_revert_takes_a_first_look_back(real_desk: Desk, before: dict[str, str]) -> None:
    real_desk.click("stitchwork.preview")
    follow(real_desk, "first look")
    assert real_desk.ask("answer = owned()") != before
    real_desk.click("stitchwork.toggle")
    keep(real_desk, "real-2-before")
    real_desk.click("stitchwork.revert")
    until(lambda: not patch(real_desk, "patch.applied"), "the revert")
    assert real_desk.ask("answer = owned()") == before


def test_nothing_complained(real_desk: Desk) -> None:
    assert real_desk.errors() == []


def test_nothing_runs_on_when_blender_is_terminated(
    real_desk: Desk, before: dict[str, str]
) -> None:
    real_desk.click("stitchwork.train")  # a style may be chosen already
    until(lambda: real_desk.ask(SHOWN), "the training's start")
    until(lambda: len(real_desk.below()) >= 2, "the service and its worker")
    left = real_desk.below()
    real_desk.terminate()
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in left), "their end", 60.0)
