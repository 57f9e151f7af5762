"""Manifests of a batch, and the files that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from running import artwork, embroidery, save
from shelving import style

__all__ = ["fill", "listed", "table"]


def fill(folder: Path) -> Path:
    """Two pieces of artwork, a photo and a trained style."""
    save(folder / "bird.png", artwork())
    save(folder / "fish.png", artwork(80, 64))
    save(folder / "photo.png", embroidery())
    style("satin").save(folder / "satin")
    return folder


def table(folder: Path, *rows: str, name: str = "batch.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def listed(folder: Path, data: Any) -> Path:
    path = folder / "batch.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path
