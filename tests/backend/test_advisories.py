"""Advisories are compared with what is locked and installed; lock files pin what they name."""

from __future__ import annotations

import importlib.metadata
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from backend import advisories
from backend.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SHA = "sha256:" + "0" * 64


def entry(*events: dict[str, str], **more: Any) -> dict[str, Any]:
    """What an advisory says of a package called knit-py."""
    return {
        "package": {"ecosystem": "PyPI", "name": "Knit.Py"},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}] if events else [],
        **more,
    }


def advisory(*affected: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "TEST-1", "summary": "Loose\nthreads.", "affected": list(affected), **more}


FROM_START = entry({"introduced": "0"}, {"fixed": "2.0"})


@pytest.mark.parametrize(
    ("affected", "meant", "free"),
    [
        (FROM_START, ["0.1.dev0", "1.9", "1.9+cpu", "2.0rc1"], ["2.0", "2.0+cpu", "10.0"]),
        (
            entry({"fixed": "1.2"}, {"introduced": "1.0"}, {"introduced": "2.0"}),
            ["1.0", "1.1.9", "2.0", "99"],
            ["0.9", "1.2", "1.10"],
        ),
        (entry({"introduced": "1.0"}, {"last_affected": "1.5"}), ["1.0", "1.5"], ["1.5.1", "0"]),
        (entry({"introduced": "1.0"}, {"limit": "2.0"}), ["1.0", "1.99"], ["2.0"]),
        (entry(versions=["1.0", "1.4.0"]), ["1.0", "1.0.0", "1.4", "1.4+cu1"], ["1.1", "1.4.1"]),
        (entry(versions=["odd"]), ["odd"], ["1.0"]),
        (entry({"introduced": "what?"}), ["1.0"], []),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, [], ["1.0"]),
    ],
)
def test_versions_are_understood(
    affected: dict[str, Any], meant: list[str], free: list[str]
) -> None:
    assert [each for each in meant if not advisories.affects(affected, each)] == []
    assert [each for each in free if advisories.affects(affected, each)] == []


def lock(folder: Path, text: str) -> Path:
    path = folder / "some.lock"
    path.write_text(text)
    return path


def installed(**versions: str) -> Any:
    def version(name: str) -> str:
        try:
            return versions[name.replace("-", "_")]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    return version


def test_locked_and_installed_versions_are_both_looked_at(tmp_path: Path) -> None:
    locked = advisories.pins(lock(tmp_path, "knit_py==1.0\nyarn==1.0\n"))
    given = [advisory(FROM_START, aliases=["CVE-1"])]
    (found,) = advisories.warned(iter(given), locked, installed(knit_py="2.0"))
    assert (found.package, found.version, found.where) == ("knit-py", "1.0", "locked")
    assert (found.aliases, found.fixed) == (("CVE-1",), ("2.0",))
    (found,) = advisories.warned(iter(given), locked, installed(knit_py="1.0"))
    assert found.where == "locked, installed"
    both = advisories.warned(iter(given), locked, installed(knit_py="1.5"))
    assert [each.where for each in both] == ["locked", "installed"]


@pytest.mark.parametrize(
    "given",
    [
        advisory(FROM_START, withdrawn="2026-01-01T00:00:00Z"),
        advisory({**FROM_START, "package": {"ecosystem": "npm", "name": "knit-py"}}),
        advisory({**FROM_START, "package": {"ecosystem": "PyPI", "name": "knit"}}),
        advisory(),
        {"id": "TEST-1", "affected": None},
    ],
)
def test_what_means_something_else_does_not_warn(tmp_path: Path, given: dict[str, Any]) -> None:
    locked = advisories.pins(lock(tmp_path, "knit-py==1.0\n"))
    assert advisories.warned(iter([given]), locked, installed()) == []


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("a==1.0\nb == 2 ; sys_platform == 'linux'\n# c\n\n", 0),
        (f"a==1.0 \\\n    --hash={SHA} \\\n    --hash={SHA}\n", 0),
        ("a>=1.0\n", 1),
        ("a\nb==1.*\nc==1,!=2\nd===x\n", 4),
        ("-r other.txt\n", 1),
        ("a @ https://example.org/a.whl\n", 1),
        ("git+https://example.org/a\n", 1),
    ],
)
def test_every_line_pins_one_version(tmp_path: Path, text: str, complaints: int) -> None:
    assert len(advisories.problems(advisories.pins(lock(tmp_path, text)))) == complaints


def test_a_missing_hash_is_named_where_hashes_are_asked_for(tmp_path: Path) -> None:
    text = f"a==1.0 --hash={SHA}  # why\nb==1.0\nc==1.0 --hash=md5:00\nd==1.0 --hash=sha256:0\n"
    found = advisories.pins(lock(tmp_path, text))
    assert [each.name for each in found if each.hashes] == ["a"]
    # What is no good hash is no part of a requirement either.
    complaints = " ".join(advisories.problems(found, hashes=True))
    assert "b 1.0 has no hash" in complaints
    assert "md5" in complaints
    assert " a " not in complaints


@pytest.mark.parametrize("name", sorted(each.name for each in ROOT.glob("*.lock")))
def test_the_project_s_own_lock_files_pin_everything_with_hashes(name: str) -> None:
    assert advisories.problems(advisories.pins(ROOT / name), hashes=True) == []


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_all_forms_of_a_file_are_read(tmp_path: Path) -> None:
    one = advisory(FROM_START)
    for data in (one, [one], {"vulns": [one]}):
        assert list(advisories.read(write(tmp_path / "a.json", data))) == [one]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.json", "b.json"):
            archive.writestr(name, json.dumps(one))
        archive.writestr("readme.txt", "words")
    assert list(advisories.read(tmp_path / "all.zip")) == [one, one]


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"{}", b'{"id": 5}', b"\xff", b"[" * 100_000])
def test_what_is_no_advisory_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(InputError):
        list(advisories.read(path))
    with pytest.raises(InputError):
        list(advisories.read(tmp_path / "none.json"))


@pytest.mark.parametrize(
    "odd", [{"affected": [5]}, {"affected": [{**FROM_START, "ranges": [{"type": "SEMVER"}]}]}]
)
def test_a_damaged_advisory_is_named_and_not_passed_over(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    locked = advisories.pins(lock(tmp_path, "knit-py==1.0\n"))
    with pytest.raises(InputError, match="TEST-1"):
        advisories.warned(iter([{**advisory(), **odd}]), locked, installed())


def test_the_command_fails_where_there_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = str(lock(tmp_path, f"knit-py==1.0 --hash={SHA}\n"))
    given = str(write(tmp_path / "a.json", advisory(FROM_START, aliases=["CVE-1"])))
    assert advisories.main([given, "--lock", some]) == 1
    assert "knit-py 1.0 (locked): TEST-1, CVE-1: Loose threads.; fixed in 2.0" in (
        capsys.readouterr().out
    )
    assert advisories.main([given, "--lock", some, "--ignore", "CVE-1", "--hashes"]) == 0
    assert "0 warnings, 1 ignored" in capsys.readouterr().out
    assert advisories.main(["--lock", str(lock(tmp_path, "knit-py>1\n"))]) == 1
    assert "does not pin" in capsys.readouterr().err
    assert advisories.main([]) == 0
    assert advisories.main([str(tmp_path / "none.json")]) == 1
