"""The hashes in the lock files: `python build.py lock` renews them.

A lock file is its own input. Change a version or add a line, and this asks pip for the file that
each system below would install, and writes all their hashes beneath the line. Only wheels count:
nothing is built from source. For torch the builds in PyTorch's own indexes are asked for too; if
they tell none now (they cannot be reached, or name no hash), what was there is kept for the same
version. Needs the standard library and pip.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LOCKS", "Line", "Lock", "LockError", "parse", "render", "renew"]

# The first that tells hashes without fetching whole wheels; a file of its own, pinned like all.
PIP = "pip==26.3 --hash=sha256:f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13\n"


def _linux(machine: str) -> tuple[str, ...]:
    """Tags of wheels for glibc 2.28 (Blender's oldest) and before, the newest first."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1)]
    return (*tags, *(f"manylinux{year}_{machine}" for year in (2014, 2010, 1)))


SYSTEMS = {
    "Linux x86-64": _linux("x86_64"),
    "Linux ARM": _linux("aarch64"),
    "macOS ARM": ("macosx_14_0_arm64",),
    "Windows x86-64": ("win_amd64",),
}
LINUX = ("Linux x86-64", "Linux ARM")


@dataclass(frozen=True, slots=True)
class Lock:
    """Whom a lock file is for: every system on which a Python of these versions installs it."""

    pythons: tuple[str, ...] = ("3.11",)
    systems: tuple[str, ...] = tuple(SYSTEMS)


# The backend is installed into whatever Python a Blender has; build.py's environments are 3.11.
LOCKS = {
    "backend.lock": Lock(pythons=("3.11", "3.12", "3.13")),
    "cuda.lock": Lock(pythons=("3.11", "3.12", "3.13"), systems=LINUX),
    "test.lock": Lock(),
    "blender.lock": Lock(systems=("Linux x86-64", "macOS ARM", "Windows x86-64")),
    "stress.lock": Lock(systems=("Linux x86-64",)),
}
# Builds of torch in indexes of their own: folder there, and whom it is for.
BUILDS = {"cpu": LINUX, "cu130": ("Windows x86-64",)}

_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;,\\]+)(?P<marker>.*)")
_HASH = re.compile(r"\s+--hash=sha256:([0-9a-f]{64})")
_MISSING = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+?)===")


class LockError(Exception):
    """A lock file cannot be read, or the index does not have what it names."""


@dataclass(slots=True)
class Line:
    """A comment (no name) or a requirement with the sha256 of every file that may be installed."""

    text: str = ""
    name: str = ""
    version: str = ""
    marker: str = ""
    hashes: set[str] = field(default_factory=set)


def parse(text: str) -> list[Line]:
    """The lines of a lock file.

    Raises:
        LockError: a line pins no single version.
    """
    lines = []
    for each in re.sub(r"\\\r?\n", " ", text).splitlines():
        if not each.strip() or each.lstrip().startswith("#"):
            lines.append(Line(each))
            continue
        found = _LINE.fullmatch(_HASH.sub("", each).strip())
        if found is None or "*" in found["version"]:
            raise LockError(f"{each.strip()[:80]!r} does not pin one version.")
        marker = " ".join(found["marker"].split())
        if marker and not marker.startswith(";"):
            raise LockError(f"{each.strip()[:80]!r} is not understood.")
        hashes = set(_HASH.findall(each))
        lines.append(Line("", found["name"], found["version"], marker, hashes))
    return lines


def render(lines: Iterable[Line]) -> str:
    """The text of a lock file."""
    made = []
    for each in lines:
        pin = f"{each.name}=={each.version}{f' {each.marker}' if each.marker else ''}"
        rows = [pin, *(f"    --hash=sha256:{one}" for one in sorted(each.hashes))]
        made.append(" \\\n".join(rows) if each.name else each.text)
    return "\n".join(made) + "\n"


