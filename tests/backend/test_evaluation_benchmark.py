"""A benchmark on the tiny model: whole, interrupted, and of things that cannot be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from backend import cli
from backend.errors import InputError, ResourceError
from backend.evaluation.benchmark import making, work
from backend.evaluation.benchmark import store as store_module
from backend.evaluation.benchmark.settings import Extent, Settings
from backend.evaluation.benchmark.store import JUDGES, MAKERS, Store, sources
from backend.imaging.files import read_rgba
from backend.models.profiles import Profile
from backend.progress import outcome

EXTENT = Extent(looks=1, families=1, designs=2, prompts=1, photo=2.0, side=1.0, steps=(2, 1))
NAMES = ("b-lora", "base", "preview")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes what is trained, embroidered and drawn; the sample photo is left out."""
    notes: list[str] = []

    def noting(name: str, index: int) -> None:
        do = getattr(making, name)

        def note(*values: Any) -> Any:
            notes.append(f"{name} {values[index].name}")
            return do(*values)

        monkeypatch.setattr(making, name, note)

    noting("train_style", 2)
    noting("embroider", 2)
    noting("draw", 2)
    monkeypatch.setattr(work, "sample", list)
    return notes


@pytest.fixture
def settings(tmp_path: Path, tiny_model: Path) -> Settings:
    return Settings(
        out=tmp_path / "out", extent=EXTENT, methods=NAMES, seed=3, base=str(tiny_model)
    )


def report_of(settings: Settings) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((settings.out / "report.json").read_text())
    return report


def test_a_benchmark_is_measured_shown_and_made_once(
    settings: Settings, made: list[str], tiny_profile: Profile
) -> None:
    stages = [each.stage for each in work.benchmark(settings, tiny_profile)]
    assert list(dict.fromkeys(stages)) == [
        "making the sets", "loading", "style blocks", "training", "embroidering", "from words",
    ]  # fmt: skip
    assert made.count("train_style ours") == 1
    assert not {"train_style base", "train_style preview", "draw preview"} & set(made)
    report = report_of(settings)
    methods = [each["name"] for each in report["methods"]]
    assert methods == ["ours", *NAMES]
    assert len(report["cells"]) == 4 * 2
    assert len(report["drawn"]) == 3
    for method in methods:
        table = report["summary"][method]
        assert {"hfrd", "band_distance", "true_orientation", "ms_ssim", "shape_loss"} <= set(table)
        assert all(each["low"] <= each["mean"] <= each["high"] for each in table.values())
    assert {each["group"] for each in report["targets"]} == {"style", "colour", "content"}
    assert set(report["bands"]) == {"reference", "true answer", *methods}
    page = (settings.out / "report.html").read_text()
    addresses = {unquote(each) for each in re.findall(r'(?:src|href)="([^"]+)"', page)}
    assert len(addresses) == 2 + 2 + 2 + 4 * 2 + 3  # pair, designs, truths, cells, words
    assert all((settings.out / each).is_file() for each in addresses)
    row = read_rgba(settings.out / "rows" / f"{report['references'][0]['name']}.png")
    # Reference, design and true answer, then those of the four methods that are shown: not b-lora.
    assert row.shape[1] == 6 * row.shape[0] + 5 * 4
    # Pictures come before any table of numbers.
    assert page.index("<table class=grid>") < page.index("<table class=numbers>")

    made.clear()
    outcome(work.benchmark(settings, tiny_profile))
    assert made == []
    assert report_of(settings) == report


def test_an_interrupted_benchmark_goes_on_and_ends_alike(
    settings: Settings, made: list[str], tiny_profile: Profile, tmp_path: Path
) -> None:
    one = Settings(**{**_fields(settings), "methods": ("preview",)})
    steps = work.benchmark(one, tiny_profile)
    _until(steps, "embroidering")
    steps.close()
    assert made[0] == "train_style ours"
    begun = len(made)
    outcome(work.benchmark(one, tiny_profile))
    assert "train_style ours" not in made[begun:]
    there = Settings(**{**_fields(one), "out": tmp_path / "other"})
    outcome(work.benchmark(there, tiny_profile))
    ours, theirs = report_of(one), report_of(there)
    for each in (*ours["cells"], *theirs["cells"], *ours["drawn"], *theirs["drawn"]):
        del each["seconds"]
    assert ours["cells"] == theirs["cells"]
    assert ours["drawn"] == theirs["drawn"]
    assert ours["summary"] == theirs["summary"]
    picture = ours["cells"][0]["picture"]
    assert (one.out / picture).read_bytes() == (there.out / picture).read_bytes()


