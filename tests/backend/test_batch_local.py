"""A batch on several worker processes: who does what, and what becomes of a job whose worker ends.

The workers only pretend (`batch_worker.py`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from manifests import fill, table
from restyling import collect
from running import alive, environment, wait_until
from shelving import style

from backend import cli
from backend.batch.local import LocalWorkers
from backend.batch.work import Outcome, run_batch
from backend.batch.workers import Open, opener
from backend.errors import InputError, ResourceError
from backend.jobs import PreviewJob

HERE = Path(__file__).parent
DRIVER = """
import sys
from pathlib import Path
from test_batch_local import pretending
from backend.batch.work import run_batch
manifest, folder = map(Path, sys.argv[1:])
for _ in run_batch(manifest, folder / "out", pretending(folder, 2, 0.3)): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    style("linen", seed=2).save(tmp_path / "linen")
    return fill(tmp_path)


def pretending(folder: Path, count: int, seconds: float = 0.05) -> Open:
    command = (sys.executable, str(HERE / "batch_worker.py"), str(folder), str(seconds))
    return lambda lock: LocalWorkers(count, lock, command)


def twelve(folder: Path) -> Path:
    """Twelve pictures in two styles."""
    rows = [
        f"{picture}.png,{name},{seed}"
        for seed in range(3)
        for name in ("satin", "linen")
        for picture in ("bird", "fish")
    ]
    return table(folder, "input,style,seed", *rows)


def noted(folder: Path, log: str) -> list[str]:
    path = folder / log
    return path.read_text().splitlines() if path.exists() else []


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "results.json").read_text())
    return found


def do(folder: Path, manifest: Path, workers: Open) -> tuple[list[str], Outcome]:
    progress, outcome = collect(run_batch(manifest, folder / "out", workers))
    return [each.stage for each in progress if each.stage != "reading the inputs"], outcome


def test_a_killed_worker_s_job_is_done_again_and_no_other(folder: Path) -> None:
    (folder / "fish-linen.once").touch()
    stages, outcome = do(folder, twelve(folder), pretending(folder, 3))
    assert (outcome.done, outcome.already, outcome.failed) == (12, 0, [])
    assert len(noted(folder, "begun.log")) == 13
    finished = noted(folder, "finished.log")
    assert Counter(each.split()[0] for each in finished) == dict.fromkeys(
        ("bird-satin", "fish-satin", "bird-linen", "fish-linen"), 3
    )
    pictures = {each["picture"] for each in record(folder)["rows"]}
    assert len(pictures) == 12
    left = {
        each.relative_to(folder / "out").as_posix() for each in (folder / "out").rglob("*.png*")
    }
    assert left == pictures  # and nothing half-written
    put_back = [each for each in stages if "put back" in each]
    assert len(put_back) == 1
    assert "fish in linen: put back" in put_back[0]
    assert [each.split()[0] for each in stages if each.endswith("done")] == [
        f"{number}/12" for number in range(1, 13)
    ]


def test_workers_keep_to_a_style_while_it_has_jobs(folder: Path) -> None:
    do(folder, twelve(folder), pretending(folder, 2))
    by_worker: dict[str, list[str]] = {}
    for line in noted(folder, "finished.log"):
        name, pid = line.split()
        by_worker.setdefault(pid, []).append(name.partition("-")[2])
    assert len(by_worker) == 2
    first = {styles[0] for styles in by_worker.values()}
    assert first == {"satin", "linen"}
    for styles in by_worker.values():
        assert styles == sorted(styles, key=styles[0].__ne__)  # its own first, then the other's


def test_workers_take_pictures_and_words_alike(folder: Path) -> None:
    (folder / "a_red_heart-satin.once").touch()
    rows = ("bird.png,,satin", ",a red heart,satin", ",a red heart,linen", ",a star,linen")
    manifest = table(folder, "input,prompt,style", *rows)
    stages, outcome = do(folder, manifest, pretending(folder, 2))
    assert (outcome.done, outcome.failed) == (4, [])
    assert {each.split()[0] for each in noted(folder, "finished.log")} == {
        *("bird-satin", "a_red_heart-satin", "a_red_heart-linen", "a_star-linen")
    }
    assert sum("a_red_heart in satin: put back" in each for each in stages) == 1


