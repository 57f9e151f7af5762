"""The installation of the backend, with a stand-in for Python and pip."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_link import until

from blender_addon.link import install, locate, torch_build
from blender_addon.link.client import LinkError
from blender_addon.link.install import Installer, bundled_files
from blender_addon.link.locate import INSTALLED_MARK, environment_python, find_backend
from blender_addon.link.pip_words import PipRun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")

PYTHON = """#!/bin/sh
case "$1" in -c) {probe} exit 0 ;; esac
case "$2" in
venv) mkdir -p "$3/bin" "$3/lib/site-packages" && cp "$0" "$3/bin/python" ;;
pip) {pip}
;;
backend) echo 9.9 ;;
esac
"""
PIP = r"""
case "$*" in
*9.9-py3-none*) exit 0 ;;
*index-url*)
  echo 'Collecting torch==2.6.0'
  echo '  Downloading torch-2.6.0+cpu-cp311-cp311-linux_x86_64.whl (181.0 MB)'
  mkdir "$(dirname "$0")/../lib/site-packages/torch-2.6.0.dist-info"
  exit 0 ;;
esac
echo 'Requirement already satisfied: torch==2.6.0 in lib/site-packages (2.6.0+cpu)'
echo 'Collecting numpy==2.0'
echo '  Using cached numpy-2.0-cp311-cp311-linux_x86_64.whl (16.9 MB)'
echo 'Installing collected packages: numpy'
mkdir "$(dirname "$0")/../lib/site-packages/numpy-2.0.dist-info"
"""
TORCH = "torch==2.6.0 \\\n    --hash=sha256:01 \\\n    --hash=sha256:02\n"
OTHERS = 30 * "        Expected     or 01\n"
REFUSED = "case \"$*\" in *index-url*) echo 'NewConnectionError'; exit 1 ;; esac\n"


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the disk had room, whatever this machine's has."""
    room = SimpleNamespace(free=100 * 2**30)
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: room)


def installer(folder: Path, pip: str = PIP, *, nvidia: bool = False, probe: str = "") -> Installer:
    python = folder / "python"
    python.write_text(PYTHON.format(pip=pip, probe=probe))
    python.chmod(0o755)
    wheel, lock = folder / "stitchwork_backend-9.9-py3-none-any.whl", folder / "backend.lock"
    wheel.touch()
    lock.write_text(f"# pinned\n{TORCH}numpy==2.0 --hash=sha256:00\n")
    (folder / "cuda.lock").write_text("nvidia-cublas==13.1 --hash=sha256:03\n")
    return Installer(folder / "backend", wheel, lock, python=str(python), nvidia=nvidia)


def run(made: Installer) -> list[tuple[float, str]]:
    """Everything that the preferences would have shown."""
    shown = [(made.progress, made.message)]
    made.begin()

    def look() -> bool:
        going = made.step()
        if shown[-1] != (made.progress, made.message):
            shown.append((made.progress, made.message))
        return not going

    until(look)
    return shown


def test_an_installation_shows_its_progress_and_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "checkout_folder", lambda: None)
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    made = installer(tmp_path)
    (made.target / "older").mkdir(parents=True)
    shown = run(made)
    shares = [share for share, _ in shown]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert made.done
    assert not (made.target / "older").exists()
    assert json.loads((made.target / INSTALLED_MARK).read_text())["wheel"] == made.wheel.name
    found = find_backend("", made.target)
    assert (found.python, found.origin) == (environment_python(made.target), "Install")


def commands(made: Installer) -> list[list[str]]:
    """The arguments of all pip runs that an installation would make."""
    made.begin()
    planned = [each.command for each in made._steps]
    if torch := [each for each in planned if "--index-url" in each]:
        assert Path(torch[0][-1]).read_text() == TORCH
    made.cancel()
    return [each[each.index("install") + 1 :] for each in planned if "pip" in each]


def locks(arguments: list[str]) -> list[str]:
    """The lock files that a pip run installs from."""
    given = itertools.pairwise(arguments)
    return [Path(value).name for option, value in given if option == "-r"]


def test_without_an_nvidia_driver_the_small_torch_is_fetched_first(tmp_path: Path) -> None:
    torch, rest, wheel = commands(installer(tmp_path))
    index = "https://download.pytorch.org/whl/cpu"
    assert torch[torch.index("--index-url") + 1] == index
    assert "--no-deps" in torch
    assert "--index-url" not in rest + wheel
    assert locks(rest) == ["backend.lock"]


def test_an_nvidia_driver_gets_torch_with_its_libraries(tmp_path: Path) -> None:
    every = commands(installer(tmp_path, nvidia=True))
    assert not any("--index-url" in each for each in every)
    assert locks(every[0]) == ["backend.lock", "cuda.lock"]


def test_pip_checks_every_file_that_it_fetches(tmp_path: Path) -> None:
    *fetching, wheel = commands(installer(tmp_path))
    assert all("--require-hashes" in each for each in fetching)
    assert "--no-deps" in wheel  # it lies in the extension


@pytest.mark.parametrize(
    ("platform", "nvidia", "folder"),
    [
        ("linux", False, "cpu"),
        ("linux", True, None),
        ("win32", False, None),
        ("win32", True, "cu130"),
        ("darwin", False, None),
    ],
)
def test_each_system_gets_its_torch(platform: str, nvidia: bool, folder: str | None) -> None:
    build = torch_build.choose(f"numpy==2.0\n{TORCH}", nvidia, platform)
    assert (build.arguments[2].rsplit("/", 1)[1] if build.arguments else None) == folder
    assert build.requirement == (TORCH if folder else "")
    assert build.libraries == (platform == "linux" and nvidia)


