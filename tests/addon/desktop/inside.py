"""Runs inside the desktop Blender: answers the test's questions from a timer.

A question is a file with a Python expression or statements; the answer is a file with the JSON of
the name `answer`. Buttons are pressed by the X server's mouse, not from here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

FOLDER = Path(os.environ["STITCHWORK_DESK"])
NAME = "bl_ext.user_default.stitchwork"
# Left and right of a row, and a small last button.
COLUMNS = (0.28, 0.62, 0.84)


def view() -> tuple[Any, Any, Any]:
    """The window, its 3D view, and the sidebar."""
    window = bpy.context.window_manager.windows[0]
    area = max(
        (each for each in window.screen.areas if each.type == "VIEW_3D"),
        key=lambda each: each.width * each.height,
    )
    region = next(each for each in area.regions if each.type == "UI")
    return window, area, region


def show_sidebar() -> None:
    """Open the sidebar; its tab can be chosen once it has been drawn."""
    _, area, _ = view()
    area.spaces.active.show_region_ui = True
    area.tag_redraw()


def show_tab() -> None:
    _, area, region = view()
    region.active_panel_category = "Stitchwork"
    area.tag_redraw()


def find(operator: str, columns: tuple[float, ...] = COLUMNS) -> Iterator[None]:
    """Look for an operator's button in the sidebar: hover, and copy its Python command.

    Args:
        columns: where to look, as shares of the sidebar's width.

    Returns:
        its place in the window, from the lower left, or None.
    """
    window, _, region = view()
    for share in columns:
        x = region.x + int(region.width * share)
        for y in range(region.y + region.height - 8, region.y + 4, -13):
            window.cursor_warp(x, y)
            yield
            if not hovers(operator):
                continue
            # On a slow machine the highlight trails the mouse by some rows.
            for behind in (0, 13, 26, 39, 52):
                window.cursor_warp(x, y + behind)
                for _ in range(12):
                    yield
                if hovers(operator):
                    return x, y + behind
    return None


def hovers(operator: str) -> bool:
    """Whether the mouse is over the operator's button, as Blender has noticed."""
    window, area, region = view()
    bpy.context.window_manager.clipboard = ""
    with bpy.context.temp_override(window=window, area=area, region=region):
        if bpy.ops.ui.copy_python_command_button.poll():
            bpy.ops.ui.copy_python_command_button()
    return bool(bpy.context.window_manager.clipboard.startswith(f"bpy.ops.{operator}("))


def owned() -> dict[str, str]:
    """A hash for each kind of data that a user owns in the .blend file."""
    addon = sys.modules[NAME]
    sys.modules.setdefault("blender_addon", addon)
    sys.modules.setdefault("blender_addon.garment", addon.garment)
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from garments import fingerprint

    return {
        kind: hashlib.sha256(repr(found).encode()).hexdigest()
        for kind, found in fingerprint().items()
    }


class Pulse:
    """Counts the main loop's turns and the view's redraws, and keeps the longest pause."""

    def __init__(self) -> None:
        self.turns, self.redraws, self.longest = 0, 0, 0.0
        self.began = self._last = time.monotonic()
        self._timer = self._turn  # registered and unregistered as one and the same
        bpy.app.timers.register(self._timer)
        space = bpy.types.SpaceView3D
        self._handler = space.draw_handler_add(self._redraw, (), "WINDOW", "POST_PIXEL")

    def _turn(self) -> float:
        now = time.monotonic()
        self.turns += 1
        self.longest, self._last = max(self.longest, now - self._last), now
        return 0.02

    def _redraw(self) -> None:
        self.redraws += 1

    def end(self) -> dict[str, float]:
        bpy.app.timers.unregister(self._timer)
        bpy.types.SpaceView3D.draw_handler_remove(self._handler, "WINDOW")
        seconds = time.monotonic() - self.began
        found = {"turns": self.turns, "redraws": self.redraws, "longest": self.longest}
        return {**found, "seconds": seconds}


pulses: list[Pulse] = []
steps: list[Iterator[None]] = []


def answer() -> float:
    if steps:
        try:
            next(steps[0])
        except StopIteration as end:
            steps.clear()
            reply({"answer": end.value})
        return 0.04
    question = FOLDER / "question.py"
    if question.is_file():
        names: dict[str, Any] = {"bpy": bpy, "view": view, "answer": None}
        names |= {"find": find, "show_sidebar": show_sidebar, "show_tab": show_tab}
        names |= {"owned": owned, "Pulse": Pulse, "pulses": pulses}
        names["addon"] = sys.modules.get(NAME)
        try:
            exec(compile(question.read_text(), "question", "exec"), names)  # noqa: S102
        except Exception:  # noqa: BLE001 - the test shows whatever went wrong
            names["error"] = traceback.format_exc()
        question.unlink()
        if isinstance(names["answer"], Iterator):
            steps.append(names["answer"])
        else:
            reply({name: names[name] for name in ("answer", "error") if name in names})
    return 0.05


def reply(data: dict[str, Any]) -> None:
    aside = FOLDER / "answer.partial"
    aside.write_text(json.dumps(data))
    aside.replace(FOLDER / "answer.json")


bpy.context.preferences.view.show_splash = False
bpy.app.timers.register(answer, persistent=True)
(FOLDER / "ready").touch()
