"""The installation of the backend, with a stand-in for Python and pip."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from test_link import until

from blender_addon.link import install, locate
from blender_addon.link.client import LinkError
from blender_addon.link.install import Installer, bundled_files
from blender_addon.link.locate import INSTALLED_MARK, environment_python, find_backend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")

PYTHON = """#!/bin/sh
case "$2" in
venv) mkdir -p "$3/bin" "$3/lib/site-packages" && cp "$0" "$3/bin/python" ;;
pip) {pip}
;;
backend) echo 9.9 ;;
esac
"""
PIP = r"""
case "$*" in *no-deps*) exit 0 ;; esac
echo 'Collecting torch==2.6.0 (from -r backend.lock)'
echo '  Downloading torch-2.6.0-cp311-cp311-linux_x86_64.whl (506.0 MB)'
echo 'Collecting numpy==2.0'
echo 'Installing collected packages: numpy, torch'
mkdir "$(dirname "$0")/../lib/site-packages/numpy-2.0.dist-info"
"""


def installer(folder: Path, pip: str = PIP) -> Installer:
    python = folder / "python"
    python.write_text(PYTHON.format(pip=pip))
    python.chmod(0o755)
    wheel, lock = folder / "stitchwork_backend-9.9-py3-none-any.whl", folder / "backend.lock"
    wheel.touch()
    lock.write_text("# pinned\ntorch==2.6.0\nnumpy==2.0\n")
    return Installer(folder / "backend", wheel, lock, python=str(python))


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


def test_each_of_pips_lines_is_told_in_words(tmp_path: Path) -> None:
    made = installer(tmp_path)
    made.begin()
    made.cancel()
    told = []
    for line in (
        "Collecting torch==2.6.0 (from -r backend.lock)",
        "  Downloading torch-2.6.0-cp311-cp311-linux_x86_64.whl (506.0 MB)",
        "Installing collected packages: numpy, torch",
    ):
        made._hear(line)
        told.append(made.message)
    assert told == [
        "Fetching torch",
        "Fetching torch (506.0 MB)",
        "Unpacking packages (0 of 2)",
    ]


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
            r"Python \d\.\d+ on this system \(numpy==2\.0\)",
            "blender.org",
        ),
        ("ERROR: [Errno 28] No space left on device", "disk is full", "room"),
        ("ModuleNotFoundError: No module named ensurepip", "virtual environments", "python3-venv"),
        ("ERROR: something new", "something new", "again"),
    ],
)
def test_a_failure_is_told_with_its_remedy_and_leaves_nothing_that_is_used(
    tmp_path: Path, words: str, message: str, remedy: str
) -> None:
    made = installer(tmp_path, f"cat <<'END'\n{words}\nEND\nexit 1")
    with pytest.raises(LinkError, match=message) as failed:
        run(made)
    assert remedy in failed.value.remedy
    assert not made.done
    assert not (made.target / INSTALLED_MARK).exists()


def test_a_python_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    made = installer(tmp_path)
    made.python = str(tmp_path / "nowhere")
    with pytest.raises(LinkError, match="nowhere"):
        made.begin()


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "NEEDED_BYTES", 2**60)
    with pytest.raises(LinkError, match="GiB free"):
        installer(tmp_path).begin()


def test_cancel_ends_pip_and_what_is_there_is_not_used(tmp_path: Path) -> None:
    made = installer(tmp_path, "echo 'Collecting torch'; exec sleep 60")
    made.begin()
    until(lambda: made.step() and made.message == "Fetching torch")
    made.cancel()
    assert not made.step()
    assert not (made.target / INSTALLED_MARK).exists()


def test_an_add_on_from_source_says_that_it_brings_no_backend(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="does not bring"):
        bundled_files(tmp_path)
