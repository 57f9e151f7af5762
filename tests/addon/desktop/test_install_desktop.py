"""Install in the preferences of a desktop Blender: its progress, and what it says of a bad Python.

A shell script takes the place of Python and pip, so nothing is fetched.
"""

from __future__ import annotations

import stat

import pytest

from tests.addon.desktop.desk import Desk, until
from tests.addon.desktop.test_panel_desktop import keep, said

pytestmark = pytest.mark.desktop

UNFIT = "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'ensurepip'\" >&2; exit 1\n"
SLOW = """#!/bin/sh
case "$1" in -c) exit 0 ;; esac
case "$2" in
venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
pip)
  echo "Collecting torch==2.13.0"
  echo "  Downloading torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl (181.0 MB)"
  mkdir -p "$TMPDIR/pip-unpack-1"
  part="$TMPDIR/pip-unpack-1/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
  head -c 60000000 /dev/zero > "$part"
  while [ -e "{hold}" ]; do sleep 0.1; done ;;
esac
"""
DRAWN = (
    "made = addon.link.polling.installer()\n"
    "answer = [made.progress, made.message] if made is not None else None"
)


def press(desk: Desk, script: str) -> None:
    """Choose a Python for Install in the preferences, and press Install."""
    python = desk.folder / "any-python"
    python.write_text(script)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    desk.ask(
        "bpy.context.preferences.system.use_online_access = True\n"
        f"chosen = bpy.context.preferences.addons[addon.__name__].preferences\n"
        f"chosen.install_python = {str(python)!r}\n"
        "bpy.ops.stitchwork.backend_install()"
    )


@pytest.fixture(scope="module", autouse=True)
def preferences(desk: Desk) -> None:
    desk.ask(
        "w, a, r = view()\n"
        "with bpy.context.temp_override(window=w):\n"
        "    bpy.ops.preferences.addon_show(module=addon.__name__)\n"
    )
    until(lambda: desk.ask("answer = len(bpy.context.window_manager.windows) == 2"), "preferences")


def test_a_python_that_makes_no_environments_is_told_with_its_remedy(desk: Desk) -> None:
    press(desk, UNFIT)
    until(lambda: "ensurepip" in said(desk), "the failure")
    assert "sudo apt install python3-venv" in said(desk)
    desk.x("sleep", "1")
    keep(desk, "7-install-unfit")


def test_the_progress_of_a_download_is_drawn_and_the_end_is_said(desk: Desk) -> None:
    hold = desk.folder / "hold-install"
    hold.touch()
    press(desk, SLOW.format(hold=hold))
    until(lambda: "60 of 181 MB" in str(desk.ask(DRAWN)), "the download")
    share, _ = desk.ask(DRAWN)
    assert 0.1 < share < 0.4
    desk.x("sleep", "1")
    keep(desk, "8-install-progress")
    hold.unlink()
    until(lambda: "is installed" in said(desk), "the end")


def test_nothing_complained(desk: Desk) -> None:
    assert desk.errors() == []
