"""Licences: what fits a GPL-3.0-or-later program, what does not, and what is not known."""

from __future__ import annotations

import importlib.metadata
from email.message import Message
from pathlib import Path

import pytest

from backend import licences
from backend.errors import InputError


def about(**fields: str | list[str]) -> Message:
    """A package's metadata, as an installed one would have it."""
    message = Message()
    message["Version"] = "1.0"
    for name, value in fields.items():
        for each in [value] if isinstance(value, str) else value:
            message[name.replace("_", "-")] = each
    return message


def classified(*names: str) -> Message:
    return about(Classifier=[f"License :: OSI Approved :: {name}" for name in names])


PACKAGES = {
    "modern": about(License_Expression="MIT AND (Apache-2.0 OR GPL-2.0-only)", License="ignored"),
    "classified": classified("BSD License", "Mozilla Public License 2.0 (MPL 2.0)"),
    "free-text": about(License="Apache License, 2.0\n\nAnd many more words."),
    "closed": about(License_Expression="MIT AND LicenseRef-Proprietary"),
    "gpl2": about(License_Expression="GPL-2.0-only"),
    "odd": about(License="Beerware"),
    "partly": classified("MIT License", "European Union Public Licence 1.0 (EUPL 1.0)"),
    "silent": about(License="UNKNOWN"),
    "empty": about(),
    "regex": about(License_Expression="Apache-2.0 AND CNRI-Python"),
    "other": about(License_Expression="Apache-2.0 AND CNRI-Python"),
}


def read(name: str) -> Message:
    if name not in PACKAGES:
        raise importlib.metadata.PackageNotFoundError(name)
    return PACKAGES[name]


def examine(name: str) -> licences.Finding:
    (finding,) = licences.examine([name], read)
    return finding


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("modern", "MIT AND (Apache-2.0 OR GPL-2.0-only)"),
        ("classified", "BSD-3-Clause AND MPL-2.0"),
        ("free-text", "Apache-2.0"),
        ("regex", "Apache-2.0 AND CNRI-Python"),
    ],
)
def test_what_fits_is_read_from_every_kind_of_metadata(name: str, licence: str) -> None:
    finding = examine(name)
    assert (finding.licence, finding.problem) == (licence, "")
    assert finding.version == "1.0"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("closed", "LicenseRef-Proprietary"),
        ("gpl2", "GPL-2.0-only"),
        ("odd", "Beerware"),
        ("partly", "EUPL"),
        ("silent", "UNKNOWN"),
        ("empty", "states no licence"),
        ("absent", "not installed"),
        ("other", "CNRI-Python"),
    ],
)
def test_what_does_not_fit_or_is_not_known_is_named(name: str, problem: str) -> None:
    assert problem in examine(name).problem


def test_a_person_s_review_holds_for_one_package_and_is_shown() -> None:
    assert "CPython" in examine("regex").note
    assert not examine("modern").note


@pytest.mark.parametrize(
    ("expression", "fitting"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH Commons-Clause", False),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-2.0-only OR Beerware AND MIT", False),
        ("(GPL-2.0-only OR MIT) AND BSD-3-Clause", True),
        ("GPL-2.0-only AND MIT OR ISC", True),
        ("MIT AND", False),
        ("MIT Beerware", False),
        ("(MIT", False),
        ("MIT)", False),
        ("MIT WITH", False),
        ("", False),
    ],
)
def test_expressions_are_understood(expression: str, fitting: bool) -> None:
    assert licences.fits(expression) is fitting


def test_all_that_the_backend_needs_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main([]) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    for name in licences.locked(licences.LOCK):
        assert f"{name} " in text


def test_one_that_does_not_fit_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "metadata", read)
    lock = tmp_path / "some.lock"
    elsewhere = "elsewhere==1 ; sys_platform == 'amiga' \\\n    --hash=sha256:00\n"
    closed = "closed==1.0 ; os_name != 'amiga' --hash=sha256:00\n"
    lock.write_text(f"# comment\nmodern==1\n{elsewhere}{closed}-r other\n\n")
    assert licences.locked(lock) == ["modern", "closed"]
    assert licences.main([str(lock)]) == 1
    shown = capsys.readouterr()
    assert "error: closed: does not fit or is not known: LicenseRef-Proprietary" in shown.err
    assert "modern" not in shown.err
    assert "2 packages, 1 with" in shown.out


def test_a_lock_file_that_names_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.lock").write_text("# nothing\n")
    with pytest.raises(InputError, match="names no package"):
        licences.locked(tmp_path / "empty.lock")
    assert licences.main([str(tmp_path / "none.lock")]) == 1
    assert "cannot be read" in capsys.readouterr().err