def test_a_windows_driver_is_found_by_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    assert not torch_build.has_nvidia("win32")
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    assert torch_build.has_nvidia("win32")


def test_without_pytorchs_index_the_usual_torch_is_installed_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_build, "LARGE", 1)
    made = installer(tmp_path, REFUSED + f'echo "$*" >> {tmp_path}/asked' + PIP)
    run(made)
    assert made.done
    assert "index could not be reached" in made.note
    assert "cuda.lock" in (tmp_path / "asked").read_text()


def test_the_usual_torch_is_refused_where_it_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_build, "LARGE", 2**60)
    made = installer(tmp_path, REFUSED + PIP)
    with pytest.raises(LinkError, match="GiB free"):
        run(made)
    assert not made.downloads.exists()


def test_pips_lines_and_files_are_told_in_words(tmp_path: Path) -> None:
    pip = PipRun(expected=2)
    told, shares = [], []

    def tell(line: str) -> None:
        pip.hear(line)
        pip.look(tmp_path, tmp_path)
        told.append(pip.message)
        shares.append(pip.share)

    tell("Collecting torch==2.6.0 (from -r backend.lock)")
    tell("  Downloading torch-2.6.0-cp311-cp311-linux_x86_64.whl.metadata (30 kB)")
    tell("  Downloading torch-2.6.0-cp311-cp311-linux_x86_64.whl (4.0 MB)")
    (tmp_path / "pip-unpack-1").mkdir()
    whl = tmp_path / "pip-unpack-1" / "torch-2.6.0-cp311-cp311-linux_x86_64.whl"
    whl.write_bytes(bytes(1_000_000))
    tell("")
    whl.unlink()
    whl.symlink_to("moved away")
    tell("")
    tell("Processing /wheels/numpy-2.0-cp311-cp311-linux_x86_64.whl")
    tell("Installing collected packages: numpy, torch")
    (tmp_path / "lib" / "site-packages" / "numpy-2.0.dist-info").mkdir(parents=True)
    own = tmp_path / "lib" / "site-packages" / "numpy" / "lib" / "site-packages"
    (own / "inner-1.0.dist-info").mkdir(parents=True)
    tell("")
    assert told == [
        "Looking up torch",
        "Looking up torch",
        "Fetching torch (1 of 2): 0 of 4 MB",
        "Fetching torch (1 of 2): 1 of 4 MB",
        "Fetching torch (1 of 2): 0 of 4 MB",
        "Fetching numpy (2 of 2)",
        "Unpacking packages (0 of 2)",
        "Unpacking packages (1 of 2)",
    ]
    assert shares == pytest.approx([0, 0, 0, 0.7 / 8, 0.7 / 8, 0.35, 0.7, 0.85])


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: Could not find a version that satisfies the requirement numpy==2.0\n"
            "ERROR: No matching distribution found for numpy==2.0",
            "index cannot be reached",
            "network",
        ),
        (
            "ERROR: Ignored the following versions that require a different python version: 2.0\n"
            "ERROR: No matching distribution found for numpy==2.0",
            r"this Python on this system \(numpy==2\.0\)",
            "blender.org",
        ),
        ("ERROR: [Errno 28] No space left on device", "disk is full", "room"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. Well.\n"
            "    numpy==2.0 from http://localhost/numpy-2.0.whl (from -r backend.lock (line 3)):\n"
            f"        Expected sha256 00\n{OTHERS}             Got        02",
            r"numpy==2\.0 is not a file",
            "another network",
        ),
        ("ERROR: something new", "something new", "again"),
    ],
)
def test_a_failure_is_told_with_its_remedy_and_leaves_nothing_that_is_used(
    tmp_path: Path, words: str, message: str, remedy: str
) -> None:
    made = installer(tmp_path, f"cat <<'END'\n{words}\nEND\nexit 1", nvidia=True)
    with pytest.raises(LinkError, match=message) as failed:
        run(made)
    assert remedy in failed.value.remedy
    assert not made.done
    assert not (made.target / INSTALLED_MARK).exists()


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        ("ModuleNotFoundError: No module named 'ensurepip'", "ensurepip", "python3-venv"),
        ("3.10 is too old", r"3\.11 or later is needed; 3\.10", "Python for Install"),
    ],
)
def test_an_unfit_python_is_noticed_before_anything_is_made(
    tmp_path: Path, words: str, message: str, remedy: str
) -> None:
    made = installer(tmp_path, probe=f'echo "{words}"; exit 1;')
    with pytest.raises(LinkError, match=message) as failed:
        run(made)
    assert remedy in failed.value.remedy
    assert not made.target.exists()


def test_the_present_python_is_fit(tmp_path: Path) -> None:
    probe = [sys.executable, "-c", install.PROBE]
    assert subprocess.run(probe, cwd=tmp_path, capture_output=True).returncode == 0


def test_a_python_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    made = installer(tmp_path)
    made.python = str(tmp_path / "nowhere")
    with pytest.raises(LinkError, match="nowhere"):
        made.begin()


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_build, "SMALL", 2**60)
    with pytest.raises(LinkError, match="GiB free"):
        installer(tmp_path).begin()


def test_cancel_ends_pip_and_what_is_there_is_not_used(tmp_path: Path) -> None:
    made = installer(tmp_path, "echo 'Collecting torch'; exec sleep 60")
    made.begin()
    until(lambda: made.step() and made.message == "Looking up torch")
    made.cancel()
    assert not made.step()
    assert not made.downloads.exists()
    assert not (made.target / INSTALLED_MARK).exists()


def test_an_add_on_from_source_says_that_it_brings_no_backend(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="does not bring"):
        bundled_files(tmp_path)
