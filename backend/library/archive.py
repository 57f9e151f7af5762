"""A style as one file, to keep or to give away: a zip of JSON, PNG and safetensors, nothing else.

A file from somebody else is not trusted: names, sizes and contents are checked before anything is
put into the library, and nothing in it can run.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from safetensors import SafetensorError, safe_open

from backend.errors import InputError, ResourceError, StyleError
from backend.imaging.files import picture_size
from backend.library.shelf import free
from backend.styles import DESCRIPTION, WEIGHTS, Style, read_description, write_description

__all__ = ["export_style", "import_style"]

MIB = 2**20
_NEEDED = (DESCRIPTION, WEIGHTS, "reference.png", "design.png", "mask.png")
_ALLOWED = (*_NEEDED, "preview.png", "blocks.png")
# Far above what any profile makes.
_LARGEST = {".json": MIB, ".png": 128 * MIB, ".safetensors": 2048 * MIB}
_LONGEST_SIDE = 8192
_MOST_TENSORS = 8192
_TENSOR = re.compile(r"(unet\.[a-z0-9_.]{1,200}\.lora_)([AB])\.weight")
# The end of a zip without a comment; a style's has none and is never in the format for 4 GiB.
_END, _END_SIZE, _END_64, _END_64_SIZE = b"PK\x05\x06", 22, b"PK\x06\x07", 20
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
_AGAIN = "Ask for the file again, or export the style again."


def export_style(folder: Path, out: Path) -> None:
    """Write a style as one file; the same style gives the same bytes.

    Raises:
        StyleError: the style is damaged.
        InputError: there is something at `out`.
        ResourceError: it cannot be written.
    """
    Style.load(folder)
    if out.exists():
        raise InputError(f"{out}: there is something already.", "Give --out another name.")
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        temporary = Path(name)
        # Weights and PNG hardly shrink any further.
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for each in _ALLOWED:
                if (folder / each).is_file():
                    _add(archive, folder / each)
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
    except OSError as error:
        raise ResourceError(
            f"{out}: cannot be written ({error.strerror or error}).",
            "Choose a folder that may be written to, on a disk with free space.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, path: Path) -> None:
    about = zipfile.ZipInfo(path.name)  # of 1980: when a copy was made is nobody's business
    about.external_attr = (stat.S_IFREG | 0o644) << 16
    with path.open("rb") as source, archive.open(about, "w") as target:
        shutil.copyfileobj(source, target, MIB)


def import_style(file: Path, library: Path, name: str | None = None) -> Path:
    """Take a style from a file into a library; its folder. What is there is never overwritten.

    Args:
        name: for the style, in place of its own.

    Raises:
        InputError: the file is missing, is no style, or holds what does not belong in one; or
            there is a style of that name.
        StyleError: the style in it is damaged or of another schema.
        ResourceError: the library cannot be written, or its disk is full.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file.", "Check the path.")
    aside: Path | None = None
    try:
        library.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".import-", dir=library))
        with file.open("rb") as stream:
            _unpack(file, stream, aside)
        found = _checked(file, aside)
        target = free(library, name if name is not None else found)
        if target.name != found:
            write_description(aside, {**read_description(aside), "name": target.name})
        os.chmod(aside, 0o755)
        # Onto a folder that has come in the meantime this fails.
        os.rename(aside, target)
    except OSError as error:
        raise ResourceError(
            f"{library}: the style cannot be put there ({error.strerror or error}).",
            "Choose a folder that may be written to, on a disk with free space.",
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def _unpack(file: Path, stream: IO[bytes], folder: Path) -> None:
    size = _check_end(file, stream)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _check_members(file, members)
            if not all(0 <= each.header_offset < size for each in members):
                raise zipfile.BadZipFile("a part lies outside of the file")
            needed, free_bytes = sum(each.file_size for each in members), _free(folder)
            if needed > free_bytes:
                raise ResourceError(
                    f"{folder.parent}: the disk has {free_bytes // MIB} MiB free, the style needs "
                    f"{needed // MIB + 1} MiB.",
                    "Free some space, or choose another disk.",
                )
            for each in members:
                # Reads no more than the size that was checked, whatever the data unpack to.
                with archive.open(each) as source, (folder / each.filename).open("xb") as target:
                    shutil.copyfileobj(source, target, MIB)
    except _DAMAGED as error:
        raise InputError(f"{file}: the file is damaged or cut off.", _AGAIN) from error


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _check_end(file: Path, stream: IO[bytes]) -> int:
    """Refuse what is no zip, and one whose list of contents alone would fill the memory.

    Returns:
        bytes of the file.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _END_SIZE - _END_64_SIZE))
    tail = stream.read()
    end = tail[-_END_SIZE:]
    if len(end) < _END_SIZE or not end.startswith(_END) or end[-2:] != b"\0\0":
        raise InputError(
            f"{file}: this is no style file.", f"Give a file made by `export`. {_AGAIN}"
        )
    count, length = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if count > len(_ALLOWED) or length > 1024 * len(_ALLOWED) or tail.startswith(_END_64):
        raise InputError(f"{file}: it holds more than a style does.", _AGAIN)
    return size


def _check_members(file: Path, members: list[zipfile.ZipInfo]) -> None:
    for each in members:
        name = each.filename
        shown = ascii(each.orig_filename)
        if name not in _ALLOWED or each.orig_filename != name:
            outside = any(part in each.orig_filename for part in ("/", "\\", "..", "\0", ":"))
            what = "names a place outside of the style" if outside else "is no part of a style"
            raise InputError(f"{file}: {shown} in it {what}.", _AGAIN)
        mode = each.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise InputError(f"{file}: {shown} in it is no plain file.", _AGAIN)
        largest = _LARGEST[Path(name).suffix]
        if each.file_size > largest:
            raise InputError(
                f"{file}: {shown} in it has {each.file_size // MIB} MiB; "
                f"{largest // MIB} are the most.",
                _AGAIN,
            )
        if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{file}: {shown} in it is packed in an unknown way.", _AGAIN)
        if each.flag_bits & 1:
            raise InputError(f"{file}: {shown} in it is encrypted.", _AGAIN)
    names = [each.filename for each in members]
    for name in _ALLOWED:
        if names.count(name) > 1:
            raise InputError(f"{file}: {name} is in it more than once.", _AGAIN)
        if name in _NEEDED and name not in names:
            raise InputError(f"{file}: {name} is missing in it.", _AGAIN)


def _checked(file: Path, folder: Path) -> str:
    """The name of the style in `folder`, if all of it is sound."""
    try:
        data = read_description(folder)
        for path in sorted(folder.glob("*.png")):
            _check_picture(path)
        _check_weights(folder / WEIGHTS)
        style = Style.load(folder)
        if not style.reference.shape[:2] == style.design.shape[:2] == style.mask.shape:
            raise StyleError("its pictures differ in size.")
        if not all(bool(value.isfinite().all()) for value in style.weights.values()):
            raise StyleError("its weights are no numbers.")
    except StyleError as error:
        # The user knows the file, not the folder it is looked at in.
        message = error.message.replace(f"{folder}{os.sep}", "").replace(str(folder), "")
        remedy = error.remedy if "schema" in message else _AGAIN
        raise StyleError(f"{file}: {message}", remedy) from error
    name: str = data["name"]
    return name


def _check_picture(path: Path) -> None:
    with path.open("rb") as stream:
        png = stream.read(8) == b"\x89PNG\r\n\x1a\n"
    size = picture_size(path) if png else None
    if size is None:
        raise StyleError(f"{path.name} is no PNG picture.")
    if max(size) > _LONGEST_SIDE:
        raise StyleError(
            f"{path.name} has {size[1]} × {size[0]} pixels; {_LONGEST_SIDE} a side are the most."
        )


def _check_weights(path: Path) -> None:
    """See by the header that these are a LoRA's tensors, before any of them is read."""
    try:
        with safe_open(path, framework="np") as stored:
            names = list(stored.keys())
            shapes = {name: stored.get_slice(name).get_shape() for name in names}
            types = {stored.get_slice(name).get_dtype() for name in names}
    except (OSError, SafetensorError) as error:
        raise StyleError("the style's weights are damaged.") from error
    found = [_TENSOR.fullmatch(name) for name in names]
    if not names or len(names) > _MOST_TENSORS or not all(found):
        raise StyleError("its weights are not those of a style.")
    layers = {each[1] for each in found if each}
    for layer in layers:
        down, up = shapes.get(f"{layer}A.weight", []), shapes.get(f"{layer}B.weight", [])
        if len(down) not in (2, 4) or len(down) != len(up) or down[0] != up[1] or 0 in down + up:
            raise StyleError(f"its weights {layer}A and B do not fit each other.")
    if not types <= {"F32", "F16", "BF16"}:
        raise StyleError("its weights are of an unknown type.")
