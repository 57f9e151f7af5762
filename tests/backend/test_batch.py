"""A batch: what is done once, again, and after a failure."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from batching import Engine, do
from manifests import fill, listed, table
from restyling import collect
from running import artwork, embroidery, save
from shelving import style

from backend import cli
from backend.batch.columns import COLUMNS
from backend.batch.work import run_batch
from backend.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_each_style_is_trained_once_and_nothing_is_done_twice(folder: Path) -> None:
    manifest = listed(
        folder, {"inputs": ["bird.png", "fish.png"], "styles": ["photo.png", "satin"]}
    )
    engine, out = Engine(), folder / "out"
    outcome, record = do(manifest, out, engine)
    assert engine.kinds() == ["train", "restyle", "restyle", "restyle", "restyle"]
    assert (outcome.done, outcome.already, outcome.failed) == (4, 0, [])
    assert record["counts"] == {"done": 4}
    with (out / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [each["row"] for each in rows][:2] == ["input 1, style 1", "input 1, style 2"]
    pictures = {each["picture"] for each in rows}
    assert len(pictures) == 4
    assert all((out / each).is_file() for each in pictures)
    assert any(each.startswith("pictures/bird-photo-") for each in pictures)

    outcome, record = do(manifest, out, engine)
    assert engine.kinds() == []
    assert (outcome.done, outcome.already) == (0, 4)
    assert {each["picture"] for each in record["rows"]} == pictures


def test_what_is_missing_or_changed_is_done_again_and_no_more(folder: Path) -> None:
    rows = ["input,style,reference", "bird.png,,photo.png", "fish.png,satin,"]
    engine, out = Engine(), folder / "out"
    _, record = do(table(folder, *rows), out, engine)
    assert len(engine.kinds()) == 3
    first, second = (out / each["picture"] for each in record["rows"])

    first.write_bytes(first.read_bytes()[:-1])
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["restyle"]  # the trained style is still good
    second.unlink()
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["restyle"]

    do(table(folder, *rows, "bird.png,satin,"), out, engine)
    assert engine.kinds() == ["restyle"]
    save(folder / "fish.png", artwork(96, 96))
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["restyle"]
    (trained,) = (out / "styles").iterdir()
    (trained / "design.png").unlink()
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == []  # no picture needs it
    first.unlink()
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["train", "restyle"]
    save(folder / "photo.png", embroidery(192))
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["train", "restyle"]
    style("satin", seed=9).save(folder / "satin")
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["restyle"]


def test_another_base_model_makes_everything_anew(folder: Path) -> None:
    weights = folder / "model" / "unet" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"first")
    rows = ("input,style,reference,base", "bird.png,,photo.png,model", "bird.png,satin,,model")
    engine, out = Engine(), folder / "out"
    do(table(folder, *rows), out, engine)
    assert len(engine.kinds()) == 3
    weights.write_bytes(b"other")
    do(table(folder, *rows), out, engine)
    assert engine.kinds() == ["train", "restyle", "restyle"]
    (folder / "model").rename(folder / "moved")
    do(table(folder, *(each.replace(",model", ",moved") for each in rows)), out, engine)
    assert engine.kinds() == []


def test_where_files_lie_and_what_they_are_called_does_not_count(folder: Path) -> None:
    engine, out = Engine(), folder / "out"
    do(table(folder, "input,style", "bird.png,satin"), out, engine)
    (folder / "bird.png").rename(folder / "robin.png")
    (folder / "satin").rename(folder / "silk")
    style("silk", created="2027-01-01T00:00:00+00:00").save(folder / "silk")
    engine.jobs.clear()
    outcome, _ = do(table(folder, "input,style", "robin.png,silk", "robin.png,silk"), out, engine)
    assert engine.kinds() == []
    assert outcome.already == 2


def test_rows_that_ask_for_the_same_share_it(folder: Path) -> None:
    engine = Engine()
    manifest = table(folder, "input,style", "bird.png,satin", "bird.png,satin")
    outcome, record = do(manifest, folder / "out", engine)
    assert engine.kinds() == ["restyle"]
    assert outcome.done == 2
    assert len({each["picture"] for each in record["rows"]}) == 1


def test_a_failed_row_stops_no_other_and_is_tried_again(folder: Path) -> None:
    save(folder / "other.png", embroidery(200))
    manifest = table(
        folder,
        "input,style,reference",
        "bird.png,,photo.png",
        "bird.png,satin,",
        "fish.png,satin,",
        "fish.png,,photo.png",
        "fish.png,,other.png",
    )
    engine, out = Engine(), folder / "out"
    engine.refuse = {"photo": InputError("blurred.", "Sharpen it."), "bird": ValueError("odd")}
    outcome, record = do(manifest, out, engine)
    assert engine.kinds() == ["train", "restyle", "restyle", "train", "restyle"]
    assert outcome.done == 2
    assert [label for label, _ in outcome.failed] == ["row 2", "row 3", "row 5"]
    errors = [each["error"] for each in record["rows"]]
    assert errors[0] == errors[3] == "its style: blurred. Sharpen it."
    assert "ValueError: odd" in errors[1]
    assert errors[2] == errors[4] == ""
    engine.refuse = {}
    outcome, _ = do(manifest, out, engine)
    assert engine.kinds() == ["train", "restyle", "restyle", "restyle"]
    assert (outcome.done, outcome.already, outcome.failed) == (3, 2, [])


def test_an_interrupted_batch_goes_on_where_it_was(folder: Path) -> None:
    manifest = table(
        folder, "input,style,seed", *(f"bird.png,satin,{number}" for number in range(3))
    )
    engine, out = Engine(), folder / "out"
    steps = run_batch(manifest, out, engine.open)
    while not any("2/3" in each.stage for each in [next(steps)]):
        pass
    steps.close()
    states = [each["state"] for each in json.loads((out / "results.json").read_text())["rows"]]
    assert states == ["done", "waiting", "waiting"]
    engine.jobs.clear()
    outcome, _ = do(manifest, out, engine)
    assert engine.kinds() == ["restyle", "restyle"]
    assert (outcome.done, outcome.already) == (2, 1)


def test_the_time_left_is_the_whole_batch_s(folder: Path) -> None:
    manifest = table(
        folder, "input,style,seed", *(f"bird.png,satin,{number}" for number in range(3))
    )
    progress = collect(run_batch(manifest, folder / "out", Engine().open))[0]
    doing = [each for each in progress if each.stage.endswith("doing")]
    assert [each.stage[:3] for each in doing] == ["1/3", "2/3", "3/3"]
    assert doing[0].seconds_left is None  # nothing has been timed
    assert doing[1].seconds_left is not None
    assert doing[1].seconds_left >= 1.0
    assert doing[2].seconds_left == 1.0


def test_other_folders_and_damaged_records_are_left_alone(folder: Path) -> None:
    manifest = table(folder, "input,style", "bird.png,satin")
    with pytest.raises(InputError, match="not a batch's"):
        do(manifest, folder, Engine())
    out = folder / "out"
    for text in ("{", "[]", '{"schema": 2, "pictures": {}, "styles": {}}', '{"schema": 1}'):
        out.mkdir(exist_ok=True)
        (out / "results.json").write_text(text)
        with pytest.raises(InputError, match="damaged"):
            do(manifest, out, Engine())
        assert (out / "results.json").read_text() == text


def test_the_command_says_what_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine()
    engine.refuse = {"fish": InputError("fish.png: odd.")}
    monkeypatch.setattr("backend.batch.local.LocalWorkers", lambda *_: engine.open())
    manifest = table(folder, "input,style", "bird.png,satin", "fish.png,satin")
    arguments = ["batch", str(manifest), "--out", str(folder / "out")]
    assert cli.main(arguments) == 1
    shown = capsys.readouterr()
    assert "failed: row 3: fish.png: odd." in shown.err
    assert "1/2 bird in satin: doing" in shown.err
    assert "1 made, 0 were there, 1 failed" in shown.out
    engine.refuse = {}
    assert cli.main(arguments) == 0
    with pytest.raises(SystemExit):
        cli.main(["batch", "--help"])
    text = "".join(capsys.readouterr().out.split())
    assert all(column in text for column in COLUMNS)


def test_the_real_engine_trains_and_embroiders(folder: Path, tiny_model: Path) -> None:
    manifest = listed(
        folder,
        {
            "inputs": [{"input": "bird.png", "steps": 1, "start": "design"}],
            "prompts": [{"prompt": "a fish", "steps": 1}],
            "styles": [
                {
                    "reference": "photo.png",
                    "base": str(tiny_model),
                    "steps_one": 1,
                    "steps_two": 0,
                    "blocks": "paper",
                }
            ],
        },
    )
    progress, outcome = collect(run_batch(manifest, folder / "out"))
    assert (outcome.done, outcome.failed) == (2, [])
    stages = {each.stage for each in progress}
    assert "1/3 training photo: stage one" in stages
    assert "2/3 bird in photo: embroidering" in stages
    assert "3/3 a_fish in photo: composing" in stages
    progress, outcome = collect(run_batch(manifest, folder / "out"))
    assert outcome.already == 2
    assert {each.stage for each in progress} == {"reading the inputs"}
