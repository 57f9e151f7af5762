"""A batch with prompts: what their rows may say, and that both kinds are done and found alike."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from batching import Engine, do
from manifests import fill, listed, table
from restyling import collect
from running import environment

from backend.batch.manifest import read_manifest
from backend.batch.results import digest, file_hash, model_hash, style_hash
from backend.batch.work import run_batch
from backend.errors import InputError
from backend.jobs import GenerateJob, RestyleJob
from backend.models.motif_words import MOTIF_WORDS, MotifWords


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def test_rows_have_an_input_or_a_prompt(folder: Path) -> None:
    manifest = table(
        folder,
        "Prompt;input;style;reference;width;style strength;guidance;seed;task;strength",
        "2 red hearts;;satin;;320;0,5;1,5;7;;",
        ";bird.png;satin;;;;;;;0,4",
        "a star;;;photo.png;;;;;painting;",
    )
    hearts, bird, star = read_manifest(manifest)
    assert (hearts.job, bird.job, star.job) == (GenerateJob, RestyleJob, GenerateJob)
    assert hearts.fields == {
        "prompt": "2 red hearts",
        "width": 320,
        "style_strength": 0.5,
        "guidance": 1.5,
        "seed": 7,
    }
    assert bird.fields == {"input": str(folder / "bird.png"), "strength": 0.4}
    assert star.fields == {"prompt": "a star"}
    assert star.train == {"reference": str(folder / "photo.png"), "task": "painting"}


def test_json_crosses_prompts_in_place_of_inputs_or_beside_them(folder: Path) -> None:
    prompts = ["a red heart", {"prompt": "a star", "height": 80}]
    alone = {"prompts": prompts, "styles": ["satin", "photo.png"]}
    rows = read_manifest(listed(folder, alone))
    assert [each.label for each in rows] == [
        f"prompt {one}, style {other}" for one in (1, 2) for other in (1, 2)
    ]
    assert rows[3].fields == {"prompt": "a star", "height": 80}
    assert rows[3].train == {"reference": str(folder / "photo.png")}
    rows = read_manifest(listed(folder, {**alone, "inputs": ["bird.png"]}))
    assert [each.job for each in rows] == [RestyleJob] * 2 + [GenerateJob] * 4


def test_everything_wrong_is_named_with_its_rows(folder: Path) -> None:
    manifest = table(
        folder,
        "input,prompt,style,strength,kind,width,steps,task",
        "bird.png,a red heart,satin,,,,,",
        ",,satin,,,,,",
        ",a red heart,satin,0.4,flat,,,",
        "bird.png,,satin,,,320,,",
        ",a red heart,satin,,,20,,",
        ",a red heart,satin,,,,many,",
        ",a red heart,satin,,,,,painting",
        ",a red anchr,satin,,,,,",
        ",a red anchr,satin,,,64,,",
        ",a red heart,satin,,,64,3,",
    )
    with pytest.raises(InputError) as caught:
        read_manifest(manifest)
    lines = [line.strip().split(": ", 1) for line in caught.value.message.splitlines()[1:]]
    said = {each[0]: each[1] for each in lines}
    assert said.keys() == {"rows 2, 3", *(f"row {each}" for each in range(4, 9)), "rows 9, 10"}
    assert said["rows 2, 3"] == "give either an input (a picture) or a prompt (words)."
    assert said["row 4"] == "strength, kind: only for an input, not for a prompt."
    assert said["row 5"] == "width: only for a prompt, not for an input."
    assert said["row 6"] == "width: 20 is below the minimum 64."
    assert said["row 7"].startswith("steps: 'many' is not of type")
    assert said["row 8"].startswith("task: only a reference is trained")
    assert said["rows 9, 10"].startswith('prompt: This base cannot draw "a red anchr"')
    assert "Did you mean" in said["rows 9, 10"]


def test_words_are_looked_up_where_the_base_has_a_list(folder: Path) -> None:
    """Those of a style's own base, and none where a base draws whatever words say."""
    composer = folder / "model" / "composer"
    (composer / "unet").mkdir(parents=True)
    (composer / "unet" / "config.json").write_text("{}")
    MotifWords(("cathedral",), ("red",)).save(composer / MOTIF_WORDS)
    row = {"prompt": "a cathedral", "style": "satin"}
    good = [
        {**row, "base": "model"},
        {**row, "base": "hub/name"},
        {"prompt": "a cathedral", "reference": "photo.png", "profile": "sdxl"},
    ]
    assert len(read_manifest(listed(folder, good))) == 3
    for bad in (row, {**row, "base": "model", "prompt": "a heart"}):
        with pytest.raises(InputError, match="item 1: prompt: This base cannot draw"):
            read_manifest(listed(folder, [bad]))
    (composer / MOTIF_WORDS).write_text("[]")
    with pytest.raises(InputError, match=r"item 1: prompt: .*list of motifs cannot be read"):
        read_manifest(listed(folder, good[:1]))


