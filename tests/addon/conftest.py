"""Tests inside Blender: the add-on registered and an empty scene for each test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest

import blender_addon


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bpy.types.Scene]:
    """An empty scene in centimetre-sized units, with the add-on registered and its own folder."""
    monkeypatch.setenv("STITCHWORK_DATA", str(tmp_path / "data"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    fresh = not hasattr(bpy.types.Scene, "stitchwork")
    if fresh:
        blender_addon.register()
    yield bpy.context.scene
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if fresh:
        blender_addon.unregister()
