"""What takes bytes from strangers, each as a function of bytes: nothing but typed errors come out.

`fuzz.py` looks for bytes that break one, `test_fuzz_targets.py` keeps what was found.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_requests import Requests
from fuzzing import ODD_WORDS, Target, job
from PIL import Image
from shelving import style

from backend.batch.columns import COLUMNS
from backend.batch.manifest import read_manifest
from backend.batch.row import Row
from backend.errors import InputError, StyleError
from backend.imaging.files import picture_size, read_mask, read_reference, read_rgba
from backend.jobs import JOB_TYPES, TASKS, JobError, job_from_dict, job_to_dict
from backend.library.archive import export_style, import_style
from backend.service.answers import parse_object
from backend.service.security import Roots
from backend.styles import DESCRIPTION, WEIGHTS

__all__ = ["TARGETS"]


class Jobs(Target):
    """JSON of a job, then the paths in it."""

    name = "jobs"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._root, outside = folder / "root", folder / "outside"
        self._root.mkdir()
        outside.mkdir()
        (self._root / "link").symlink_to(outside)
        self._roots = Roots([self._root])

    def seeds(self) -> Mapping[str, bytes]:
        return {kind: json.dumps(job(kind)).encode() for kind in JOB_TYPES}

    def words(self) -> tuple[str, ...]:
        fields = {each for kind in JOB_TYPES.values() for each in kind.__dataclass_fields__}
        return (*ODD_WORDS, *sorted(fields), *JOB_TYPES, *TASKS, "ROOT/link/", "ROOT/../", "a/b")

    def __call__(self, data: bytes) -> bool:
        try:
            made = job_from_dict(parse_object(data.replace(b"ROOT", bytes(self._root))))
            assert job_from_dict(json.loads(json.dumps(job_to_dict(made)))) == made
            confined = self._roots.confine(made)
        except (JobError, InputError):
            return False
        for field in dataclasses.fields(confined):
            value = getattr(confined, field.name)
            if field.metadata.get("path") and value is not None:
                assert Path(value).resolve().is_relative_to(self._root.resolve()), value
        return True


class Archives(Target):
    """A style's file, or one part of a sound one: the first byte says which."""

    name = "archives"
    largest = 8192
    parts = ("", DESCRIPTION, WEIGHTS, "reference.png", "mask.png")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        flat = np.full((8, 8, 3), 0.5, dtype=np.float32)
        style("roses", reference=flat).save(folder / "roses")
        self._file, self._library = folder / "a.stitchstyle", folder / "library"
        export_style(folder / "roses", self._file)
        self._whole = self._file.read_bytes()
        with zipfile.ZipFile(self._file) as stored:
            self._sound = {name: stored.read(name) for name in stored.namelist()}
        shutil.rmtree(folder / "roses")

    def seeds(self) -> Mapping[str, bytes]:
        found = {"archive": b"\0" + self._whole}
        for number, name in enumerate(self.parts[1:], start=1):
            found[name] = bytes([number]) + self._sound[name]
        return found

    def words(self) -> tuple[str, ...]:
        header = ("dtype", "shape", "data_offsets", "__metadata__", "F32", "F8_E4M3", "lora_A")
        return (*ODD_WORDS, *header, *json.loads(self._sound[DESCRIPTION]), *self._sound, "PK\1\2")

    def __call__(self, data: bytes) -> bool:
        part = self.parts[data[0] % len(self.parts)] if data else ""
        self._file.write_bytes(self._packed(part, data[1:]) if part else data[1:])
        refused = False
        try:
            import_style(self._file, self._library)
        except (InputError, StyleError):  # no ResourceError: the disk is innocent
            refused = True
        names = sorted(each.name for each in self.folder.iterdir())
        assert names in (["a.stitchstyle"], ["a.stitchstyle", "library"]), names
        assert not (refused and any(self._library.glob("*"))), "something is left of it"
        shutil.rmtree(self._library, ignore_errors=True)
        return not refused

    def _packed(self, name: str, content: bytes) -> bytes:
        stream = BytesIO()
        with zipfile.ZipFile(stream, "w") as stored:
            for each, data in {**self._sound, name: content}.items():
                stored.writestr(zipfile.ZipInfo(each), data)
        return stream.getvalue()


