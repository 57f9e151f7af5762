"""Whatever a user may give or a machine may lack: a message with file and remedy, nothing broken.

Every case runs through the engine as a job does, and once more through the command line.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from restyling import collect
from running import artwork, embroidery, save

from backend import checks, cli
from backend.checks import clear_failures
from backend.engine import Engine
from backend.errors import InputError, ResourceError, StitchworkError, StyleError
from backend.jobs import PreviewJob, RestyleJob, TrainJob


@pytest.fixture
def job(tmp_path: Path) -> PreviewJob:
    return PreviewJob(
        reference=str(save(tmp_path / "reference.png", embroidery())),
        input=str(save(tmp_path / "art.png", artwork())),
        out=str(tmp_path / "result" / "out.png"),
    )


def run(job: Any) -> Any:
    return collect(Engine().run(job))[1]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        sum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", sum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def truncated(path: Path) -> None:
    save(path, embroidery(300))
    path.write_bytes(path.read_bytes()[:2000])


def one_colour(path: Path) -> None:
    save(path, np.full((200, 200, 3), 120, dtype=np.uint8))


UNUSABLE: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_text("not a picture"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "no pixels": lambda path: path.write_bytes(png_of_size(0, 0)),
    "30,000 px": lambda path: path.write_bytes(png_of_size(30_000, 30_000)),
    "30,000 px wide": lambda path: path.write_bytes(png_of_size(30_000, 100)),
    "folder": lambda path: path.mkdir(),
    "missing": lambda path: None,
    "small": lambda path: save(path, embroidery(60)),
}
UNUSABLE_REFERENCES = UNUSABLE | {
    "one colour": one_colour,
    "under 128 px": lambda path: save(path, embroidery(127)),
}


def unchanged(folder: Path) -> dict[str, bytes]:
    """All files of a folder and their bytes."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", UNUSABLE_REFERENCES)
@pytest.mark.parametrize("kind", ["train", "preview"])
def test_an_unusable_reference_is_named(
    job: PreviewJob, tmp_path: Path, what: str, kind: str
) -> None:
    path = tmp_path / "photo.png"
    UNUSABLE_REFERENCES[what](path)
    before = unchanged(tmp_path)
    bad: Any = replace(job, reference=str(path))
    if kind == "train":
        bad = TrainJob(reference=str(path), out=str(tmp_path / "style"), base="/no/model")
    with pytest.raises(InputError) as caught:
        run(bad)
    assert "photo.png" in caught.value.message
    assert caught.value.remedy
    assert unchanged(tmp_path) == before


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("field", ["input", "design", "mask"])
def test_an_unusable_input_is_named(job: PreviewJob, tmp_path: Path, what: str, field: str) -> None:
    if what == "small" and field != "input":
        pytest.skip("designs and masks are scaled to what they belong to")
    path = tmp_path / "given.png"
    UNUSABLE[what](path)
    before = unchanged(tmp_path)
    with pytest.raises(InputError) as caught:
        run(replace(job, **{field: str(path)}))
    assert "given.png" in caught.value.message
    assert caught.value.remedy
    assert unchanged(tmp_path) == before


def test_a_mask_or_design_of_nothing_is_said_before_a_model_is_loaded(
    job: PreviewJob, tmp_path: Path
) -> None:
    black = save(tmp_path / "black.png", np.zeros((200, 200), dtype=np.uint8))
    clear = save(tmp_path / "clear.png", np.zeros((80, 80, 4), dtype=np.uint8))
    save(Path(job.reference), embroidery(200))
    train = TrainJob(
        reference=job.reference, mask=str(black), out=str(tmp_path / "style"), base="/no/model"
    )
    with pytest.raises(InputError, match=r"black\.png: this mask selects nothing"):
        run(train)
    with pytest.raises(InputError, match=r"clear\.png: nothing is drawn"):
        run(replace(job, design=str(clear)))
    assert not (tmp_path / "style").exists()


def test_the_factor_that_would_fit_is_said(job: PreviewJob, tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.png", np.zeros((64, 10_240, 3), dtype=np.uint8))
    with pytest.raises(InputError, match=r"0\.800"):
        run(replace(job, input=str(wide)))


def cmyk(path: Path) -> None:
    Image.fromarray(artwork(96, 96)[..., :3]).convert("CMYK").save(path, format="JPEG")


def sixteen_bit(path: Path) -> None:
    grey = np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16)
    Image.fromarray(grey).save(path, format="PNG")


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (96, 96), colour) for colour in ("red", "blue")]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def palette(path: Path) -> None:
    Image.fromarray(artwork(96, 96)).convert("P").save(path, format="PNG")


