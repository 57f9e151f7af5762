"""`python -m backend.licences`: the licences of all packages that the backend needs.

Reads the metadata of the installed packages that a lock file names, and fails on a licence that
does not fit GPL-3.0-or-later (by the Free Software Foundation's list of compatible licences), and
on one that it does not know. What it does not name is not looked at, such as the libraries of
cuda.lock: NVIDIA's own, which only users of such a GPU fetch.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from packaging.markers import Marker

from backend.commands import EXIT_FAILED, EXIT_OK
from backend.errors import InputError

__all__ = ["Finding", "examine", "fits", "locked", "main"]

LOCK = Path(__file__).resolve().parents[1] / "backend.lock"

# SPDX names of licences whose code may be part of a GPL-3.0-or-later program.
FITTING = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC"),
    *("GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-2.1-or-later"),
    *("LGPL-3.0-only", "LGPL-3.0-or-later", "LGPL-2.1-only", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0"),
    *("CNRI-Python-GPL-Compatible", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
}
# Only ever widens what a licence allows.
EXCEPTIONS = {"LLVM-exception", "GCC-exception-3.1"}
# What packages write in the old free-text fields, small and without "license", as SPDX names.
NAMES = {
    "0bsd": "0BSD",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "3-clause bsd": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "isc": "ISC",
    "isc (iscl)": "ISC",
    "mit": "MIT",
    "mozilla public 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl-2.0": "MPL-2.0",
    "python software foundation": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zlib/libpng": "Zlib",
}
# Licences that do not fit as they are named, in packages that a person has looked at.
REVIEWED = {
    ("regex", "CNRI-Python"): (
        "named after the re module of CPython 2.6 and 3.1, from which it comes; "
        "Python 2.0.1 and later are under terms that fit"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A package and its licence.

    Attributes:
        problem: why it fails; empty if the licence fits.
        note: why a licence that would fail does not, where a person has looked.
    """

    package: str
    version: str
    licence: str
    problem: str = ""
    note: str = ""


def locked(lock: Path) -> list[str]:
    """Names of the packages that a lock file is for here, as they stand there.

    Raises:
        InputError: it cannot be read, or names no package.
    """
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{lock}: cannot be read.", "Give the path of a lock file.") from error
    found = [
        re.match(r"\s*([A-Za-z0-9][\w.-]*)[^;]*(?:;(.*?)(?:\\|\s--hash|$))?", line)
        for line in lines
    ]
    names = [each[1] for each in found if each and (not each[2] or Marker(each[2]).evaluate())]
    if not names:
        raise InputError(f"{lock}: this names no package.", "Give the path of a lock file.")
    return names


def examine(
    packages: Sequence[str], metadata: Callable[[str], Message] | None = None
) -> list[Finding]:
    """The licences of packages, one finding each, in the order given.

    Args:
        metadata: reads a package's core metadata, raising PackageNotFoundError; the installed
            packages' own if absent.
    """
    read: Callable[[str], Message] = metadata or importlib.metadata.metadata  # type: ignore[assignment]
    findings = []
    for name in packages:
        try:
            about = read(name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "", "", "is not installed, so its licence is not known"))
            continue
        findings.append(_finding(name, about))
    return findings


def _finding(name: str, about: Message) -> Finding:
    version = str(about["Version"] or "")
    licence = _licence(about)
    if not licence:
        return Finding(name, version, "", "states no licence")
    bad, notes = _unfitting(licence, name)
    if not bad:
        return Finding(name, version, licence, note="; ".join(notes))
    return Finding(name, version, licence, f"does not fit or is not known: {', '.join(bad)}")


def _licence(about: Message) -> str:
    """The licence as SPDX names it; what packages wrote before SPDX is translated if known."""
    expression = str(about["License-Expression"] or "").strip()
    if expression:
        return expression
    # Several classifiers mean "one of them" or "all of them"; the stricter reading is safe.
    trove = [str(each) for each in about.get_all("Classifier") or []]
    stated = [each.split(" :: ")[-1] for each in trove if each.startswith("License ::")]
    stated = [_spdx(each) for each in stated if each != "OSI Approved"]
    if stated:
        return " AND ".join(sorted(set(stated)))
    # The field held anything from a name to the whole text; its first line says enough.
    return _spdx(str(about["License"] or "").strip().partition("\n")[0][:80])


def _spdx(text: str) -> str:
    plain = re.sub(r",? *\blicense\b,? *", " ", text, flags=re.IGNORECASE)
    return NAMES.get(" ".join(plain.split()).lower(), text)


def fits(expression: str) -> bool:
    """Whether code under an SPDX licence expression may be part of a GPL-3.0-or-later program."""
    return not _unfitting(expression, "")[0]


def _unfitting(expression: str, package: str) -> tuple[list[str], list[str]]:
    """Licences of an expression that keep it from fitting, and notes on reviewed ones."""
    tokens = re.findall(r"[()]|[^\s()]+", expression)
    bad, notes = _either(tokens, package)
    # What the grammar could not read, such as free text or a bracket too many.
    return (bad, notes) if not tokens else ([expression], [])


def _either(tokens: list[str], package: str) -> tuple[list[str], list[str]]:
    """`A OR B`: one that fits is enough. Takes what it reads off the tokens' front."""
    choices = [_both(tokens, package)]
    while tokens[:1] == ["OR"]:
        tokens.pop(0)
        choices.append(_both(tokens, package))
    return min(choices, key=lambda each: len(each[0]))


def _both(tokens: list[str], package: str) -> tuple[list[str], list[str]]:
    bad, notes = _one(tokens, package)
    while tokens[:1] == ["AND"]:
        tokens.pop(0)
        more, further = _one(tokens, package)
        bad, notes = bad + more, notes + further
    return bad, notes


def _one(tokens: list[str], package: str) -> tuple[list[str], list[str]]:
    name = tokens.pop(0) if tokens else ""
    if name == "(":
        inner = _either(tokens, package)
        return inner if tokens and tokens.pop(0) == ")" else (["("], [])
    if tokens[:1] == ["WITH"]:
        exception = (tokens.pop(0), tokens.pop(0) if tokens else "")[1]
        if exception not in EXCEPTIONS:
            return [f"{name} WITH {exception}"], []
    if name in FITTING:
        return [], []
    reason = REVIEWED.get((package, name))
    return ([], [f"{name}: {reason}"]) if reason else ([name], [])


def main(arguments: Sequence[str] | None = None) -> int:
    """List the licences; 1 if one does not fit, is not known or cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.licences",
        description="Lists the licences of the packages in lock files, as installed here, and "
        "fails on those that do not fit GPL-3.0-or-later.",
    )
    parser.add_argument(
        "locks", nargs="*", type=Path, default=[LOCK], metavar="LOCK", help="default: backend.lock"
    )
    options = parser.parse_args(arguments)
    try:
        names = [name for lock in options.locks for name in locked(lock)]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    findings = examine(names)
    width = max(len(f"{each.package} {each.version}") for each in findings)
    for each in findings:
        note = f"  ({each.note})" if each.note else ""
        print(f"{f'{each.package} {each.version}':{width}}  {each.licence or '?'}{note}")
    failed = [each for each in findings if each.problem]
    for each in failed:
        print(f"error: {each.package}: {each.problem}", file=sys.stderr)
    print(f"{len(findings)} packages, {len(failed)} with a licence that does not fit")
    return EXIT_FAILED if failed else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