def test_a_job_that_ends_every_worker_fails_alone(folder: Path) -> None:
    (folder / "bird-satin.always").touch()
    (folder / "fish-satin.refused").touch()
    (folder / "bird-linen.elsewhere").touch()
    manifest = table(
        folder,
        "input,style",
        "bird.png,satin",
        "fish.png,satin",
        "bird.png,linen",
        "fish.png,linen",
    )
    stages, outcome = do(folder, manifest, pretending(folder, 2))
    assert outcome.done == 1
    errors = dict(outcome.failed)
    assert "3 workers ended over it (the last: exit code 9)" in errors["row 2"]
    assert errors["row 3"] == "fish-satin: odd. Draw it again."
    assert "it is not there" in errors["row 4"]
    assert sum("put back" in each for each in stages) == 2
    for each in folder.glob("*-*.*"):
        each.unlink()
    _, outcome = do(folder, manifest, pretending(folder, 2))
    assert (outcome.done, outcome.already, outcome.failed) == (3, 1, [])


def test_workers_that_never_live_end_the_batch(folder: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(ResourceError, match=r"6 workers in a row .*exit code 3"):
        do(folder, twelve(folder), lambda lock: LocalWorkers(2, lock, command))
    assert record(folder)["counts"].keys() <= {"waiting", "failed"}
    with pytest.raises(ResourceError, match="cannot be started"):
        do(folder, twelve(folder), lambda lock: LocalWorkers(1, lock, [str(folder / "none")]))


def test_a_dead_worker_takes_nothing(folder: Path) -> None:
    workers = LocalWorkers(1, None, (sys.executable, "-c", "raise SystemExit(3)"))
    try:
        stream = workers._processes[0].stdin
        assert stream is not None
        wait_until(lambda: stream.closed)
        workers.give(0, PreviewJob(reference="r", input="i", out="o"))
        messages = [workers.hear()[1] for _ in range(2)]
        assert [type(each).__name__ for each in messages] == ["Ready", "Lost"]
    finally:
        workers.close()


def test_a_closed_batch_leaves_no_process_and_no_half_picture(folder: Path) -> None:
    steps = run_batch(twelve(folder), folder / "out", pretending(folder, 2, 0.2))
    while "2/12" not in next(steps).stage:
        pass
    pids = {int(each.split()[1]) for each in noted(folder, "begun.log")}
    assert len(pids) == 2
    steps.close()
    assert not any(map(alive, pids))
    done = record(folder)["counts"]["done"]
    assert 2 <= done <= 4
    assert not list((folder / "out" / "pictures").glob(".*"))
    _, outcome = do(folder, twelve(folder), pretending(folder, 2))
    assert (outcome.done, outcome.already) == (12 - done, done)


def test_a_killed_batch_goes_on_where_it_was(folder: Path) -> None:
    manifest = twelve(folder)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(manifest), str(folder)],
        env={**environment(), "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE)))},
    )
    try:
        wait_until(lambda: len(noted(folder, "finished.log")) >= 5, 600)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    done = record(folder)["counts"]["done"]
    assert 3 <= done < 12
    _, outcome = do(folder, manifest, pretending(folder, 3))
    assert (outcome.done, outcome.already, outcome.failed) == (12 - done, done, [])
    # What was recorded was not begun again: at most what two workers had in hand.
    assert 12 <= len(noted(folder, "begun.log")) <= 14
    assert len({each["picture"] for each in record(folder)["rows"]}) == 12
    assert not list((folder / "out" / "pictures").glob(".*"))


def test_two_batches_do_not_share_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.batch.results._PATIENCE", 0.2)
    steps = run_batch(twelve(folder), folder / "out", pretending(folder, 1))
    while "doing" not in next(steps).stage:
        pass
    with pytest.raises(InputError, match="another batch is at work there"):
        do(folder, twelve(folder), pretending(folder, 1))
    steps.close()
    assert do(folder, twelve(folder), pretending(folder, 1))[1].failed == []


def test_without_ray_its_engine_is_refused_in_a_line_and_the_other_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    arguments = ["batch", str(twelve(folder)), "--out", str(folder / "out")]
    assert cli.main([*arguments, "--engine", "ray"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: --engine ray needs Ray, which is not installed. "
        'Install it: python -m pip install "ray>=2.60"'
    ]
    assert not (folder / "out").exists()
    assert callable(opener("local"))
    for wrong in (["--engine", "dask"], ["--workers", "0"], ["--workers", "many"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*arguments, *wrong])
        assert stopped.value.code == 2
    monkeypatch.setattr(
        "backend.batch.local.LocalWorkers",
        lambda count, lock: pretending(folder, count)(lock),
    )
    assert cli.main([*arguments, "--workers", "2"]) == 0
    shown = capsys.readouterr()
    assert "12 made, 0 were there, 0 failed" in shown.out
    assert "0/12 2 workers are starting" in shown.err
