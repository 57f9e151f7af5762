"""Where the add-on keeps its files: styles, bakes, copies of photos, the log, the backend."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import bpy

from .client import LinkError

__all__ = ["ADDON", "data_folder", "import_file", "import_folder", "local_path", "style_folders"]

ADDON = __package__.rpartition(".")[0]
VARIABLE = "STITCHWORK_DATA"


def data_folder(*parts: str) -> Path:
    """A folder of the add-on's own, made if absent; it outlives updates of the extension.

    Raises:
        LinkError: it cannot be made.
    """
    if os.environ.get(VARIABLE):
        base = Path(os.environ[VARIABLE]).expanduser().absolute()
    elif ADDON.startswith("bl_ext."):
        base = Path(bpy.utils.extension_path_user(ADDON))
    else:
        base = Path(bpy.utils.user_resource("DATAFILES", path="stitchwork"))
    folder = base.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LinkError(
            f"{folder} cannot be made ({error.strerror}).",
            f"Set the variable {VARIABLE} to a folder that can be written to.",
        ) from error
    return folder


def local_path(value: str) -> Path:
    """The absolute path of a Blender path property (`//` means beside the .blend file)."""
    return Path(bpy.path.abspath(value)).expanduser().absolute()


def import_file(value: str, what: str) -> Path:
    """Copy a user's picture into the data folder, named by its content.

    The backend opens files under its own folders only, and a training of minutes must not depend
    on a photo that may be moved meanwhile.

    Args:
        value: path as typed; `//` is allowed.
        what: name of the picture in messages, such as "reference photo".

    Raises:
        LinkError: none is chosen, or it cannot be read or copied.
    """
    if not value:
        raise LinkError(f"No {what} is chosen.", f"Choose a {what} first.")
    source = local_path(value)
    try:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
        target = data_folder("inputs") / f"{digest}{source.suffix.lower()}"
        if not target.is_file():
            aside = target.with_suffix(".partial")
            shutil.copyfile(source, aside)
            aside.replace(target)
    except OSError as error:
        raise LinkError(
            f"The {what} {source} cannot be read ({error.strerror}).", "Choose another file."
        ) from error
    return target


def import_folder(folder: Path, roots: list[Path]) -> Path:
    """A style's folder as the backend may read it: itself under `roots`, or a copy in the library.

    Raises:
        LinkError: it cannot be copied.
    """
    real = folder.resolve()
    if any(real.is_relative_to(root.resolve()) for root in [data_folder(), *roots]):
        return real
    name = f"{real.name}-{hashlib.sha256(str(real).encode()).hexdigest()[:6]}"
    target = data_folder("styles") / name
    try:
        if not target.exists():
            aside = target.with_name(f".{name}.partial")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(real, aside)
            aside.replace(target)
    except (OSError, shutil.Error) as error:
        raise LinkError(
            f"The style {folder} cannot be copied into the library.",
            "Check the folder and the free space on the disk.",
        ) from error
    return target


def style_folders() -> list[Path]:
    """The trained styles in the add-on's library, newest first."""
    found = [each.parent for each in data_folder("styles").glob("*/style.json")]
    return sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)
