"""The lock files: complete on every system, and what renewing their hashes keeps and drops."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backend import lockfiles
from backend.lockfiles import SYSTEMS, Line, LockError, parse, render, renew

ROOT = Path(__file__).resolve().parents[2]
# As the packages' own conditions name them.
MACHINES = {
    "Linux x86-64": ("linux", "Linux", "posix", "x86_64"),
    "Linux ARM": ("linux", "Linux", "posix", "aarch64"),
    "macOS ARM": ("darwin", "Darwin", "posix", "arm64"),
    "Windows x86-64": ("win32", "Windows", "nt", "AMD64"),
}


def described(system: str, python: str) -> dict[str, str]:
    platform, name, kind, machine = MACHINES[system]
    found: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]
    found |= {"sys_platform": platform, "platform_system": name, "os_name": kind}
    found |= {"platform_machine": machine, "python_version": python}
    return {**found, "python_full_version": f"{python}.0", "implementation_version": f"{python}.0"}


def locked(names: tuple[str, ...], where: dict[str, str]) -> dict[str, str]:
    """Versions by name of what these lock files install there."""
    lines = [each for name in names for each in parse((ROOT / name).read_text()) if each.name]
    return {
        canonicalize_name(each.name): each.version
        for each in lines
        if not each.marker or Marker(each.marker.removeprefix(";")).evaluate(where)
    }


def unlocked(roots: list[str], pins: dict[str, str], where: dict[str, str]) -> set[str]:
    """What is needed there, by the packages' own account, and no line pins."""
    waiting, seen, wrong = [Requirement(each) for each in roots], set(), set()
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if name not in pins or not need.specifier.contains(pins[name], prereleases=True):
            wrong.add(str(need))
        for extra in ("", *need.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += further(name, {**where, "extra": extra})
    return wrong


def further(name: str, where: dict[str, str]) -> list[Requirement]:
    try:
        needs = [Requirement(each) for each in importlib.metadata.requires(name) or ()]
    except importlib.metadata.PackageNotFoundError:
        return []  # of another system
    return [each for each in needs if each.marker is None or each.marker.evaluate(where)]


@pytest.mark.parametrize("python", lockfiles.LOCKS["backend.lock"].pythons)
@pytest.mark.parametrize("system", SYSTEMS)
def test_all_that_the_backend_needs_is_locked_for_every_system(system: str, python: str) -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    where = described(system, python)
    cuda = ("cuda.lock",) if system in lockfiles.LINUX else ()
    assert unlocked(needs, locked(("backend.lock", *cuda), where), where) == set()


@pytest.mark.parametrize("system", SYSTEMS)
def test_all_that_the_checks_need_is_locked_too(system: str) -> None:
    where = described(system, "3.11")
    both, tools = ("backend.lock", "cuda.lock", "test.lock"), locked(("test.lock",), where)
    assert unlocked(list(tools), locked(both, where), where) == set()


@pytest.mark.parametrize("name", lockfiles.LOCKS)
def test_the_lock_files_are_as_the_command_writes_them(name: str) -> None:
    text = (ROOT / name).read_text()
    assert render(parse(text)) == text
    assert {each.name for each in ROOT.glob("*.lock")} == set(lockfiles.LOCKS)


@pytest.mark.parametrize(
    "text",
    ["a>=1.0", "a", "a==1.*", "a @ https://example.org/a.whl", "-r b", "a==1.0 b", "a==1,!=2"],
)
def test_a_line_that_pins_no_version_is_refused(text: str) -> None:
    with pytest.raises(LockError):
        parse(f"# comment\n{text}\n")


PIP = """
import hashlib, json, sys
given = sys.argv[1:]
def all_of(option):
    return [b for a, b in zip(given, given[1:]) if a == option]
made, platform = [], all_of("--platform")[0]
for line in open(all_of("-r")[0]):
    name, version = line.strip().split("===")
    if "--index-url" in given or (name == "only-linux" and "linux" not in platform) or name == "no":
        sys.exit(f"ERROR: No matching distribution found for {name}==={version}")
    file = f"{name} {version} {platform} {all_of('--python-version')[0]}"
    hashes = {"sha256": hashlib.sha256(file.encode()).hexdigest()}
    made.append({"metadata": {"name": name}, "download_info": {"archive_info": {"hashes": hashes}}})
json.dump({"install": made}, open(all_of("--report")[0], "w"))
"""
LOCK = lockfiles.Lock(("3.11", "3.12"), ("Linux x86-64", "Windows x86-64"))


def file(name: str, version: str, platform: str, python: str) -> str:
    return hashlib.sha256(f"{name} {version} {platform} {python}".encode()).hexdigest()


def renewed(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> tuple[list[Line], str]:
    """A lock file's lines after its renewal by a stand-in for pip, and what was said."""
    (folder / "pip.py").write_text(PIP)
    (folder / "some.lock").write_text(text)
    monkeypatch.setattr(lockfiles, "LOCKS", {"some.lock": LOCK})
    monkeypatch.setattr(lockfiles, "_pip", lambda _: [sys.executable, str(folder / "pip.py")])
    told = renew(folder, "https://example.org")
    assert sorted(each.name for each in folder.iterdir()) == ["pip.py", "some.lock"]
    return parse((folder / "some.lock").read_text()), "\n".join(told)


def test_every_system_s_file_is_named_and_older_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = f"# why\nyarn_py==1.0 \\\n    --hash=sha256:{64 * '0'}\n"
    old += "only-linux==2 ; os_name == 'posix'\n"
    (comment, yarn, linux), told = renewed(tmp_path, monkeypatch, old)
    assert comment.text == "# why"
    platforms, pythons = ("manylinux_2_28_x86_64", "win_amd64"), LOCK.pythons
    assert yarn.hashes == {file("yarn_py", "1.0", a, b) for a in platforms for b in pythons}
    assert linux.hashes == {file("only-linux", "2", platforms[0], each) for each in pythons}
    assert linux.marker == "; os_name == 'posix'"
    assert "only-linux has no wheel for Windows x86-64, Python 3.12" in told


@pytest.mark.parametrize(("version", "kept"), [("2.13.0", True), ("2.14.0", False)])
def test_torch_s_other_builds_are_kept_for_the_same_version_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, kept: bool
) -> None:
    usual, other = file("torch", "2.13.0", "win_amd64", "3.11"), 64 * "0"
    old = f"torch=={version} --hash=sha256:{usual} --hash=sha256:{other}\n"
    (torch,), told = renewed(tmp_path, monkeypatch, old)
    assert (other in torch.hashes) is kept
    assert (usual in torch.hashes) is kept
    assert file("torch", version, "win_amd64", "3.12") in torch.hashes
    assert "torch+cu130 for Windows x86-64, Python 3.11: no hash is told" in told


def test_a_line_without_any_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "yarn==1.0\nno==1.0\n"
    with pytest.raises(LockError, match=r"no wheel of no 1\.0"):
        renewed(tmp_path, monkeypatch, text)
    assert (tmp_path / "some.lock").read_text() == text