def test_words_are_looked_up_without_loading_torch(folder: Path) -> None:
    listed(folder, {"prompts": ["a red heart"], "styles": ["satin"]})
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from backend.batch.manifest import read_manifest\n"
        "assert read_manifest(Path(sys.argv[1]))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(folder / "batch.json")], env=environment(), check=True
    )


def test_both_kinds_are_done_once_and_a_changed_prompt_alone_again(folder: Path) -> None:
    rows = ["input,prompt,style,reference,seed", "bird.png,,satin,,7", ",a red heart,satin,,7"]
    trained = ",stars/heart,,photo.png,"
    engine, out = Engine(), folder / "out"
    outcome, _ = do(table(folder, *rows, trained), out, engine)
    assert engine.kinds() == ["restyle", "generate", "train", "generate"]
    assert (outcome.done, outcome.failed) == (3, [])
    with (out / "results.csv").open(encoding="utf-8") as stream:
        told = list(csv.DictReader(stream))
    known = ["row", "input", "style", "state", "picture", "seconds", "error"]
    assert list(told[0]) == [*known, "prompt"]  # what read the table by place still can
    assert [(each["input"], each["prompt"]) for each in told] == [
        (str(folder / "bird.png"), ""),
        ("", "a red heart"),
        ("", "stars/heart"),
    ]
    names = [each["picture"].rpartition("-")[0] for each in told]
    assert names == [
        "pictures/bird-satin",
        "pictures/a_red_heart-satin",
        "pictures/stars_heart-photo",
    ]
    assert all((out / each["picture"]).is_file() for each in told)

    outcome, _ = do(table(folder, *rows, trained), out, engine)
    assert engine.kinds() == []
    assert outcome.already == 3
    do(table(folder, *rows[:2], ",a blue heart,satin,,7", trained), out, engine)
    assert engine.kinds() == ["generate"]
    do(table(folder, *rows[:2], ",a red heart,satin,,8", trained), out, engine)
    assert engine.kinds() == ["generate"]
    (out / told[1]["picture"]).unlink()
    do(table(folder, *rows, trained), out, engine)
    assert engine.kinds() == ["generate"]


def test_pictures_of_inputs_keep_the_keys_that_older_batches_recorded(folder: Path) -> None:
    made_of = {
        "model": model_hash(None, "starter"),
        "style": style_hash(folder / "satin"),
        "input": file_hash(folder / "bird.png"),
        "seed": 7,
    }
    _, record = do(table(folder, "input,style,seed", "bird.png,satin,7"), folder / "out", Engine())
    assert record["rows"][0]["key"] == digest({"restyle": made_of})


def test_names_of_pictures_fit_a_file_system(folder: Path) -> None:
    prompt = "ein rotes Herz, \u7ea2\u5fc3 " + "\u7ea2" * 100
    _, record = do(
        table(folder, "prompt,style", f'"{prompt} heart",satin'), folder / "out", Engine()
    )
    (row,) = record["rows"]
    assert row["state"] == "done"
    name = Path(row["picture"]).name
    assert name.startswith("ein_rotes_Herz_\u7ea2\u5fc3_\u7ea2")
    assert len(name.encode()) < 100


def test_a_style_that_cannot_be_trained_fails_its_rows_of_both_kinds(folder: Path) -> None:
    engine = Engine()
    engine.refuse = {"photo": InputError("blurred."), "blue": InputError("too blue.")}
    manifest = listed(
        folder,
        {"inputs": ["bird.png"], "prompts": ["a blue heart"], "styles": ["photo.png", "satin"]},
    )
    progress, outcome = collect(run_batch(manifest, folder / "out", engine.open))
    assert outcome.done == 1
    assert dict(outcome.failed) == {
        "input 1, style 1": "its style: blurred.",
        "prompt 1, style 1": "its style: blurred.",
        "prompt 1, style 2": "too blue.",
    }
    doing = [each.stage for each in progress if each.stage.endswith("doing")]
    assert [each[:3] for each in doing] == ["1/5", "4/5", "5/5"]


def test_the_time_left_counts_each_kind_at_its_own_pace(folder: Path) -> None:
    def lefts(out: str, *rows: str) -> list[float | None]:
        manifest = table(folder, "input,prompt,style,seed", *rows)
        progress = collect(run_batch(manifest, folder / out, Engine().open))[0]
        return [each.seconds_left for each in progress if each.stage.endswith("doing")]

    bird, heart = "bird.png,,satin,{}", ",a heart,satin,{}"
    first, second, last = lefts("one", bird.format(1), heart.format(1), heart.format(2))
    assert (first, second, last) == (None, None, 1.0)  # the second's kind is still to be timed
    first, second, last = lefts("other", heart.format(1), bird.format(1), heart.format(2))
    assert (first, last) == (None, 1.0)
    assert second is not None
    assert second >= 1.0
