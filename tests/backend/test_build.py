"""build.py's environments: which torch they get, and what is said where it cannot be had."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NUMPY = "numpy==2.4.6 \\\n    --hash=sha256:00\n"
TORCH = "torch==2.13.0 \\\n    --hash=sha256:01 \\\n    --hash=sha256:02\n"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """build.py in an empty checkout of its own."""
    spec = importlib.util.spec_from_file_location("build_script", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rule = tmp_path / "blender_addon" / "link" / "torch_build.py"
    rule.parent.mkdir(parents=True)
    rule.write_bytes((ROOT / "blender_addon" / "link" / "torch_build.py").read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "ENVIRONMENTS", tmp_path / ".venvs")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "base_python", lambda: "python3.11")
    return module


def pip_runs(
    build: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    lock: str,
    *,
    nvidia: bool = False,
    refused: bool = False,
    free: int = 100 * 2**30,
) -> list[list[str]]:
    """The arguments of every `pip install` that makes an environment from `lock`."""
    (build.ROOT / "backend.lock").write_text(lock)
    (build.ROOT / "test.lock").write_text("pytest==9.2.0 --hash=sha256:03\n")
    rule = build.torch_rule()
    monkeypatch.setattr(rule, "has_nvidia", lambda: nvidia)
    monkeypatch.setattr(build, "torch_rule", lambda: rule)
    runs: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0)
        runs.append(command[command.index("install") + 1 :])
        failed = refused and "--index-url" in command
        return subprocess.CompletedProcess(command, int(failed), "", "Connection refused")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(subprocess, "run", run)
    build.environment("backend", ["backend.lock", "test.lock"])
    assert (build.ROOT / ".venvs" / "backend" / "lock.sha256").is_file()
    return runs


def locks(arguments: list[str]) -> list[str]:
    """The lock files that a pip run installs from."""
    given = itertools.pairwise(arguments)
    return [Path(value).name for option, value in given if option == "-r"]


def test_without_an_nvidia_driver_the_small_torch_comes_before_the_lock_file(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch, locked = pip_runs(build, monkeypatch, f"{TORCH}{NUMPY}")
    assert torch[torch.index("--index-url") + 1] == CPU_INDEX
    assert "--no-deps" in torch
    assert Path(torch[-1]).read_text() == TORCH
    assert "--index-url" not in locked
    assert locks(locked) == ["backend.lock", "test.lock"]
    assert "--require-hashes" in torch
    assert "--require-hashes" in locked


def test_an_index_that_cannot_be_reached_is_said_in_one_line_and_done_without(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = pip_runs(build, monkeypatch, f"{NUMPY}{TORCH}", refused=True)
    assert locks(runs[-1]) == ["backend.lock", "test.lock", "cuda.lock"]
    said = [each for each in capsys.readouterr().out.splitlines() if "torch" in each]
    assert said == [
        "== torch for the processor alone cannot be fetched here: taking what the package index has"
    ]


@pytest.mark.parametrize(
    ("lock", "nvidia", "files"),
    [
        (f"{NUMPY}{TORCH}", True, ["backend.lock", "test.lock", "cuda.lock"]),
        (NUMPY, False, ["backend.lock", "test.lock"]),
    ],
    ids=["driver", "no torch"],
)
def test_otherwise_all_comes_with_the_lock_files(
    build: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    lock: str,
    nvidia: bool,
    files: list[str],
) -> None:
    (locked,) = pip_runs(build, monkeypatch, lock, nvidia=nvidia)
    assert locks(locked) == files
    assert "--require-hashes" in locked


def test_too_little_room_is_said_before_anything_is_made(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"5\.0 GiB free, 9 are needed"):
        pip_runs(build, monkeypatch, TORCH, nvidia=True, free=5 * 2**30)
    assert not (build.ROOT / ".venvs").exists()