def all_one_colour(path: Path) -> None:
    Image.new("RGB", (96, 96), (200, 30, 30)).save(path, format="PNG")


def all_transparent(path: Path) -> None:
    Image.new("RGBA", (96, 96), (0, 0, 0, 0)).save(path, format="PNG")


@pytest.mark.parametrize(
    "make", [cmyk, sixteen_bit, animated, palette, all_one_colour, all_transparent]
)
def test_odd_but_usable_inputs_work(
    job: PreviewJob, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "odd"
    make(path)
    run(replace(job, input=str(path)))
    with Image.open(job.out) as picture:
        assert picture.size == (96, 96)
        assert picture.mode == "RGBA"


def test_a_rotated_photo_comes_out_upright(job: PreviewJob, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(artwork(72, 120)[..., :3]).save(path, exif=exif)
    run(replace(job, input=str(path)))
    with Image.open(job.out) as picture:
        assert picture.size == (120, 72)


@pytest.fixture
def restyle_job(job: PreviewJob, tmp_path: Path) -> RestyleJob:
    return RestyleJob(style=str(tmp_path / "style"), input=job.input, out=job.out)


def test_damaged_styles_are_named(restyle_job: RestyleJob, tmp_path: Path) -> None:
    folder = tmp_path / "style"
    for text in (None, "{", "[]", "{}", '{"schema": 99}', '{"schema": 1}'):
        folder.mkdir(exist_ok=True)
        if text is not None:
            (folder / "style.json").write_text(text)
        with pytest.raises(StyleError) as caught:
            run(restyle_job)
        assert "style" in caught.value.message
        assert caught.value.remedy
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="style"):
        run(restyle_job)
    folder.write_text("a file")
    with pytest.raises(InputError, match="not a style folder"):
        run(restyle_job)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may not write to, root or not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_said_before_any_work(
    job: PreviewJob, tmp_path: Path, read_only_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The inputs stay readable for whoever runs the test now.
    monkeypatch.setattr(checks.Path, "exists", lambda path: "art" in path.name or True)
    monkeypatch.setattr(checks.Path, "is_file", lambda path: path.suffix == ".png")
    for out in (read_only_folder / "out.png", read_only_folder / "new" / "out.png"):
        with pytest.raises(ResourceError) as caught:
            checks.check_files(replace(job, out=str(out)))
        assert str(out) in caught.value.message
        assert caught.value.remedy
    assert list(read_only_folder.iterdir()) == []


def test_too_small_a_disk_is_said_before_any_work(
    job: PreviewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match="10 MiB free"):
        run(job)
    assert not Path(job.out).parent.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_fills_up_is_said(
    job: PreviewJob, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    Path(job.out).parent.mkdir()
    Path(job.out).write_bytes(b"an older result")

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ResourceError) as caught:
        run(job)
    assert "out.png" in caught.value.message
    assert caught.value.remedy
    assert unchanged(Path(job.out).parent) == {job.out: b"an older result"}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_said(error: Exception) -> None:
    with pytest.raises(ResourceError) as caught, clear_failures("/o.png"):
        raise error
    assert caught.value.remedy


@pytest.mark.parametrize("error", [RuntimeError("a defect"), OSError(errno.EIO, "broken disk")])
def test_defects_are_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error), match=r"defect|broken"), clear_failures("/o.png"):
        raise error


@pytest.mark.parametrize(
    ("out", "complaint"),
    [("out.jpg", "PNG"), ("folder.png", "folder"), ("art.png/out.png", "written")],
)
def test_an_impossible_output_is_said(
    job: PreviewJob, tmp_path: Path, out: str, complaint: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StitchworkError, match=complaint):
        run(replace(job, out=str(tmp_path / out)))


def test_a_style_does_not_replace_other_things(job: PreviewJob, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    for out in (mine, Path(job.input)):
        with pytest.raises(InputError):
            run(TrainJob(reference=job.reference, out=str(out)))
    assert (mine / "letter.txt").read_text() == "dear"


def test_the_command_line_says_it_in_one_line(
    job: PreviewJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, make in UNUSABLE_REFERENCES.items():
        path = tmp_path / f"{what}.png"
        make(path)
        code = cli.main(
            ["preview", "--reference", str(path), "--input", job.input, "--out", job.out]
        )
        printed = capsys.readouterr()
        assert code == 1
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1, what
        assert path.name in printed.err
        assert printed.out == ""