class Images(Target):
    """A picture, however it is read."""

    name = "images"

    def seeds(self) -> Mapping[str, bytes]:
        y, x = np.mgrid[:9, :12]
        rgb = np.dstack([x * 20, y * 25, x * y * 2]).astype(np.uint8)
        picture = Image.fromarray(rgb)
        turned = Image.Exif()
        turned[0x0112] = 6
        found = {}
        for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "AVIF", "JPEG2000"):
            found[form.lower()] = _saved(picture, form)
        found["exif.jpg"] = _saved(picture, "JPEG", exif=turned)
        found["progressive.jpg"] = _saved(picture, "JPEG", progressive=True)
        found["animation.png"] = _saved(picture, "PNG", save_all=True, append_images=[picture])
        for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
            found[f"{mode}.png"] = _saved(picture.convert("L").convert(mode), "PNG")
        for mode in ("CMYK", "F", "I", "LAB"):
            source = picture if mode in ("CMYK", "LAB") else picture.convert("L")
            converted = Image.new("LAB", (3, 2)) if mode == "LAB" else source.convert(mode)
            found[f"{mode}.tif"] = _saved(converted, "TIFF")
        found["lzw.tif"] = _saved(picture, "TIFF", compression="tiff_lzw")
        not_numbers = np.array([[np.nan, np.inf], [0.5, -1.0]], dtype=np.float32)
        found["not numbers.tif"] = _saved(Image.fromarray(not_numbers), "TIFF")
        return found

    def words(self) -> tuple[str, ...]:
        chunks = ("IHDR", "IDAT", "iCCP", "tEXt", "zTXt", "eXIf", "acTL", "fcTL", "tRNS", "PLTE")
        return (*chunks, "JFIF", "Exif\0\0", "RIFF", "VP8L", "II*\0", "MM\0*", "GIF89a", "%!PS")

    def __call__(self, data: bytes) -> bool:
        path = self.folder / "picture.png"
        path.write_bytes(data)
        size = picture_size(path)
        assert size is None or len(size) == 2
        taken = False
        for read in (read_rgba, read_mask, read_reference):
            try:
                pixels = read(path)
            except InputError:
                continue
            assert pixels.dtype == np.float32
            assert 0.0 <= float(pixels.min()) <= float(pixels.max()) <= 1.0
            taken = True
        return taken


def _saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


class Manifests(Target):
    """A batch's manifest; the first byte says whether it is JSON or CSV."""

    name = "manifests"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        flat = np.full((8, 8, 3), 0.5, dtype=np.float32)
        style("satin", reference=flat).save(folder / "satin")
        Image.new("RGB", (8, 8)).save(folder / "a.png")

    def seeds(self) -> Mapping[str, bytes]:
        crossed = {"inputs": ["a.png", {"input": "a.png", "seed": 1}], "styles": ["satin", "a.png"]}
        said = {"prompts": ["a red heart", {"prompt": "stars", "width": 80}], "styles": ["satin"]}
        row = {"input": "a.png", "style": "satin", "strength": 0.5, "base": "a/b"}
        return {
            "list.json": b"j" + json.dumps([row]).encode(),
            "crossed.json": b"j" + json.dumps(crossed).encode(),
            "said.json": b"j" + json.dumps(said).encode(),
            "commas.csv": b"cinput,style,reference,seed\na.png,satin,,3\na.png,,a.png,4\n",
            "semicolons.csv": b'c"input";style;strength;kind\r\n"a.png";satin;0,5;relief\r\n',
        }

    def words(self) -> tuple[str, ...]:
        return (
            *ODD_WORDS,
            *COLUMNS,
            "inputs",
            "prompts",
            "styles",
            "satin",
            "a.png",
            "~nobody/",
            "heart",
        )

    def __call__(self, data: bytes) -> bool:
        path = self.folder / ("batch.json" if data[:1] == b"j" else "batch.csv")
        path.write_bytes(data[1:])
        try:
            rows = read_manifest(path)
        except InputError:
            return False
        assert rows
        assert all(isinstance(each, Row) for each in rows)
        return True


TARGETS: dict[str, type[Target]] = {
    each.name: each for each in (Jobs, Archives, Images, Manifests, Requests)
}
