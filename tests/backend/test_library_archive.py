"""A style as one file: there and back, and all that a stranger's file may try."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from shelving import LAYER, shelf_of, style

from backend import cli
from backend.errors import InputError, ResourceError, StitchworkError, StyleError
from backend.library import archive
from backend.library.archive import export_style, import_style
from backend.styles import SCHEMA, WEIGHTS

Parts = dict[str, bytes]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sound style file."""
    shelf_of(tmp_path / "mine", "roses")
    export_style(tmp_path / "mine" / "roses", tmp_path / "roses.stitchstyle")
    return tmp_path / "roses.stitchstyle"


def contents(folder: Path) -> Parts:
    paths = [each for each in folder.rglob("*") if each.is_file()]
    return {str(each.relative_to(folder)): each.read_bytes() for each in paths}


def unpacked(file: Path) -> Parts:
    with zipfile.ZipFile(file) as stored:
        return {name: stored.read(name) for name in stored.namelist()}


def packed(file: Path, parts: Parts, **settings: Any) -> None:
    with zipfile.ZipFile(file, "w", **settings) as stored:
        for name, data in parts.items():
            stored.writestr(name, data)


def test_a_style_comes_back_as_it_was(file: Path, tmp_path: Path) -> None:
    folder = import_style(file, tmp_path / "new" / "library")
    assert folder == tmp_path / "new" / "library" / "roses"
    assert contents(folder) == contents(tmp_path / "mine" / "roses")
    assert [each.name for each in folder.parent.iterdir()] == ["roses"]


