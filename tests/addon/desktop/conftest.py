"""One desktop Blender for all tests of this folder; skipped where its programs are missing."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addon.desktop.desk import NEEDED, ROOT, Desk, build_extension

FAKE = ROOT / "tests" / "addon" / "fake_service.py"


def stand_in(folder: Path, **settings: str) -> Path:
    """A program that takes the backend's place; see fake_service."""
    script = folder / "backend-python"
    exports = "".join(f"export {name}='{value}'\n" for name, value in settings.items())
    script.write_text(f"#!/bin/sh\n{exports}exec {sys.executable} {FAKE} serve\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def real(folder: Path, python: str) -> Path:
    """A program that runs this checkout's backend with the packages of `python`'s environment."""
    script = folder / "real-python"
    script.write_text(f"#!/bin/sh\nexport PYTHONPATH='{ROOT}'\nexec '{python}' \"$@\"\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.fixture(scope="session")
def blender_program() -> str:
    program = os.environ.get("BLENDER") or shutil.which("blender") or ""
    missing = [each for each in NEEDED if not shutil.which(each)]
    if not program or missing:
        pytest.skip(f"needs BLENDER and {', '.join(missing) or 'its programs'}")
    return program


@pytest.fixture(scope="session")
def archive(blender_program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_extension(blender_program, tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module")
def desk(
    blender_program: str, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """With the backend's stand-in."""
    folder = tmp_path_factory.mktemp("desk")
    backend = stand_in(folder, FAKE_STEPS="40", FAKE_SECONDS="0.5", FAKE_HOLD=str(folder / "hold"))
    made = Desk(blender_program, folder, archive, backend)
    yield made
    made.close()


@pytest.fixture(scope="module")
def real_desk(
    blender_program: str, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """With the real backend, which trains for minutes."""
    python = os.environ.get("STITCHWORK_DESK_BACKEND", "")
    if not python:
        pytest.skip("needs STITCHWORK_DESK_BACKEND, the Python of the backend's environment")
    folder = tmp_path_factory.mktemp("real")
    made = Desk(blender_program, folder, archive, real(folder, python))
    yield made
    made.close()
