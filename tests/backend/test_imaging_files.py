"""Reading whatever a user gives, and writing in one step."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.errors import InputError, ResourceError
from backend.imaging import files


def _png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def _ramp(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 4, y * 6, (x + y) * 2]).astype(np.uint8)


def test_eight_bits_survive_reading_and_writing(tmp_path: Path) -> None:
    rgba = np.dstack([_ramp(), np.arange(2400).reshape(40, 60) % 256]).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "in.png")
    image = files.read_rgba(tmp_path / "in.png")
    assert image.dtype == np.float32
    assert image.max() <= 1.0
    files.write_png(tmp_path / "out.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), rgba)


def test_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    Image.fromarray(_ramp()).save(tmp_path / "photo.png", exif=exif)
    image = files.read_rgba(tmp_path / "photo.png")
    assert image.shape == (60, 40, 4)
    assert np.allclose(image[0, -1, :3] * 255.0, _ramp()[0, 0], atol=0.5)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "LA", "HSV"])
def test_colour_modes_read_as_their_colours(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(_ramp()).convert(mode)
    path = tmp_path / ("in.tif" if mode in ("CMYK", "HSV") else "in.png")
    if mode == "HSV":
        picture = picture.convert("RGB")
    picture.save(path)
    expected = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
    assert np.allclose(files.read_rgba(path)[..., :3], expected, atol=1e-6)


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "in.png")
    image = files.read_rgba(tmp_path / "in.png")
    assert np.allclose(image[..., 0], grey / 65535.0, atol=1e-4)
    assert files.read_rgba(tmp_path / "in.png", max_side=30).shape == (20, 30, 4)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    assert np.allclose(files.read_rgba(tmp_path / "in.gif")[5, 5], (1.0, 0.0, 0.0, 1.0), atol=0.01)


def _write_bad(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("no image at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(
            path, format="PNG"
        )
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "no pixels":
        path.write_bytes(_png(0, 0))
    elif kind == "wide":
        path.write_bytes(_png(30_000, 100))
    elif kind == "bomb":
        path.write_bytes(_png(16_000, 16_000))
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "kind", ["missing", "text", "empty", "truncated", "no pixels", "wide", "bomb", "folder"]
)
def test_bad_files_are_named_with_a_remedy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture of mine.png"
    _write_bad(path, kind)
    with pytest.raises(InputError) as caught:
        files.read_rgba(path)
    assert path.name in caught.value.message
    assert caught.value.remedy


def test_a_jpeg_of_endless_passes_is_refused_before_the_first(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(_ramp()).save(
        path, progressive=True, exif=Image.Exif(), comment=b"\xff\xda" * 999
    )
    files.read_rgba(path)
    sound = path.read_bytes()
    start, end = sound.rindex(b"\xff\xda"), sound.rindex(b"\xff\xd9")
    path.write_bytes(sound[:end] + sound[start:end] * 200 + sound[end:])
    with pytest.raises(InputError, match="200 passes"):
        files.read_rgba(path)


def test_pictures_that_would_start_another_program_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert files.picture_size(path) is None
    with pytest.raises(InputError, match="not an image"):
        files.read_rgba(path)


def test_values_that_are_no_numbers_are_black(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    for values in ([np.nan, np.nan], [np.nan, 0.5], [np.inf, 0.5]):
        Image.fromarray(np.array([values], dtype=np.float32)).save(path)
        assert files.read_rgba(path)[0, 1, 0] == np.nan_to_num(values[1])


@pytest.mark.parametrize(("side", "value", "word"), [(100, None, "few"), (300, 130, "embroidery")])
def test_useless_references_are_refused(
    tmp_path: Path, side: int, value: int | None, word: str
) -> None:
    path = tmp_path / "reference.png"
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    pixels = noise if value is None else np.full_like(noise, value)
    Image.fromarray(pixels).save(path)
    with pytest.raises(InputError, match=word):
        files.read_reference(path)


def test_mask_is_alpha_or_lightness_at_the_wanted_size(tmp_path: Path) -> None:
    alpha = np.zeros((40, 60, 4), dtype=np.uint8)
    alpha[:, 30:] = 255
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(alpha[..., 0]).save(tmp_path / "grey.png")
    for name in ("alpha.png", "grey.png"):
        mask = files.read_mask(tmp_path / name, (80, 120))
        assert mask.shape == (80, 120)
        assert mask[:, :58].max() == 0.0
        assert mask[:, 62:].min() == 1.0


def test_a_mask_of_another_shape_is_refused_with_both_sizes(tmp_path: Path) -> None:
    for side in ((120, 80), (80, 80), (60, 100)):
        Image.new("L", side, 255).save(tmp_path / "mask.png")
        with pytest.raises(InputError) as caught:
            files.read_mask(tmp_path / "mask.png", (120, 80))
        assert f"{side[0]} × {side[1]}" in caught.value.message
        assert "80 × 120" in caught.value.message
        assert "proportions" in caught.value.remedy


@pytest.mark.parametrize("side", [(100, 67), (300, 200), (3000, 2001), (37, 25)])
def test_a_mask_of_the_same_shape_is_scaled_whatever_was_rounded(
    tmp_path: Path, side: tuple[int, int]
) -> None:
    Image.new("L", side, 255).save(tmp_path / "mask.png")
    assert files.read_mask(tmp_path / "mask.png", (1000, 1500)).shape == (1000, 1500)


def test_failed_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"
    files.write_png(path, _ramp())
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ResourceError, match="No space left"):
        files.write_png(path, np.zeros((4, 4, 3)))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["out.png"]


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="nowhere"):
        files.write_png(tmp_path / "nowhere" / "out.png", _ramp())
