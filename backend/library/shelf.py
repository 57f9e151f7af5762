"""Styles in a folder: listed, searched, found by name, renamed, put into the trash.

Every folder with a style.json is a style; a style's name and its folder's name are the same unless
somebody has changed one of them by hand, so both find it. Imports no heavy library.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from backend.errors import InputError, ResourceError, StyleError
from backend.library import TRASH
from backend.styles import is_style, read_description, write_description

__all__ = ["Entry", "check_name", "delete", "entries", "entry", "find", "free", "rename"]

LONGEST = 100
# What no file system of the three refuses, and no shell or terminal takes for something else.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{kind}{i}" for kind in ("com", "lpt") for i in "123456789"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A style in a library.

    Attributes:
        task: what it is a style of.
        kind: "flat" or "relief".
        created: ISO 8601.
        bytes: of all its files.
        problem: why it cannot be used; then only folder, name and bytes say anything.
    """

    folder: Path
    name: str
    task: str = ""
    profile: str = ""
    kind: str = ""
    created: str = ""
    thread_width_px: float = 0.0
    bytes: int = 0
    problem: str = ""


def entries(library: Path, words: str = "") -> list[Entry]:
    """The styles in a folder by name, damaged ones too.

    Args:
        words: all must occur in the name; case and accents do not count.

    Raises:
        InputError: there is no such folder.
        ResourceError: it may not be read.
    """
    if not library.is_dir():
        raise InputError(f"{library}: there is no such folder.", "Give the folder of your styles.")
    try:
        folders = [each for each in library.iterdir() if not each.name.startswith(".")]
    except OSError as error:
        raise _refused(library, error) from error
    found = [entry(each) for each in folders if is_style(each)]
    wanted = _plain(words).split()
    chosen = [
        each
        for each in found
        if all(word in _plain(f"{each.name} {each.folder.name}") for word in wanted)
    ]
    return sorted(chosen, key=lambda each: (_plain(each.name), each.folder.name))


def entry(folder: Path) -> Entry:
    """What is to be known of the style in `folder`."""
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    try:
        data = read_description(folder)
    except StyleError as error:
        return Entry(folder=folder, name=folder.name, bytes=size, problem=str(error))
    fields = ("name", "task", "profile", "kind", "created", "thread_width_px")
    return Entry(folder=folder, bytes=size, **{name: data[name] for name in fields})


def find(library: Path, name: str) -> Entry:
    """The one style of that name, or in the folder of that name.

    Raises:
        InputError: there is none, or more than one.
    """
    name = name.rstrip("/\\") or name  # a shell completes a folder's name with it
    present = entries(library)
    by_folder = [each for each in present if each.folder.name == name]
    found = by_folder or [each for each in present if each.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        folders = ", ".join(each.folder.name for each in found)
        raise InputError(
            f"{library}: {len(found)} styles are called {name!r}.",
            f"Give the name of one's folder: {folders}.",
        )
    names = [each.name for each in present]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    remedy = f"Did you mean {' or '.join(near)}?" if near else "`styles list` shows what there is."
    raise InputError(f"{library}: there is no style {name!r}.", remedy)


def check_name(name: str) -> None:
    """Refuse a name that could not be a folder's on every system.

    Raises:
        InputError: with the reason.
    """
    if not name.strip() or name != name.strip():
        reason = "is empty, or begins or ends with a space"
    elif len(name) > LONGEST or len(name.encode("utf-8", "replace")) > 2 * LONGEST:
        reason = f"has more than {LONGEST} letters"
    elif not name.isprintable():
        reason = "has signs that cannot be shown"
    elif _FORBIDDEN.search(name):
        reason = 'has one of < > : " / \\ | ? *'
    elif name[0] in ".-" or name[-1] == ".":
        reason = "begins with a dot or a dash, or ends with a dot"
    elif name.partition(".")[0].casefold() in _RESERVED:
        reason = "is a device's name on Windows"
    else:
        return
    raise InputError(f"The name {name!r} {reason}.", "Choose another name for the style.")


def free(library: Path, name: str) -> Path:
    """The folder a style of that name would have.

    Raises:
        InputError: the name cannot be used, or there is something already.
    """
    check_name(name)
    taken = [each.folder for each in entries(library) if each.name == name]
    if (library / name).exists() or taken:
        raise InputError(
            f"{taken[0] if taken else library / name}: there is a style {name!r} already, "
            "or something else in its place.",
            "Choose another name.",
        )
    return library / name


def rename(library: Path, name: str, new: str) -> Path:
    """Give a style and its folder another name; the folder's new path.

    Raises:
        InputError: there is no such style, or the new name is taken or cannot be used.
        StyleError: the style is damaged.
        ResourceError: the folder may not be written to.
    """
    style = find(library, name)
    data = read_description(style.folder)
    same = style.folder.name.casefold() == new.casefold()
    check_name(new)
    target = library / new if same else free(library, new)
    try:
        os.rename(style.folder, target)
        try:
            write_description(target, {**data, "name": new})
        except OSError:
            os.rename(target, style.folder)
            raise
    except OSError as error:
        raise _refused(library, error) from error
    return target


def delete(library: Path, name: str) -> Path:
    """Move a style into the library's trash; where it lies there. Nothing is erased.

    Raises:
        InputError: there is no such style.
        ResourceError: the folder may not be written to.
    """
    style = find(library, name)
    try:
        (library / TRASH).mkdir(exist_ok=True)
        target, count = library / TRASH / style.folder.name, 1
        while target.exists():
            count += 1
            target = target.with_name(f"{style.folder.name} ({count})")
        os.rename(style.folder, target)
    except OSError as error:
        raise _refused(library, error) from error
    return target


def _plain(text: str) -> str:
    """Without case and accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in parts if not unicodedata.combining(each))


def _refused(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{error.filename or folder}: {error.strerror or error}.",
        "Choose a folder that may be read and written.",
    )