def test_words_are_drawn_in_as_many_styles_as_asked(
    settings: Settings, made: list[str], tiny_profile: Profile
) -> None:
    extent = replace(EXTENT, designs=1, families=2, worded=1)
    asked = Settings(**{**_fields(settings), "methods": ("preview",), "extent": extent})
    outcome(work.benchmark(asked, tiny_profile))
    assert made.count("train_style ours") == 2
    assert made.count("draw ours") == 1
    report = report_of(asked)
    assert [each["reference"] for each in report["drawn"]] == [report["references"][0]["name"]]


def _until(steps: Iterator[Any], stage: str) -> None:
    for each in steps:
        if each.stage == stage and each.step > 0:
            return


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}


def test_a_photo_without_a_motif_is_left_out_and_said(
    settings: Settings, made: list[str], tiny_profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        yield from ()
        raise InputError("no motif.", "crop it")

    monkeypatch.setattr(making, "measure_blocks", refuse)
    outcome(work.benchmark(settings, tiny_profile))
    report = report_of(settings)
    assert report["left_out"] == {"cross-stitch-1": "no motif. crop it"}
    assert report["cells"] == []
    assert "no motif" in (settings.out / "report.html").read_text()


def test_results_of_something_else_or_damaged_count_as_missing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put("cells/one", "key", {"value": 1})
    assert Store(tmp_path / "store").get("cells/one", "key") == {"value": 1}
    assert store.get("cells/one", "another") is None
    (tmp_path / "store/cells/one.json").write_text('{"key": "key", "da')
    assert store.get("cells/one", "key") is None


def test_results_of_other_code_count_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/one.py").write_text("ONE = 1\n")
    (tmp_path / "judged.py").write_text("TWO = 2\n")
    monkeypatch.setattr(store_module, "_PACKAGE", tmp_path)
    found = [sources("made"), sources("judged.py"), sources("made", "judged.py")]
    assert len(set(found)) == 3
    sources.cache_clear()
    (tmp_path / "made/one.py").write_text("ONE = 2\n")
    (tmp_path / "made/page.css").write_text("")
    assert sources("made") != found[0]
    assert sources("judged.py") == found[1]
    sources.cache_clear()


def test_what_makes_and_judges_is_where_the_benchmark_looks() -> None:
    package = Path(store_module.__file__).parents[2]
    assert all((package / each).exists() for each in (*MAKERS, *JUDGES))


@pytest.mark.parametrize("case", ["missing", "no image", "not an image"])
def test_a_folder_of_references_must_hold_photos(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    if case != "missing":
        folder.mkdir()
        (folder / "notes.txt").write_text("nothing")
    if case == "not an image":
        (folder / "broken.jpg").write_bytes(b"JPEG?")
    arguments = ["benchmark", "--out", str(tmp_path / "out"), "--references", str(folder)]
    assert cli.main(arguments) == cli.EXIT_FAILED
    said = capsys.readouterr().err
    assert ("broken.jpg" if case == "not an image" else str(folder)) in said
    assert not (tmp_path / "out").exists()


def test_what_is_in_the_way_of_the_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="not a benchmark"):
        Store(tmp_path)
    with pytest.raises(ResourceError, match=r"letter\.txt"):
        Store(tmp_path / "letter.txt" / "out")


def test_a_seed_must_be_one_that_jobs_take(tmp_path: Path) -> None:
    arguments = ["benchmark", "--out", str(tmp_path / "out"), "--seed", "-1"]
    assert cli.main(arguments) == cli.EXIT_FAILED
    assert not (tmp_path / "out").exists()


def test_an_unknown_method_is_named_with_those_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["benchmark", "--out", str(tmp_path / "out"), "--methods", "knitting"]
    assert cli.main(arguments) == cli.EXIT_FAILED
    said = capsys.readouterr().err
    assert "knitting" in said
    assert "b-lora" in said
