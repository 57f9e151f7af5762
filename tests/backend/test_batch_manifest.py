"""A batch: what its manifest may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manifests import fill, listed, table

from backend.batch.manifest import read_manifest
from backend.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_rows_become_jobs(folder: Path) -> None:
    manifest = table(
        folder,
        "Input;style;reference;strength;Kind;seed;train seed;steps_one;base;designer",
        "bird.png;satin;;0,5;relief;7;;;;",
        "",
        "fish.png;;photo.png;;;;3;20;satin;satin",
    )
    first, second = read_manifest(manifest)
    assert (first.label, second.label) == ("row 2", "row 4")
    assert first.style == str(folder / "satin")
    assert first.fields == {
        "input": str(folder / "bird.png"),
        "strength": 0.5,
        "embroidery": "relief",
        "seed": 7,
    }
    assert second.train == {
        "reference": str(folder / "photo.png"),
        "seed": 3,
        "steps_one": 20,
        "base": str(folder / "satin"),
        "designer": str(folder / "satin"),
    }
    assert second.fields["base"] == str(folder / "satin")


def test_json_crosses_inputs_and_styles(folder: Path) -> None:
    manifest = listed(
        folder,
        {
            "inputs": ["bird.png", {"input": "fish.png", "seed": 1, "mask": None}],
            "styles": ["satin", "photo.png", {"reference": "photo.png", "blocks": "paper"}],
        },
    )
    rows = read_manifest(manifest)
    assert len(rows) == 6
    assert rows[5].label == "input 2, style 3"
    assert rows[5].fields == {"input": str(folder / "fish.png"), "seed": 1}
    assert rows[5].train == {"reference": str(folder / "photo.png"), "blocks": "paper"}
    assert [each.style is None for each in rows] == [False, True, True] * 2
    alone = listed(folder, [{"input": "bird.png", "style": "satin"}])
    assert [each.label for each in read_manifest(alone)] == ["item 1"]


def test_everything_wrong_is_named_with_its_rows(folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    manifest = table(
        folder,
        "input,style,reference,mask,strength,steps,blocks",
        "cat.png,satin,,,,,",
        "bird.png,linen,,,,,",
        "bird.png,satin,,,2,,",
        "bird.png,satin,,,,many,",
        "bird.png,,,,,,",
        "bird.png,satin,photo.png,,,,",
        ",satin,,,,,",
        "text.png,satin,,cat.png,,,",
        "bird.png,satin,,,,,auto",
        "cat.png,satin,,,,,",
        "bird.png,satin,,,,,",
    )
    with pytest.raises(InputError) as caught:
        read_manifest(manifest)
    lines = caught.value.message.splitlines()[1:]
    assert [line.split(": ", 1)[0].strip() for line in lines] == [
        "rows 2, 11",
        *("row 3", "row 4", "row 5", "rows 6, 7", "row 8", "row 9", "row 9", "row 10"),
    ]
    text = caught.value.message
    for part in (
        "input: cat.png: there is no such file",
        "style: linen: there is no trained style",
        "strength: 2.0 is above",
        "steps: 'many' is not of type",
        "give either",
        "give either an input",
        "text.png: this is not a picture",
        "mask: cat.png: there is no such file",
        "blocks: only a reference is trained",
    ):
        assert part in text
    assert "row 12" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input,stile\nbird.png,satin\n", "row 1: there is no column 'stile'"),
        ("input,style,input\n", "row 1: a column is there twice"),
        ("input,style\nbird.png,satin,more\n", "row 2: it has 3 cells"),
        ('input,style\n"bird.png,satin\n', "cannot be read"),
        ("input,style\n", "no row"),
        ("", "no row"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "batch.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(folder / "batch.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inputs": []}, "neither a list"),
        ({"inputs": [], "styles": [], "more": 1}, "neither a list"),
        ({"styles": ["satin"]}, "neither a list"),
        ({"prompts": [], "inputs": []}, "neither a list"),
        ({"inputs": "bird.png", "styles": ["satin"]}, "must be lists"),
        ({"prompts": "a red heart", "styles": ["satin"]}, "must be lists"),
        ({"prompts": [3], "styles": ["satin"]}, "prompt 1, style 1: this is no object"),
        ({"prompts": ["a heart \ud800"], "styles": ["satin"]}, "cannot be read"),
        ([{"prompt": 3, "style": "satin"}], "prompt: 3 is not of type"),
        ({"inputs": [], "styles": []}, "no row"),
        ([1], "item 1: this is no object"),
        ({"inputs": ["bird.png"], "styles": [3]}, "input 1, style 1: this is no object"),
        ([{"input": "bird.png", "style": "satin", "colour": "red"}], "no column 'colour'"),
        ([{"input": ["bird.png"], "style": "satin"}], "input: .* is no path"),
        ([{"input": "bird.png", "style": "satin", "seed": True}], "seed: True is not of type"),
        ([{"input": "bird.png", "style": "satin", "out": "x.png"}], "no column 'out'"),
        ([{"input": "bird.png", "reference": "photo.png", "profile": "big"}], "profile: 'big'"),
    ],
)
def test_json_that_cannot_be_meant_is_refused(folder: Path, data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_manifest(listed(folder, data))


def test_files_that_are_no_manifest_are_refused(folder: Path) -> None:
    (folder / "bad.csv").write_bytes(b"input,style\n\xff\xfe,satin\n")
    (folder / "bad.json").write_text("[" * 100_000)
    for name, message in (("bad.csv", "UTF-8"), ("bad.json", "read"), ("none.csv", "no such")):
        with pytest.raises(InputError, match=message):
            read_manifest(folder / name)
    (folder / "excel.csv").write_bytes(b"\xef\xbb\xbfinput\tstyle\r\nbird.png\tsatin\r\n")
    assert len(read_manifest(folder / "excel.csv")) == 1
