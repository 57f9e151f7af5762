"""A batch: what its manifest may say, what is done once, again, and after a failure."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from restyling import collect
from running import artwork, embroidery, save
from shelving import style

from backend import cli
from backend.batch.columns import COLUMNS
from backend.batch.manifest import read_manifest
from backend.batch.work import Outcome, run_batch
from backend.errors import InputError
from backend.jobs import Job, Progress, RestyleJob, Result, TrainJob


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pieces of artwork, a photo and a trained style."""
    save(tmp_path / "bird.png", artwork())
    save(tmp_path / "fish.png", artwork(80, 64))
    save(tmp_path / "photo.png", embroidery())
    style("satin").save(tmp_path / "satin")
    return tmp_path


def table(folder: Path, *rows: str, name: str = "batch.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def listed(folder: Path, data: Any) -> Path:
    path = folder / "batch.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


class Engine:
    """Does jobs as the real one would, without a model; remembers them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.refuse: dict[str, Exception] = {}

    def run(self, job: Job) -> Generator[Progress, None, Result]:
        self.jobs.append(job)
        yield Progress(stage="doing", step=0, steps=1, seconds_left=1.0)
        source = job.reference if isinstance(job, TrainJob) else getattr(job, "input", "")
        for part, error in self.refuse.items():
            if part in source:
                raise error
        if isinstance(job, TrainJob):
            style(Path(job.out).name).save(job.out)
            return Result(outputs={"style": job.out})
        assert isinstance(job, RestyleJob)
        Path(job.out).parent.mkdir(parents=True, exist_ok=True)
        save(Path(job.out), np.full((8, 8, 3), job.seed % 256, dtype=np.uint8))
        return Result(outputs={"image": job.out})

    def kinds(self) -> list[str]:
        kinds = [job.kind for job in self.jobs]
        self.jobs.clear()
        return kinds


def do(manifest: Path, out: Path, engine: Engine) -> tuple[Outcome, dict[str, Any]]:
    outcome = collect(run_batch(manifest, out, engine.run))[1]
    return outcome, json.loads((out / "results.json").read_text())


def test_rows_become_jobs(folder: Path) -> None:
    manifest = table(
        folder,
        "Input;style;reference;strength;Kind;seed;train seed;steps_one;base",
        "bird.png;satin;;0,5;relief;7;;;",
        "",
        "fish.png;;photo.png;;;;3;20;satin",
    )
    first, second = read_manifest(manifest)
    assert (first.label, second.label) == ("row 2", "row 4")
    assert first.style == str(folder / "satin")
    assert first.restyle == {
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
    }
    assert second.restyle["base"] == str(folder / "satin")


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
    assert rows[5].restyle == {"input": str(folder / "fish.png"), "seed": 1}
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
        "there is no input",
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
        ({"inputs": "bird.png", "styles": ["satin"]}, "must be lists"),
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
    steps = run_batch(manifest, out, engine.run)
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
    progress = collect(run_batch(manifest, folder / "out", Engine().run))[0]
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
    monkeypatch.setattr("backend.engine.Engine", lambda: engine)
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
    assert (outcome.done, outcome.failed) == (1, [])
    stages = {each.stage for each in progress}
    assert "1/2 training photo: stage one" in stages
    assert "2/2 bird in photo: embroidering" in stages
    progress, outcome = collect(run_batch(manifest, folder / "out"))
    assert outcome.already == 1
    assert {each.stage for each in progress} == {"reading the inputs"}
