"""Which backend the add-on takes, and how it is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blender_addon.link import locate
from blender_addon.link.client import LinkError
from blender_addon.link.locate import Backend


def test_which_backend_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def environment(name: str, *, mark: bool = False) -> Path:
        python = locate.environment_python(tmp_path / name)
        python.parent.mkdir(parents=True)
        python.touch()
        if mark:
            (tmp_path / name / locate.INSTALLED_MARK).touch()
        return python

    installed = tmp_path / "installed"
    monkeypatch.setattr(locate, "checkout_folder", lambda: None)
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    with pytest.raises(LinkError, match="not installed"):
        locate.find_backend("", installed)
    python = environment("installed")
    with pytest.raises(LinkError, match="not installed"):
        locate.find_backend("", installed)  # no mark: the installation was cut short
    (installed / locate.INSTALLED_MARK).touch()
    assert locate.find_backend("", installed).python == python
    chosen = environment("chosen")
    assert locate.find_backend(str(tmp_path / "chosen"), installed).python == chosen
    assert locate.find_backend(str(chosen), installed).python == chosen
    monkeypatch.setenv(locate.VARIABLE, str(environment("variable")))
    assert locate.find_backend(str(chosen), installed).origin == f"the variable {locate.VARIABLE}"
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(LinkError, match="nowhere"):
        locate.find_backend("", installed)


def test_blenders_python_settings_do_not_reach_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/blender")
    monkeypatch.setenv("PYTHONPATH", "/blender/scripts")
    installed = Backend(Path("python"), None, "a test")
    assert "PYTHONHOME" not in installed.variables()
    assert "PYTHONPATH" not in installed.variables()
    checkout = Backend(Path("python"), Path("/checkout"), "a test")
    assert checkout.variables()["PYTHONPATH"] == "/checkout"


def test_the_backend_is_told_of_the_quota() -> None:
    found = Backend(Path("python"), None, "a test")
    assert "--quota-gb" not in found.command([], 1)
    command = Backend(Path("python"), None, "a test", quota_gb=2.5).command([Path("/r")], 1)
    assert command[command.index("--quota-gb") + 1] == "2.5"
    assert command[command.index("--idle-hours") + 1] == "12"


def test_the_log_button_opens_what_was_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blender_addon.link import polling

    monkeypatch.setattr(polling, "data_folder", lambda name: tmp_path)
    for name in ("backend.log", "service.log"):
        (tmp_path / name).touch()
    for age, name in enumerate(("service.log", "backend.log", "service.log")):
        os.utime(tmp_path / name, (2e9 + age, 2e9 + age))
        assert polling.newest_log() == tmp_path / name
    (tmp_path / "service.log").unlink()
    assert polling.newest_log() == tmp_path / "backend.log"