def test_the_same_style_gives_the_same_file(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again" / "roses.stitchstyle"
    export_style(tmp_path / "mine" / "roses", again)
    assert again.read_bytes() == file.read_bytes()
    (tmp_path / "mine" / "roses" / "notes.txt").write_text("mine alone")
    export_style(tmp_path / "mine" / "roses", tmp_path / "third.stitchstyle")
    assert (tmp_path / "third.stitchstyle").read_bytes() == file.read_bytes()


def test_nothing_is_overwritten(file: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    with pytest.raises(InputError, match="already"):
        export_style(tmp_path / "mine" / "roses", file)
    with pytest.raises(InputError, match="already"):
        import_style(file, tmp_path / "mine")
    assert contents(tmp_path) == before
    folder = import_style(file, tmp_path / "mine", "roses 2")
    assert json.loads((folder / "style.json").read_text())["name"] == "roses 2"
    assert (tmp_path / "mine" / "roses").is_dir()
    with pytest.raises(InputError, match="name"):
        import_style(file, tmp_path / "mine", "../elsewhere")


def test_a_damaged_style_is_not_given_away(tmp_path: Path) -> None:
    shelf_of(tmp_path, "roses")
    (tmp_path / "roses" / WEIGHTS).write_bytes(b"x")
    with pytest.raises(StyleError, match="damaged"):
        export_style(tmp_path / "roses", tmp_path / "out.stitchstyle")
    assert [each.name for each in tmp_path.iterdir()] == ["roses"]


def _described(**changes: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts["style.json"] = json.dumps({**json.loads(parts["style.json"]), **changes}).encode()

    return change


def _with(name: str, data: bytes | None) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.pop(name, None)
        if data is not None:
            parts[name] = data

    return change


def _weights(tensors: dict[str, torch.Tensor]) -> Callable[[Parts], None]:
    return _with(WEIGHTS, safetensors.torch.save(tensors))


def _picture(form: str, width: int = 128, height: int = 128) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    Image.fromarray(np.zeros((height, width), dtype=np.uint8)).save(stream, format=form)
    return stream.getvalue()


def _header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


GOOD = {f"{LAYER}.lora_A.weight": torch.ones(4, 8), f"{LAYER}.lora_B.weight": torch.ones(8, 4)}
HOSTILE: dict[str, tuple[Callable[[Parts], None], str]] = {
    "parent": (_with("../evil.json", b"{}"), "outside"),
    "absolute": (_with("/tmp/evil.png", b"x"), "outside"),
    "windows": (_with("..\\evil.png", b"x"), "outside"),
    "drive": (_with("C:evil.png", b"x"), "outside"),
    "folder": (_with("sub/style.json", b"{}"), "outside"),
    "nul": (_with("style.json\0.py", b"{}"), "outside"),
    "pickle": (_with("weights.pkl", b"\x80\x04."), "no part of a style"),
    "script": (_with("run.py", b"print()"), "no part of a style"),
    "no json": (_with("style.json", None), "style.json is missing"),
    "no weights": (_with(WEIGHTS, None), "missing"),
    "no mask": (_with("mask.png", None), "mask.png is missing"),
    "huge json": (_with("style.json", b" " * (2**20 + 1)), "the most"),
    "deep json": (_with("style.json", b"[" * 500_000), "style.json: cannot be read"),
    "not utf-8": (_with("style.json", b"\xff\xfe{}"), "style.json: cannot be read"),
    "other json": (_with("style.json", b"[1]"), "description"),
    "schema": (_described(schema=SCHEMA + 1), f"schema {SCHEMA + 1}"),
    "surplus": (_described(surprise=1), "unknown"),
    "types": (_described(rank="many", blocks=[1]), "blocks, rank cannot be"),
    "nested": (_described(prompts={"design": {}}), "prompts cannot be"),
    "name with path": (_described(name="../../evil"), "name"),
    "name for terminals": (_described(name="\x1b[2J"), "name"),
    "empty name": (_described(name=""), "name"),
    "text as picture": (_with("reference.png", b"hello"), "reference.png is no PNG"),
    "gif as png": (_with("preview.png", _picture("GIF")), "preview.png is no PNG"),
    "cut png": (_with("design.png", _picture("PNG")[:60]), "damaged"),
    "wide png": (_with("blocks.png", _picture("PNG", 8200, 1)), "8192"),
    "other size": (_with("mask.png", _picture("PNG", 64, 64)), "differ in size"),
    "torch file": (_with(WEIGHTS, b"PK\x03\x04archive/data.pkl"), "weights are damaged"),
    "empty weights": (_with(WEIGHTS, b""), "weights are damaged"),
    "long header": (_with(WEIGHTS, _header(b"{}", 2**62)), "weights are damaged"),
    "cut weights": (_with(WEIGHTS, safetensors.torch.save(GOOD)[:-8]), "weights are damaged"),
    "overlap": (
        _with(
            WEIGHTS,
            _header(
                json.dumps(
                    {
                        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
                        for name in GOOD
                    }
                ).encode()
            )
            + bytes(16),
        ),
        "weights are damaged",
    ),
    "no tensors": (_weights({}), "not those of a style"),
    "other tensors": (_weights({"text_model.weight": torch.ones(2)}), "not those of a style"),
    "half a layer": (_weights(dict(list(GOOD.items())[:1])), "do not fit"),
    "ranks": (_weights({**GOOD, f"{LAYER}.lora_B.weight": torch.ones(8, 3)}), "do not fit"),
    "vectors": (_weights({name: torch.ones(4) for name in GOOD}), "do not fit"),
    "integers": (_weights({n: v.to(torch.int32) for n, v in GOOD.items()}), "unknown type"),
    "not numbers": (_weights({n: v * torch.nan for n, v in GOOD.items()}), "no numbers"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_belong_is_refused_by_name(file: Path, tmp_path: Path, case: str) -> None:
    change, message = HOSTILE[case]
    parts = unpacked(file)
    change(parts)
    if case == "nul":
        parts = {name.replace("\0", "?"): data for name, data in parts.items()}
    packed(file, parts, compression=zipfile.ZIP_DEFLATED)
    if case == "nul":
        file.write_bytes(file.read_bytes().replace(b"style.json?.py", b"style.json\0.py"))
    library = shelf_of(tmp_path / "library", "tulips")
    before = contents(tmp_path)
    with pytest.raises(StitchworkError, match=message) as caught:
        import_style(file, library)
    assert caught.value.remedy
    assert ".import-" not in str(caught.value)
    if "name" not in case:
        assert str(file) in caught.value.message
    assert contents(tmp_path) == before
    assert sorted(each.name for each in library.iterdir()) == ["tulips"]


def _rewritten(file: Path, change: Callable[[zipfile.ZipInfo], None]) -> None:
    parts = unpacked(file)
    with zipfile.ZipFile(file, "w") as stored:
        for name, data in parts.items():
            about = zipfile.ZipInfo(name)
            if name == "mask.png":
                change(about)
            stored.writestr(about, data)


def test_links_in_a_file_are_refused(file: Path, tmp_path: Path) -> None:
    def link(about: zipfile.ZipInfo) -> None:
        about.external_attr = (stat.S_IFLNK | 0o777) << 16

    _rewritten(file, link)
    with pytest.raises(InputError, match="no plain file"):
        import_style(file, tmp_path / "library")


def test_unknown_packing_is_refused(file: Path, tmp_path: Path) -> None:
    packed(file, unpacked(file), compression=zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match="unknown way"):
        import_style(file, tmp_path / "library")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_part_that_is_there_twice_is_refused(file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file, "a") as stored:
        stored.writestr("style.json", b"{}")
    with pytest.raises(InputError, match="more than once"):
        import_style(file, tmp_path / "library")


def test_a_long_list_of_contents_is_refused_unread(file: Path, tmp_path: Path) -> None:
    packed(file, {f"{number}.png": b"" for number in range(5_000)})
    with pytest.raises(InputError, match="more than a style does"):
        import_style(file, tmp_path / "library")
    packed(file, {f"{number}.png": b"" for number in range(20)})
    with pytest.raises(InputError, match="more than a style does"):
        import_style(file, tmp_path / "library")


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 1000, b"PK\x05\x06" + bytes(17)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.stitchstyle").write_bytes(data)
    with pytest.raises(InputError, match="no style file"):
        import_style(tmp_path / "a.stitchstyle", tmp_path / "library")
    with pytest.raises(InputError, match="no such file"):
        import_style(tmp_path / "none.stitchstyle", tmp_path / "library")


def test_every_cut_and_many_a_changed_byte_is_survived(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    library = tmp_path / "library"
    for length in rng.integers(0, len(whole), 20).tolist():
        file.write_bytes(whole[:length])
        with pytest.raises(StitchworkError):
            import_style(file, library)
    # The list of contents and the end are where a reader is led astray most easily.
    for place in rng.integers(len(whole) - 900, len(whole), 150).tolist():
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(changed)
        try:
            import_style(file, library)
        except StitchworkError:
            continue
        (folder,) = library.iterdir()
        assert contents(folder) == contents(tmp_path / "mine" / "roses")
        folder.rename(tmp_path / f"kept {place} {len(list(tmp_path.iterdir()))}")
    assert not library.exists() or list(library.iterdir()) == []


def test_a_disk_without_room_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_free", lambda folder: 1000)
    with pytest.raises(ResourceError, match="the style needs 1 MiB"):
        import_style(file, tmp_path / "library")
    with pytest.raises(ResourceError, match="cannot be put there"):
        import_style(file, file / "library")


def test_the_commands_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    style("red roses").save(tmp_path / "red roses")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["styles", "export", "red roses"]) == 0
    assert (tmp_path / "red roses.stitchstyle").is_file()
    assert cli.main(["styles", "import", "red roses.stitchstyle", "--library", "other"]) == 0
    assert cli.main(["styles", "import", "red roses.stitchstyle"]) == 1
    assert "already" in capsys.readouterr().err
    assert cli.main(["styles", "rename", "red roses", "roses", "--library", "other"]) == 0
    assert (tmp_path / "other" / "roses" / "style.json").is_file()
