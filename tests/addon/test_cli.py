"""The command line in the bpy wheel, with a stand-in for the backend in its own process."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

import blender_addon
from blender_addon import cli
from blender_addon.garment import pixels
from blender_addon.link import polling
from blender_addon.link.jobs import NOTE, Progress, Result
from blender_addon.link.terminal import Terminal, clock
from blender_addon.record import Record

FAKE = Path(__file__).with_name("fake_service.py")
SQUARE = ("--rect", "0.25", "0.25", "0.75", "0.75")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")


@pytest.fixture(autouse=True)
def addon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The add-on registered, with a data folder and a backend of the test's own."""
    fresh = not hasattr(bpy.types.Scene, "stitchwork")
    if fresh:
        blender_addon.register()
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} {FAKE} serve\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("STITCHWORK_BACKEND_PYTHON", str(script))
    monkeypatch.setenv("STITCHWORK_DATA", str(tmp_path / "data"))
    yield
    polling.session.stop()
    if fresh:
        blender_addon.unregister()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels.write_png(path, np.full((64, 64, 3), 128, np.uint8))
    return path


@pytest.fixture
def garment(tmp_path: Path) -> Path:
    """A cloth of 5 cm with a red square printed on it, as .blend file."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.mesh.primitive_grid_add(size=0.05, x_subdivisions=3, y_subdivisions=3)
    obj = bpy.context.object
    obj.name = "Cloth"
    colours = np.full((128, 128, 4), 255, np.uint8)
    colours[40:90, 40:90, 1:3] = 20
    material = bpy.data.materials.new("Print")
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = pixels.to_image("print", colours)
    shader = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    obj.data.materials.append(material)
    path = tmp_path / "cloth.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def test_run_leaves_pictures_garment_style_and_manifest(
    garment: Path, photo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["run", "--garment", garment, "--reference", photo, "--out", out, *SQUARE]
    assert cli.run([str(each) for each in arguments]) == 0
    printed, errors = capfd.readouterr()
    assert "Training" in printed
    assert "is embroidered" in printed
    assert "Traceback" not in errors
    manifest = json.loads((out / "manifest.json").read_text())
    roles = {"texture_before", "texture_preview", "texture_after", "mask", "style", "garment"}
    assert set(manifest["outputs"]) == roles
    assert all(Path(path).exists() for path in manifest["outputs"].values())
    assert {each["group"] for each in manifest["timings"]} == {
        "Blender",
        "train",
        "preview",
        "restyle",
    }
    (patch,) = manifest["run"]["patches"]
    # The stand-in's style measured 4 px of thread: 0.4 mm of it are 10 px per mm.
    assert patch["px_per_mm"] == pytest.approx(10.0)
    bpy.ops.wm.open_mainfile(filepath=str(out / "garment.blend"))
    cloth = bpy.data.objects["Cloth"]
    assert cloth.stitchwork.patches[0].applied
    assert cloth.material_slots[0].material.name != "Print"
    assert not polling.session.busy


def test_a_trained_style_is_used_without_training(
    garment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    style = tmp_path / "satin"
    style.mkdir()
    (style / "style.json").write_text(json.dumps({"thread_width_px": 2.0}))
    out = tmp_path / "out"
    arguments = ["run", "--garment", garment, "--style", style, "--out", out, "--json", *SQUARE]
    cli._flush()
    capfd.readouterr()  # what making the garment printed
    assert cli.run([str(each) for each in arguments]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert lines[-1]["outputs"]["style"] == str(style)
    assert not any(line.get("task") == "Training" for line in lines)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["run"]["patches"][0]["px_per_mm"] == pytest.approx(5.0)


def test_words_are_embroidered_where_they_are_told(
    garment: Path, photo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["run", "--garment", garment, "--reference", photo, "--out", out]
    arguments += ["--words", "a red heart"]
    assert cli.run([str(each) for each in arguments]) == 1
    assert (
        "error: Nothing says where the words go. Give a place with --rect" in capfd.readouterr().err
    )
    plain = ("--rect", "0.7", "0.7", "1", "1")
    assert cli.run([str(each) for each in (*arguments, *plain, "--instant")]) == 1
    assert "cannot draw words. Leave --instant out" in capfd.readouterr().err
    assert cli.run([str(each) for each in (*arguments, *plain)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    roles = {"texture_cloth", "texture_after", "mask", "style", "garment"}
    assert set(manifest["outputs"]) == roles
    assert {each["group"] for each in manifest["timings"]} == {"Blender", "train", "generate"}
    assert manifest["comparisons"] == []
    assert manifest["run"]["patches"][0]["words"] == "a red heart"
    bpy.ops.wm.open_mainfile(filepath=str(out / "garment.blend"))
    patch = bpy.data.objects["Cloth"].stitchwork.patches[0]
    assert (patch.words, patch.applied) == ("a red heart", True)


def test_bake_apply_and_revert_one_by_one(garment: Path, tmp_path: Path) -> None:
    out, applied, reverted = tmp_path / "baked", tmp_path / "on.blend", tmp_path / "off.blend"
    assert cli.run(["bake", "--garment", str(garment), "--out", str(out), *SQUARE]) == 0
    image = str(out / "bake.png")
    apply = ["apply", "--garment", str(garment), "--image", image, "--save", str(applied)]
    assert cli.run([*apply, *SQUARE]) == 0
    revert = ["revert", "--garment", str(applied), "--save", str(reverted)]
    assert cli.run(revert) == 0
    bpy.ops.wm.open_mainfile(filepath=str(reverted))
    cloth = bpy.data.objects["Cloth"]
    assert cloth.material_slots[0].material.name == "Print"
    assert cli.run(["revert", "--garment", str(garment), "--save", str(reverted)]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--garment", "nowhere.blend", "--reference", "PHOTO"], "nowhere.blend is not there"),
        (["--garment", "PHOTO", "--reference", "PHOTO"], "Give one of .blend"),
        (["--garment", "GARMENT"], "--reference PHOTO or --style DIR"),
        (["--garment", "GARMENT", "--reference", "nothing.jpg"], "nothing.jpg cannot be read"),
        (["--garment", "GARMENT", "--style", "TMP"], "is not a trained style"),
        (["--garment", "GARMENT", "--reference", "PHOTO", "--object", "Sock"], "“Cloth”"),
        (["--garment", "GARMENT", "--reference", "PHOTO", "--patch", "Back"], "no patch “Back”"),
        (["--garment", "GARMENT", "--reference", "PHOTO", "--steps-one", "0"], "minimum 1"),
        (["--garment", "GARMENT", "--reference", "PHOTO", "--backend-python", "no"], None),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str],
    words: str | None,
    garment: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    known = {"GARMENT": str(garment), "PHOTO": str(photo), "TMP": str(tmp_path)}
    if words is None:
        monkeypatch.delenv("STITCHWORK_BACKEND_PYTHON")
        words = "no (from the preferences) is no Python"
    capfd.readouterr()
    given = [known.get(each, each) for each in arguments]
    assert cli.run(["run", *given, *SQUARE, "--out", str(tmp_path / "out")]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_wrong_usage_is_exit_code_two(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["run", "--garment", "x.blend"]) == 2
    assert "--out" in capfd.readouterr().err
    assert cli.run(["--help"]) == 0


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_before_work(
    garment: Path, photo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    arguments = ["run", "--garment", garment, "--reference", photo, "--out", folder / "out"]
    assert cli.run([str(each) for each in arguments]) == 1
    assert "cannot be written to" in capfd.readouterr().err


def test_interrupting_cancels_the_job_and_leaves_no_backend(
    garment: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_STEPS", "1000")
    monkeypatch.setenv("FAKE_SECONDS", "0.05")
    pids = []

    def interrupt(terminal: Terminal, title: str, progress: Progress | None) -> None:
        if progress is not None and progress.step > 2:
            pids.append(polling.session._process.pid)  # type: ignore[union-attr]
            raise KeyboardInterrupt

    monkeypatch.setattr(Terminal, "progress", interrupt)
    out = tmp_path / "out"
    arguments = ["run", "--garment", garment, "--reference", photo, "--out", out, *SQUARE]
    assert cli.run([str(each) for each in arguments]) == 130
    assert not (out / "style").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_progress_is_a_line_for_each_tenth_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    for step in range(101):
        progress = Progress(stage="stage one", step=step, steps=100, seconds_left=100.0 - step)
        terminal.progress("Training", progress)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert "50%  0:50 left" in lines[5]


def test_a_note_is_said_once_and_is_no_work() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    for _ in range(3):  # as often as it is asked for
        terminal.progress("Training", Progress(stage=NOTE, step=0, steps=1, message="so it is"))
    assert stream.getvalue() == "note: so it is\n"


def test_clock() -> None:
    assert [clock(each) for each in (None, -1.0, 0.4, 75.0, 3725.0)] == [
        "",
        "",
        "0:00",
        "1:15",
        "1:02:05",
    ]


def test_a_record_compares_plain_preview_and_trained(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for role in ("texture_before", "texture_preview", "texture_after", "mask"):
        record.file(role, f"{role}.png").touch()
    style = record.file("style", "style")
    style.mkdir()
    (style / "mask.png").touch()
    record.take("train", Result(seconds={"one": 2.0}, measures={"loss": 0.5}))
    data = json.loads(record.write("Title", {"seed": 1}, {"profile": "starter"}).read_text())
    rows = [(each["label"], each["baseline"]) for each in data["comparisons"]]
    assert rows == [("plain", True), ("instant preview", False), ("trained", False)]
    captions = [each["caption"] for each in data["pictures"]]
    assert captions.index("the bake: flat artwork") < captions.index("trained style")
    assert data["run"] == {"seed": 1, "measures": {"train.loss": 0.5}}
