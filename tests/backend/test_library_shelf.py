"""A folder of styles: list, search, find, rename, trash, and the commands for them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import environment
from shelving import sewn, shelf_of, style

from backend import cli
from backend.errors import InputError, StyleError
from backend.library import shelf
from backend.styles import Style


def names(found: list[shelf.Entry]) -> list[str]:
    return [each.name for each in found]


def tree(folder: Path) -> dict[str, bytes]:
    paths = [each for each in folder.rglob("*") if each.is_file()]
    return {str(each.relative_to(folder)): each.read_bytes() for each in paths}


def test_styles_are_listed_and_nothing_else(tmp_path: Path) -> None:
    shelf_of(tmp_path, "Zinnia", "apple", "Über satin")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photo.png").write_bytes(b"x")
    (tmp_path / ".trash").mkdir()
    style("old").save(tmp_path / ".trash" / "old")
    found = shelf.entries(tmp_path)
    assert names(found) == ["apple", "Über satin", "Zinnia"]
    first = found[0]
    assert (first.profile, first.kind, first.created[:4]) == ("starter", "flat", "2026")
    assert first.bytes == sum(len(each) for each in tree(tmp_path / "apple").values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("uber", ["Über satin"]),
        ("SATIN über", ["Über satin"]),
        ("satin rose", []),
        ("p", ["apple"]),
    ],
)
def test_search_minds_neither_case_nor_accents(
    tmp_path: Path, words: str, expected: list[str]
) -> None:
    shelf_of(tmp_path, "apple", "Über satin", "rose")
    assert names(shelf.entries(tmp_path, words)) == expected


def test_a_damaged_style_is_listed_as_such_and_can_go(tmp_path: Path) -> None:
    shelf_of(tmp_path, "good", "bad")
    (tmp_path / "bad" / "style.json").write_text("{")
    bad, good = shelf.entries(tmp_path)
    assert "cannot be read" in bad.problem
    assert not good.problem
    with pytest.raises(StyleError):
        shelf.rename(tmp_path, "bad", "better")
    shelf.delete(tmp_path, "bad")
    assert names(shelf.entries(tmp_path)) == ["good"]


def test_a_style_is_found_by_its_name_and_by_its_folder(tmp_path: Path) -> None:
    style("roses").save(tmp_path / "copy one")
    style("roses").save(tmp_path / "copy two")
    style("tulips").save(tmp_path / "spring")
    assert shelf.find(tmp_path, "tulips").folder == tmp_path / "spring"
    assert shelf.find(tmp_path, "copy two").folder == tmp_path / "copy two"
    assert shelf.find(tmp_path, "spring/").name == "tulips"
    with pytest.raises(InputError, match="2 styles are called 'roses'") as caught:
        shelf.find(tmp_path, "roses")
    assert "copy one, copy two" in caught.value.remedy
    with pytest.raises(InputError, match="no style 'tulip'") as caught:
        shelf.find(tmp_path, "tulip")
    assert "tulips" in caught.value.remedy
    with pytest.raises(InputError, match="no such folder"):
        shelf.find(tmp_path / "none", "tulips")


def test_renaming_keeps_everything_but_the_name(tmp_path: Path) -> None:
    shelf_of(tmp_path, "roses", "tulips")
    before = tree(tmp_path / "roses")
    assert shelf.rename(tmp_path, "roses", "red roses") == tmp_path / "red roses"
    after = tree(tmp_path / "red roses")
    assert Style.load(tmp_path / "red roses").name == "red roses"
    assert {name for name in after if after[name] != before[name]} == {"style.json"}
    assert not (tmp_path / "roses").exists()
    for taken in ("tulips", "red roses "):
        with pytest.raises(InputError):
            shelf.rename(tmp_path, "red roses", taken)
    assert shelf.rename(tmp_path, "red roses", "Red Roses") == tmp_path / "Red Roses"
    assert names(shelf.entries(tmp_path)) == ["Red Roses", "tulips"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a ",
        "../a",
        "a/b",
        "a\\b",
        "a:b",
        ".a",
        "-a",
        "a.",
        "nul",
        "Com1.x",
        "a\nb",
        "x" * 101,
    ],
)
def test_names_that_could_be_no_folder_are_refused(tmp_path: Path, name: str) -> None:
    shelf_of(tmp_path, "roses")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="name"):
        shelf.rename(tmp_path, "roses", name)
    assert tree(tmp_path) == before


def test_what_is_deleted_lies_in_the_trash(tmp_path: Path) -> None:
    before = tree(shelf_of(tmp_path, "roses") / "roses")
    first = shelf.delete(tmp_path, "roses")
    shelf_of(tmp_path, "roses")
    second = shelf.delete(tmp_path, "roses")
    assert shelf.entries(tmp_path) == []
    assert (first.name, second.name) == ("roses", "roses (2)")
    assert tree(first) == tree(second) == before
    assert first.parent == tmp_path / ".trash"


def command(*arguments: str | Path) -> int:
    return cli.main(["styles", *map(str, arguments)])


def test_the_list_reads_well_and_says_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf_of(tmp_path, "roses", "tulips", "bad")
    (tmp_path / "bad" / "style.json").write_text("[]")
    style("evil\x1b[2J").save(tmp_path / "evil")
    assert command("list", "--library", tmp_path) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split() == ["name", "task", "profile", "kind", "size", "made"]
    cells = lines[2].split()
    assert cells[:4] == ["roses", "embroidery", "starter", "flat"]
    assert cells[5:] == ["KiB", "2026-01-02", "03:04"]
    assert 10 < int(cells[4]) < 500
    assert "\x1b" not in shown.out
    assert shown.err.startswith("damaged: bad: ")
    assert command("list", "tul", "--library", tmp_path, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["folder"]) == ("tulips", str(tmp_path / "tulips"))


def test_show_tells_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf_of(tmp_path, "roses")
    assert command("show", "roses", "--library", tmp_path) == 0
    text = capsys.readouterr().out
    for part in (
        "in [emb] style",
        "7 px",
        "3 + 2 steps",
        "Ask first.",
        "in 1.0 minutes",
        "not recorded",
    ):
        assert part in text
    assert command("show", "roses", "--library", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rank"] == 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_deleting_asks_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf_of(tmp_path, "roses")
    before = tree(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert command("delete", "roses", "--library", tmp_path) == 1
    assert "--yes" in capsys.readouterr().err
    for answer in ("n\n", "\n", ""):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert command("delete", "roses", "--library", tmp_path) == 1
    assert tree(tmp_path) == before
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert command("delete", "roses", "--library", tmp_path) == 0
    assert str(tmp_path / ".trash" / "roses") in capsys.readouterr().out
    shelf_of(tmp_path, "roses")
    assert command("delete", "roses", "--yes", "--library", tmp_path) == 0
    assert len(tree(tmp_path)) == 2 * len(before)


def test_similar_styles_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    style("asked").save(tmp_path / "asked")
    for name, changes in {
        "twin, turned": {"reference": sewn(turn=1.2)},
        "coarser": {"reference": sewn(period=14.0), "thread_width_px": 14.0},
        "fainter": {"reference": sewn(depth=0.15)},
        "bare cloth": {"reference": sewn(depth=0.0), "thread_width_px": 0.0},
        "other profile": {"profile": "sdxl"},
    }.items():
        style(name, **changes).save(tmp_path / name)
    assert command("similar", "asked", "--library", tmp_path, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    order = [each["entry"]["name"] for each in rows]
    assert order[0] == "twin, turned"
    assert order[-1] == "bare cloth"
    assert set(order[1:-1]) == {"coarser", "fainter"}
    assert rows[0]["alike"] > 60 > rows[1]["alike"] > rows[-1]["alike"] >= 0
    assert command("similar", "asked", "--library", tmp_path, "--count", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_style_s_copy_is_all_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf_of(tmp_path, "one", "other")
    assert command("similar", "one", "--library", tmp_path, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["alike"] == pytest.approx(100.0)


def test_listing_needs_no_heavy_library(tmp_path: Path) -> None:
    shelf_of(tmp_path, "roses")
    script = (
        "import sys; from backend.cli import main\n"
        "main(['styles', 'list'])\n"
        "print([name for name in ('torch', 'diffusers', 'cv2', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=True,
    )
    assert "roses" in done.stdout
    assert done.stdout.endswith("[]\n")
