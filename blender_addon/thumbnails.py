"""Small pictures of files for the panel, loaded by Blender in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy.utils.previews

__all__ = ["clear", "icon"]

_LIMIT = 200
_collection: Any = None


def icon(path: Path) -> int:
    """The icon of a picture file, 0 if it is not there; a changed file is loaded anew."""
    global _collection
    if bpy.app.background:
        return 0
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return 0
    if _collection is None:
        _collection = bpy.utils.previews.new()
    key = f"{path}@{changed}"
    if key not in _collection:
        if len(_collection) >= _LIMIT:
            _collection.clear()
        _collection.load(key, str(path), "IMAGE")
    return int(_collection[key].icon_id)


def clear() -> None:
    """Free all pictures."""
    global _collection
    if _collection is not None:
        bpy.utils.previews.remove(_collection)
        _collection = None
