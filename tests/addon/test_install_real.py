"""Install pressed in a real Blender: the packaged extension builds its backend, and it answers.

Takes minutes and gigabytes of download, and needs `python build.py package` before it:

    python build.py test -m slow tests/addon/test_install_real.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2] / "build" / "repository"
PROGRAM = """
import json, sys, time
import bpy
import addon_utils
bpy.context.preferences.system.use_online_access = sys.argv[2] == "online"
addon_utils.enable("bl_pkg", default_set=True)
install = {"filepath": sys.argv[1], "repo": "user_default", "enable_on_install": True}
bpy.ops.extensions.package_install_files(**install)
addon = sys.modules["bl_ext.user_default.stitchwork"]
polling, shown = addon.link.polling, []
try:
    bpy.ops.stitchwork.backend_install()
except RuntimeError as error:
    print(error)
while (made := polling.installer()) is not None and not made.done:
    polling._tick()
    if not shown or shown[-1] != [made.progress, made.message]:
        shown.append([made.progress, made.message])
    time.sleep(0.3)
said = [polling.notice.text, polling.notice.remedy]
if not polling.notice.error:
    bpy.ops.stitchwork.backend_start()
    while polling.session.phase == "starting":
        polling.session.step()
        time.sleep(0.3)
found = {"shown": shown, "said": said, "phase": polling.session.phase}
found["folder"] = str(addon.link.folders.data_folder("backend"))
polling.session.stop()
print("\\n" + json.dumps(found))
"""


def press(folder: Path, access: str, **variables: str) -> dict[str, Any]:
    """What the preferences showed and said, and where the backend is."""
    archives = list(REPOSITORY.glob("stitchwork-*.zip"))
    if not archives:
        pytest.fail("There is no extension: run `python build.py package` first.")
    kept = {name: value for name, value in os.environ.items() if "STITCHWORK" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(archives[-1]), access],
        cwd=folder,
        env={**kept, "BLENDER_USER_RESOURCES": str(folder), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_pressing_install_ends_with_a_backend_that_starts(tmp_path: Path) -> None:
    found = press(tmp_path, "online")
    assert found["said"][0].startswith("The backend is installed.")
    assert found["phase"] == "ready"
    shares = [share for share, _ in found["shown"]]
    assert shares == sorted(shares)
    assert len(shares) > 20
    python = Path(found["folder"]) / "bin" / "python"
    doctor = subprocess.run(
        [python, "-m", "backend", "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert doctor.returncode == 0, doctor.stderr
    assert json.loads(doctor.stdout)


@pytest.mark.parametrize(
    ("access", "words"), [("offline", "online access is off"), ("online", "cannot be reached")]
)
def test_without_a_network_it_says_so(tmp_path: Path, access: str, words: str) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    nowhere |= {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    found = press(tmp_path, access, **nowhere)
    assert words in found["said"][0]
    assert found["said"][1]
    assert found["phase"] == "off"
