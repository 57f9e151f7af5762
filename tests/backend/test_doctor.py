"""What doctor says of machines that lack this or that."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from pathlib import Path

import pytest

from backend import cli, doctor
from backend.doctor import Device, examine
from backend.models import profiles

GPU = Device(kind="cuda", name="GPU", memory_gib=24.0)


@pytest.fixture
def starter_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    known = {
        name: dataclasses.replace(profiles.get(name), folder=tiny_model)
        if name == "starter"
        else profiles.get(name)
        for name in profiles.names()
    }
    monkeypatch.setattr(profiles, "get", known.__getitem__)


@pytest.mark.usefixtures("starter_weights")
def test_the_starter_is_usable_where_its_weights_are() -> None:
    findings = examine()
    starter = findings.profiles[0]
    assert starter.name == "starter"
    assert starter.usable, starter.reason
    assert findings.usable
    assert findings.packages["torch"]
    needs = {need.job: need.memory_gib for need in starter.needs}
    assert needs["train"] >= needs["restyle"] >= needs["preview"] > 0


def test_missing_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = dataclasses.replace(profiles.get("starter"), folder=tmp_path)
    monkeypatch.setattr(profiles, "get", lambda name: empty)
    starter = examine().profiles[0]
    assert not starter.usable
    assert str(tmp_path) in starter.reason


def test_a_missing_package_makes_every_profile_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    really_version = importlib.metadata.version

    def version(package: str) -> str:
        if package == "peft":
            raise importlib.metadata.PackageNotFoundError(package)
        return really_version(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = examine()
    assert not findings.usable
    assert all("peft" in each.reason for each in findings.profiles)
    assert "missing   peft" in findings.to_text()


def test_sdxl_wants_a_gpu_memory_and_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sdxl(device: Device) -> doctor.ProfileFinding:
        monkeypatch.setattr(doctor, "_device", lambda version, memory: device)
        return next(each for each in examine().profiles if each.name == "sdxl")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "GPU" in sdxl(dataclasses.replace(GPU, kind="cpu")).reason
    assert "memory mode 8" in sdxl(dataclasses.replace(GPU, memory_gib=4.0)).reason
    missing = sdxl(GPU)
    assert not missing.usable
    assert "controlnet-canny" in missing.reason
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert sdxl(GPU).usable
    for gib, mode in ((80.0, "full"), (23.5, "24"), (11.5, "12"), (7.6, "8")):
        found = sdxl(dataclasses.replace(GPU, memory_gib=gib))
        assert f"--memory {mode}." in found.reason
        assert "the base model itself draws the design" in found.reason
    assert {need.mode for need in found.needs} == {"full", "24", "12", "8", ""}


def test_a_container_has_the_memory_it_may_use() -> None:
    assert 0.1 < examine().memory_gib < 10_000


def test_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["usable"] else 1)
    assert set(found["device"]) == {"kind", "name", "memory_gib", "note"}
    assert [each["name"] for each in found["profiles"]] == ["starter", "sdxl"]
