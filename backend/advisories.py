"""`python -m backend.advisories FILE`: packages of the backend that advisories warn of, offline.

FILE holds advisories in the OSV format (ossf.github.io/osv-schema): one, a list, {"vulns": […]},
or a zip of such files as osv.dev offers for the whole of PyPI. Looked at are the versions in lock
files and the versions installed here. With or without advisories, every line of a lock file must
pin one version; `--hashes` asks for hashes too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from backend.commands import EXIT_FAILED, EXIT_OK
from backend.errors import InputError

__all__ = ["Pin", "Warned", "affects", "main", "pins", "problems", "read", "warned"]

LOCK = Path(__file__).resolve().parents[1] / "backend.lock"
MOST_BYTES = 64 * 2**20  # of one advisory file, unpacked
_HASH = re.compile(r"\s--hash[= ](sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\b")


@dataclass(frozen=True, slots=True)
class Pin:
    """A line of a lock file."""

    lock: Path
    text: str
    name: str = ""
    version: str = ""
    hashes: int = 0


@dataclass(frozen=True, slots=True)
class Warned:
    """A version that an advisory warns of.

    Attributes:
        where: "locked", "installed", or both.
        fixed: versions that put it right, as far as the advisory says.
    """

    package: str
    version: str
    where: str
    id: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    fixed: tuple[str, ...] = ()


def pins(lock: Path) -> list[Pin]:
    """The lines of a lock file, continued ones joined.

    Raises:
        InputError: it cannot be read, or has none.
    """
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{lock}: cannot be read.", "Give the path of a lock file.") from error
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    found = [
        _pin(lock, line) for line in (re.sub(r"(^|\s)#.*", "", each) for each in lines) if line
    ]
    if not found:
        raise InputError(f"{lock}: this names no package.", "Give the path of a lock file.")
    return found


def _pin(lock: Path, line: str) -> Pin:
    plain, hashes = _HASH.sub("", line).strip(), len(_HASH.findall(line))
    try:
        wanted = Requirement(plain)
        (only,) = wanted.specifier or [None]
        pinned = only is not None and only.operator == "==" and wanted.url is None
        version = str(Version(only.version)) if only is not None and pinned else ""
    except (InvalidRequirement, InvalidVersion, ValueError):  # ValueError: several conditions
        return Pin(lock, line.strip())
    return Pin(lock, line.strip(), canonicalize_name(wanted.name), version, hashes)


def problems(found: Sequence[Pin], *, hashes: bool = False) -> list[str]:
    """Lines of lock files that do not say exactly what is installed."""
    wrong = [
        f"{each.lock.name}: {each.text[:80]!r} does not pin one version"
        for each in found
        if not each.version
    ]
    if hashes:
        wrong += [
            f"{each.lock.name}: {each.name} {each.version} has no hash"
            for each in found
            if each.version and not each.hashes
        ]
    return wrong


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The advisories in a file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for each in archive.infolist():
                    if each.filename.endswith(".json") and each.file_size <= MOST_BYTES:
                        yield from _advisories(path, archive.read(each))
        elif path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: it is larger than advisories are.", "Give OSV's JSON.")
        else:
            yield from _advisories(path, path.read_bytes())
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).", "Give OSV's JSON or zip.") from error


def _advisories(path: Path, raw: bytes) -> Iterator[dict[str, Any]]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: this is not JSON.", "Give OSV's JSON or zip.") from error
    if isinstance(data, dict) and isinstance(data.get("vulns"), list):
        data = data["vulns"]
    for each in data if isinstance(data, list) else [data]:
        if not (isinstance(each, dict) and isinstance(each.get("id"), str)):
            raise InputError(f"{path}: this is no advisory of OSV's form.", "Give OSV's JSON.")
        yield each


def warned(
    advisories: Iterator[dict[str, Any]],
    locked: Sequence[Pin],
    installed: Callable[[str], str] = importlib.metadata.version,
) -> list[Warned]:
    """What the advisories warn of, by package.

    Args:
        installed: a package's version here, raising PackageNotFoundError.

    Raises:
        InputError: an advisory has a form that is not understood.
    """
    versions = _versions(locked, installed)
    found = []
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        try:
            for name, affected in _named(advisory):
                for version, where in versions.get(name, {}).items():
                    if affects(affected, version):
                        found.append(_warning(advisory, affected, name, version, where))
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"The advisory {advisory['id']} is not understood ({error}).", "Fetch it again."
            ) from error
    return sorted(set(found), key=lambda each: (each.package, each.id, each.version))


def _versions(locked: Sequence[Pin], installed: Callable[[str], str]) -> dict[str, dict[str, str]]:
    """Package → version → where it is."""
    found: dict[str, dict[str, str]] = {}
    for each in locked:
        if not each.name:
            continue
        versions = found.setdefault(each.name, {})
        if each.version:
            versions[each.version] = "locked"
        try:
            here = installed(each.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        versions[here] = "locked, installed" if here == each.version else "installed"
    return found


def _named(advisory: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for affected in advisory.get("affected") or []:
        package = affected.get("package") or {}
        if package.get("ecosystem") == "PyPI":
            yield canonicalize_name(package["name"]), affected


def _warning(
    advisory: dict[str, Any], affected: dict[str, Any], name: str, version: str, where: str
) -> Warned:
    ranges = [each for each in affected.get("ranges") or [] if each.get("type") != "GIT"]
    fixed = {str(event["fixed"]) for each in ranges for event in each["events"] if "fixed" in event}
    return Warned(
        name,
        version,
        where,
        advisory["id"],
        tuple(map(str, advisory.get("aliases") or ())),
        " ".join(str(advisory.get("summary") or "").split())[:200],
        tuple(sorted(fixed)),
    )


def affects(affected: dict[str, Any], version: str) -> bool:
    """Whether one of an advisory's `affected` entries means a version (OSV schema, "evaluation").

    A version that cannot be compared counts as meant: better one warning too many.
    """
    try:
        mine = Version(version)
    except InvalidVersion:
        return True
    for listed in affected.get("versions") or []:
        try:
            # 2.6.0+cpu is a build of 2.6.0.
            if Version(listed) in (mine, Version(mine.public)):
                return True
        except InvalidVersion:
            if listed == version:
                return True
    return any(
        _in_range(each["events"], mine)
        for each in affected.get("ranges") or []
        if each.get("type") in ("ECOSYSTEM", "SEMVER")
    )


def _in_range(events: Sequence[dict[str, Any]], version: Version) -> bool:
    """Whether it lies between an "introduced" and what ends that."""
    public = Version(version.public)
    turns = []
    for event in events:
        ((kind, at),) = event.items()
        if kind not in ("introduced", "fixed", "last_affected", "limit"):
            continue
        try:
            turns.append((Version("0.dev0") if at == "0" else Version(at), kind))
        except InvalidVersion:
            if at != "*":
                return True
    meant = False
    # "introduced" of a version goes before what ends at the same.
    for at, kind in sorted(turns, key=lambda each: (each[0], each[1] != "introduced")):
        if kind == "introduced" and public >= at:
            meant = True
        elif (kind in ("fixed", "limit") and public >= at) or (
            kind == "last_affected" and public > at
        ):
            meant = False
    return meant


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what advisories warn of and what is not pinned; 1 if there is anything."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.advisories",
        description="Compares locked and installed packages with advisories in the OSV format, "
        "without a network, and checks that lock files pin one version of each.",
    )
    parser.add_argument(
        "advisories", nargs="?", type=Path, metavar="FILE", help="OSV JSON, or a zip of it"
    )
    parser.add_argument(
        "--lock", action="append", type=Path, metavar="FILE", help="default: backend.lock"
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ID", help="an advisory that was looked at"
    )
    parser.add_argument("--hashes", action="store_true", help="fail where a hash is missing")
    options = parser.parse_args(arguments)
    try:
        locked = [pin for lock in options.lock or [LOCK] for pin in pins(lock)]
        wrong = problems(locked, hashes=options.hashes)
        given = read(options.advisories) if options.advisories else iter(())
        found = warned(given, locked)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    ignored = [each for each in found if {each.id, *each.aliases} & set(options.ignore)]
    left = [each for each in found if each not in ignored]
    for each in left:
        names = ", ".join([each.id, *each.aliases])
        fixed = f"; fixed in {', '.join(each.fixed)}" if each.fixed else ""
        print(f"{each.package} {each.version} ({each.where}): {names}: {each.summary}{fixed}")
    for text in wrong:
        print(f"error: {text}", file=sys.stderr)
    hashed = sum(each.hashes > 0 for each in locked)
    print(
        f"{len(locked)} packages, {hashed} with hashes, {len(left)} warnings, "
        f"{len(ignored)} ignored, {len(wrong)} problems with pins"
    )
    return EXIT_FAILED if left or wrong else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
