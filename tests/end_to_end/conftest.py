"""The whole job once a session, at reduced steps: real Blender, a real backend process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "blender_addon" / "samples"

Blender = Callable[..., "subprocess.CompletedProcess[str]"]


def _python(variable: str, environment: str) -> Path:
    found = Path(os.environ.get(variable) or ROOT / ".venvs" / environment / "bin" / "python")
    if not found.exists():
        pytest.fail(f"{found} is missing: run the tests with `python build.py test`.")
    return found


@pytest.fixture(scope="session")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Blender:
    """Runs the interpreter that has bpy, with a data folder of its own and this backend."""
    python = _python("STITCHWORK_BLENDER_PYTHON", "blender")
    data = tmp_path_factory.mktemp("data")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        variables = {
            **os.environ,
            "STITCHWORK_BACKEND_PYTHON": sys.executable,
            "STITCHWORK_DATA": str(data),
            "HF_HUB_OFFLINE": "1",
        }
        return subprocess.run(
            [str(each) for each in (python, *arguments)],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=900,
        )

    return run


@dataclass(frozen=True)
class MainJob:
    """What one run of the main job left behind."""

    out: Path
    manifest: dict[str, Any]
    stdout: str

    def path(self, role: str) -> Path:
        return Path(self.manifest["outputs"][role])


@pytest.fixture(scope="session")
def main_job(blender: Blender, tmp_path_factory: pytest.TempPathFactory) -> MainJob:
    out = tmp_path_factory.mktemp("main_job")
    done = blender(
        *("-m", "blender_addon.headless", "run"),
        *("--garment", SAMPLES / "tshirt.blend"),
        *("--reference", SAMPLES / "reference.png"),
        *("--exaggeration", "6", "--steps-one", "12", "--steps-two", "4", "--steps", "6"),
        *("--out", out),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return MainJob(out, json.loads((out / "manifest.json").read_text()), done.stdout)
