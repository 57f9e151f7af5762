"""Bake, train, restyle and apply on the shipped samples: what a newcomer's first command does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from backend.evaluation import measures
from backend.imaging import files
from backend.imaging.colour import delta_e
from backend.styles import Style
from tests.end_to_end.conftest import ROOT, SAMPLES, Blender, MainJob


def _texture(job: MainJob, role: str) -> np.ndarray:
    return files.read_rgba(job.path(role))


def _mask(job: MainJob) -> np.ndarray:
    return files.read_rgba(job.path("mask"))[..., 0]


def test_texture_changes_inside_the_mask_and_the_islands_only(main_job: MainJob) -> None:
    before, after = _texture(main_job, "texture_before"), _texture(main_job, "texture_after")
    mask = _mask(main_job)
    assert before.shape == after.shape
    outside = (mask == 0) | (before[..., 3] == 0)
    np.testing.assert_array_equal(after[outside], before[outside])
    inside = (mask > 0.5) & (before[..., 3] > 0.5)
    assert inside.mean() > 0.02
    changed = np.abs(after[inside] - before[inside]).max(axis=-1) > 4 / 255
    assert changed.mean() > 0.5


def test_stitch_detail_rises_towards_the_reference(main_job: MainJob) -> None:
    before, after = _texture(main_job, "texture_before"), _texture(main_job, "texture_after")
    reference = files.read_rgba(main_job.path("style") / "reference.png")[..., :3]
    art = files.read_rgba(main_job.path("style") / "mask.png")[..., 0]
    mask = _mask(main_job)
    wanted = measures.band_energies(reference, art)
    flat = measures.band_energies(before[..., :3], mask)
    sewn = measures.band_energies(after[..., :3], mask)
    # The artwork's own outlines fill the coarser bands; thread is in the finer two.
    for band in ("2–4 px", "4–8 px"):
        assert sewn[band] > 1.25 * flat[band]
        thread = (sewn[band] ** 2 - flat[band] ** 2) ** 0.5
        assert abs(thread - wanted[band]) < 0.4 * wanted[band]


def test_colours_are_kept(main_job: MainJob) -> None:
    before, after = _texture(main_job, "texture_before"), _texture(main_job, "texture_after")
    inside = (_mask(main_job) > 0.5) & (before[..., 3] > 0.5)
    # Thread is lit and shaded stitch by stitch: compare what the eye sees from afar.
    blocks_before = before[inside][:, :3].mean(axis=0)
    blocks_after = after[inside][:, :3].mean(axis=0)
    assert float(delta_e(blocks_before[None, None], blocks_after[None, None]).max()) < 6


def test_the_style_folder_is_complete(main_job: MainJob) -> None:
    style = Style.load(main_job.path("style"))
    assert style.profile == "starter"
    assert style.blocks
    assert style.thread_width_px > 1
    for name in ("pytorch_lora_weights.safetensors", "reference.png", "design.png", "preview.png"):
        assert (main_job.path("style") / name).stat().st_size > 0


def _fingerprint(blender: Blender, path: Path) -> dict[str, Any]:
    done = blender(ROOT / "tests" / "end_to_end" / "fingerprint.py", path)
    assert done.returncode == 0, done.stderr
    line = next(each for each in done.stdout.splitlines() if each.startswith("FINGERPRINT "))
    found: dict[str, Any] = json.loads(line.removeprefix("FINGERPRINT "))
    return found


def test_revert_restores_the_garment(main_job: MainJob, blender: Blender, tmp_path: Path) -> None:
    original = _fingerprint(blender, SAMPLES / "tshirt.blend")
    applied = _fingerprint(blender, main_job.path("garment"))
    assert applied["materials"] != original["materials"]
    reverted = tmp_path / "reverted.blend"
    done = blender(
        *("-m", "blender_addon.headless", "revert"),
        *("--garment", main_job.path("garment"), "--save", reverted),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _fingerprint(blender, reverted) == original


def test_the_report_shows_every_picture(main_job: MainJob) -> None:
    report = main_job.out / "report.html"
    manifest = main_job.out / "manifest.json"
    subprocess.run(
        [sys.executable, "-m", "backend", "report", "--manifest", manifest, "--out", report],
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    page = report.read_text()
    for name in ("texture_before.png", "texture_after.png"):
        assert name in page


def test_no_backend_is_left_behind(main_job: MainJob) -> None:
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    left = [each for each in running.splitlines() if "backend" in each and "serve" in each]
    assert not [each for each in left if sys.executable in each], left