def renew(root: Path, torch_index: str) -> list[str]:
    """Write the hashes into all lock files in `root`.

    Args:
        torch_index: address under which each build of torch has an index.

    Returns:
        what was found, and what was not, in words.

    Raises:
        LockError: a lock file is not understood, or no file was found for a line.
    """
    told = []
    with tempfile.TemporaryDirectory() as name:
        pip = _pip(Path(name))
        for lock, whom in LOCKS.items():
            path = root / lock
            lines = parse(path.read_text(encoding="utf-8"))
            wanted = [each for each in lines if each.name]
            before = [each.hashes for each in wanted]
            for each in wanted:
                each.hashes = set()
            for system in whom.systems:
                for python in whom.pythons:
                    here = f"{system}, Python {python}"
                    absent = _ask(pip, wanted, system, python)
                    told += [f"{lock}: {each} has no wheel for {here}" for each in absent]
            for each, old in zip(wanted, before):
                if not each.hashes:
                    raise LockError(f"{lock}: no wheel of {each.name} {each.version} was found.")
                if each.name == "torch":
                    # A file that was there before: it is the same version.
                    each.hashes |= old if each.hashes & old else set()
                    told += _ask_for_builds(pip, each, whom, torch_index)
            aside = path.with_suffix(".new")
            aside.write_text(render(lines), encoding="utf-8")
            os.replace(aside, path)
            files = sum(len(each.hashes) for each in wanted)
            told.append(f"{lock}: {len(wanted)} packages, {files} files")
    return told


def _pip(folder: Path) -> list[str]:
    """A pip that can do it, in an environment of its own."""
    python = folder / "pip" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (folder / "pip.txt").write_text(PIP)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "pip")], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--require-hashes", "-r", str(folder / "pip.txt")]
    if subprocess.run(install).returncode:
        raise LockError("pip could not fetch a newer pip; its words are above.")
    return pip


def _ask(
    pip: Sequence[str], lines: Sequence[Line], system: str, python: str, *more: str, local: str = ""
) -> list[str]:
    """Add the hashes of what pip would install there.

    Args:
        more: arguments of pip.
        local: end of the version that is meant, as in +cpu.

    Returns:
        names of packages that have no wheel for it.

    Raises:
        LockError: pip failed for another reason.
    """
    wanted, absent = {_plain(each.name): each for each in lines}, []
    with tempfile.TemporaryDirectory() as name:
        asked, report = Path(name) / "asked.txt", Path(name) / "report.json"
        # Nothing is fetched but what wheels say of themselves, and nothing is installed.
        command = [*pip, "install", "--quiet", "--dry-run", "--use-feature=fast-deps", *more]
        command += ["--ignore-installed", "--no-deps", "--only-binary=:all:"]
        command += ["--target", name, "--python-version", python]
        command += [part for tag in SYSTEMS[system] for part in ("--platform", tag)]
        command += ["--report", str(report), "-r", str(asked)]
        while wanted:
            # Three equals: not another build of the version, as 2.13.0+cpu is of 2.13.0.
            rows = [f"{each.name}==={each.version}{local}\n" for each in wanted.values()]
            asked.write_text("".join(rows))
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                for each in json.loads(report.read_text(encoding="utf-8"))["install"]:
                    line = wanted[_plain(each["metadata"]["name"])]
                    archive = each["download_info"].get("archive_info", {})
                    found = archive.get("hashes", {}).get("sha256")
                    line.hashes |= {found} if found else set()
                break
            missing = _MISSING.search(done.stderr)
            gone = wanted.pop(_plain(missing[1]), None) if missing else None
            if gone is None:
                raise LockError(f"pip failed:\n{done.stderr[-2000:]}")
            absent.append(gone.name)
    return absent


def _ask_for_builds(pip: Sequence[str], torch: Line, whom: Lock, index: str) -> list[str]:
    """Add the hashes of torch's other builds; what could not be found is returned in words."""
    told = []
    for build, systems in BUILDS.items():
        only = ("--index-url", f"{index}/{build}", "--retries", "1", "--timeout", "20")
        for system in systems:
            for python in whom.pythons:
                found = Line("", torch.name, torch.version)
                _ask(pip, [found], system, python, *only, local=f"+{build}")
                torch.hashes |= found.hashes
                if not found.hashes:
                    here = f"{system}, Python {python}"
                    told.append(f"torch+{build} for {here}: no hash is told; earlier ones are kept")
    return told


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
