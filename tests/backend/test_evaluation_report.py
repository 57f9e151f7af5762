"""The report: a self-contained page that says what its manifest says."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from running import artwork, embroidery, save

from backend import cli
from backend.errors import InputError, ResourceError
from backend.evaluation.definitions import MEASURES, Comparison, measure
from backend.evaluation.report import Fact, Manifest, Picture, Timing, write_report


class Page(HTMLParser):
    """Addresses, words and tags of a page; complains about tags that are not closed in order."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    folder = tmp_path / "run"
    folder.mkdir()
    save(folder / "design.png", artwork(128, 128))
    sewn = artwork(128, 128)
    sewn[sewn[..., 3] > 0, 0] += np.arange((sewn[..., 3] > 0).sum(), dtype=np.uint8) % 6 * 8
    save(folder / "sewn.png", sewn)
    save(folder / "photo.png", embroidery())
    files = {"design": "design.png", "reference": "photo.png"}
    return Manifest(
        title="T-shirt <1>",
        facts=(Fact(name="profile", value="starter"),),
        pictures=(
            Picture(path="design.png", caption="plain", group="Texture", note="Before & after."),
            Picture(path=str(folder / "sewn.png"), caption="trained", group="Texture"),
            Picture(path="photo.png", caption="photo", group="Style"),
        ),
        timings=(
            Timing(stage="stage one", seconds=125.0, group="train"),
            Timing(stage="bake", seconds=0.0),
        ),
        comparisons=(
            Comparison(label="plain", image="design.png", baseline=True, **files),
            Comparison(label="trained", image="sewn.png", **files),
        ),
        measures={"trained": {"ssim": 0.5}, "rival": {"ssim": 0.25}},
        notes=("Nothing <b>bold</b>.",),
        folder=folder,
    )


def test_the_page_is_whole_and_its_pictures_are_there(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "report.html"
    write_report(manifest, out)
    page = Page(out.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 3
    assert "script" not in page.tags
    for address in page.addresses:
        assert not urlsplit(address).scheme
        assert (out.parent / address).is_file()
        assert not address.startswith(("/", ".."))
    for words in ("T-shirt <1>", "starter", "plain", "Before & after.", "2:05 min", "<b>bold</b>"):
        assert words in page.words
    assert not list(out.parent.glob(".*"))


def test_pictures_beside_the_page_are_not_copied(manifest: Manifest) -> None:
    out = manifest.folder / "report.html"
    before = {path.name for path in manifest.folder.iterdir()}
    write_report(manifest, out)
    assert {path.name for path in manifest.folder.iterdir()} == before | {"report.html"}
    assert 'src="design.png"' in out.read_text()


def test_only_the_best_rival_of_a_row_is_bold(manifest: Manifest) -> None:
    write_report(manifest, manifest.folder / "report.html")
    text = (manifest.folder / "report.html").read_text()
    assert "<b>0.50</b>" in text
    assert "<b>0.25</b>" not in text
    # The plain design keeps its own colours exactly, which is no merit.
    assert "<b>0.00</b>" not in text
    page = Page(text)
    shown = [each.title for each in MEASURES if each.title in page.words]
    assert "HFRD" in shown
    assert "PSNR to the true answer" not in shown
    assert all(each.meaning.split(";")[0] in page.words for each in MEASURES if each.title in shown)


def test_every_file_given_is_measured(manifest: Manifest) -> None:
    values = measure(
        Comparison(
            label="x",
            image="sewn.png",
            design="design.png",
            reference="photo.png",
            mask="design.png",
            reference_mask="photo.png",
            truth="sewn.png",
        ),
        manifest.folder,
    )
    assert set(values) == {each.name for each in MEASURES}
    assert values["ssim"] == pytest.approx(1.0)
    assert values["changed_outside"] == 0.0
    assert 0.0 < values["colour_shift"] < 5.0


def test_large_pictures_are_measured_where_the_motif_is(tmp_path: Path) -> None:
    big = np.zeros((2000, 1800, 4), dtype=np.uint8)
    big[1700:1900, 100:300] = (90, 140, 60, 255)
    save(tmp_path / "design.png", big)
    save(tmp_path / "photo.png", embroidery())
    comparison = Comparison(
        label="x", image="design.png", design="design.png", reference="photo.png"
    )
    values = measure(comparison, tmp_path)
    assert values["histogram_design"] == pytest.approx(0.0, abs=1e-6)
    assert values["colour_shift"] == pytest.approx(0.0, abs=1e-6)


def test_a_manifest_survives_json(manifest: Manifest) -> None:
    path = manifest.folder / "manifest.json"
    path.write_text(json.dumps(manifest.to_dict()))
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize(
    "data",
    [
        "{",
        [],
        {},
        {"title": "t", "colour": 1},
        {"title": "t", "pictures": [{"path": "a.png"}]},
        {"title": "t", "timings": [3]},
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "m.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(InputError, match=r"m\.json"):
        Manifest.read(path)


def test_the_command_writes_the_page(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = manifest.folder / "manifest.json", manifest.folder / "report.html"
    path.write_text(json.dumps(manifest.to_dict()))
    assert cli.main(["report", "--manifest", str(path), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    (manifest.folder / "photo.png").unlink()
    before = out.read_text()
    assert cli.main(["report", "--manifest", str(path), "--out", str(out)]) == 1
    assert "photo.png" in capsys.readouterr().err
    assert out.read_text() == before


def test_an_unwritable_page_is_said(manifest: Manifest) -> None:
    with pytest.raises(ResourceError) as caught:
        write_report(manifest, manifest.folder / "photo.png" / "report.html")
    assert caught.value.remedy
