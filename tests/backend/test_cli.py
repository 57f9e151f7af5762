"""The command line: options from the jobs' fields, progress, exit codes, interruption."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from running import environment, preview_job, wait_until

from backend import cli
from backend.cli import EXIT_CANCELLED, EXIT_FAILED, EXIT_OK, EXIT_USAGE
from backend.errors import InputError
from backend.jobs import JOB_TYPES, NOTE, Job, Progress, RestyleJob, Result, TrainJob
from backend.terminal import ProgressLine, duration

RESTYLE = ["restyle", "--style", "s", "--input", "i.png", "--out", "o.png"]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the engine was asked to run; it does nothing."""
    seen: list[Job] = []

    def run(job: Job) -> Generator[Progress, None, Result]:
        seen.append(job)
        yield Progress(stage="doing", step=1, steps=1)
        return Result(outputs={"image": "/o.png"}, seconds={"doing": 75.0})

    monkeypatch.setattr("backend.service.client.run", run)
    return seen


def test_every_field_of_every_job_is_an_option(
    jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, job_type in JOB_TYPES.items():
        with pytest.raises(SystemExit) as caught:
            cli.main([kind, "--help"])
        assert caught.value.code == EXIT_OK
        text = " ".join(capsys.readouterr().out.split())
        for field in dataclasses.fields(job_type):
            assert f"--{field.name.replace('_', '-')}" in text
            assert field.metadata["help"].split()[0] in text


def test_options_become_the_job(jobs: list[Job], tmp_path: Path) -> None:
    assert cli.main([*RESTYLE, "--strength", "0.5", "--kind", "relief", "--seed", "7"]) == EXIT_OK
    assert cli.main(["train", "--reference", "r", "--out", "~/s", "--steps-one", "3"]) == EXIT_OK
    restyle, train = jobs
    assert isinstance(restyle, RestyleJob)
    assert (restyle.strength, restyle.embroidery, restyle.seed) == (0.5, "relief", 7)
    assert restyle.input == os.path.abspath("i.png")
    assert restyle.mask is None
    assert isinstance(train, TrainJob)
    assert train.steps_one == 3
    assert train.out == os.path.expanduser("~/s")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "command"),
        (["knit"], "knit"),
        (["restyle"], "--style"),
        ([*RESTYLE, "--colour", "red"], "--colour"),
        ([*RESTYLE, "--strength", "2"], "--strength"),
        ([*RESTYLE, "--strength", "nan"], "--strength"),
        ([*RESTYLE, "--style-strength", "-1"], "--style-strength"),
        ([*RESTYLE, "--steps", "many"], "--steps"),
        ([*RESTYLE, "--kind", "knit"], "--kind"),
        (["serve"], "--root"),
    ],
)
def test_wrong_usage_is_named(
    jobs: list[Job], capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == EXIT_USAGE
    assert complaint in capsys.readouterr().err
    assert jobs == []


def test_the_result_is_told(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(RESTYLE)
    assert capsys.readouterr().out == "image: /o.png\ntook 75 s\n"
    cli.main([*RESTYLE, "--json"])
    assert json.loads(capsys.readouterr().out)["seconds"] == {"doing": 75.0}


def failing(error: BaseException) -> Any:
    def run(job: Job) -> Generator[Progress, None, Result]:
        yield Progress(stage="doing", step=1, steps=2)
        raise error

    return run


def test_a_users_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "backend.service.client.run", failing(InputError("a.png: damaged.", "Save it."))
    )
    assert cli.main(RESTYLE) == EXIT_FAILED
    assert capsys.readouterr().err.endswith("\nerror: a.png: damaged. Save it.\n")
    assert cli.main([*RESTYLE, "--debug"]) == EXIT_FAILED
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backend.service.client.run", failing(KeyboardInterrupt()))
    assert cli.main(RESTYLE) == EXIT_CANCELLED
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_interrupt_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    job = preview_job(tmp_path)
    before = set(tmp_path.iterdir())
    arguments = [f"--{name}={job[name]}" for name in ("reference", "input", "out")]
    # What a shell starts in the background ignores SIGINT, and so would its children.
    kept = signal.signal(number, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "backend", "preview", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    finally:
        signal.signal(number, kept)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(number)
    assert process.wait(20) == EXIT_CANCELLED
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert set(tmp_path.iterdir()) == before


def test_help_and_doctor_import_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from backend.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    for arguments in (["train", "--help"], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
        # A CUDA build of torch must be imported to see whether it works.
        assert done.stdout.endswith("[]\n") or "+cpu" not in done.stdout, done.stdout


def test_doctor_and_help_run_where_packages_are_missing() -> None:
    script = (
        "import importlib.abc, sys\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('numpy', 'PIL', 'safetensors', 'torch', 'cv2', 'scipy'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from backend.cli import main\n"
        "main(['doctor'])\n"
        "for command in ('styles', 'batch', 'train'):\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert "Stitchwork backend" in done.stdout


def test_the_module_can_be_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend", "--version"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == EXIT_OK
    assert done.stdout.count(".") == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "1:40 min"), (3599, "59:59 min"), (3700, "1:01 h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_a_stage_takes_few_lines() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.show(Progress(stage="loading", step=0, steps=1))
    line.show(Progress(stage="loading", step=1, steps=1))
    for step in range(400):
        line.show(Progress(stage="stage one", step=step, steps=400, message=f"loss {step}"))
    line.show(Progress(stage="stage one", step=400, steps=400, seconds_left=0.0))
    line.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "loading"
    assert len(lines) == 6
    assert lines[-1] == "stage one 400/400 · 0 s left"


def test_a_note_keeps_a_line_of_its_own() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.show(Progress(stage="loading", step=0, steps=1))
    line.show(Progress(stage=NOTE, step=0, steps=1, message="so it is"))
    line.show(Progress(stage="loading", step=1, steps=1))
    line.close()
    assert stream.getvalue() == "loading\nnote: so it is\n"


def test_on_a_terminal_one_line_is_rewritten() -> None:
    main_end, terminal_end = pty.openpty()
    with open(main_end, "rb", buffering=0) as screen, open(terminal_end, "w") as terminal:
        line = ProgressLine(terminal)
        line.show(Progress(stage="stage one", step=1, steps=2, seconds_left=61.0))
        line.show(Progress(stage="stage one", step=2, steps=2))
        line.show(Progress(stage="finish", step=0, steps=1))
        line.close()
        shown = ""

        def all_came() -> bool:
            nonlocal shown
            shown += screen.read(4096).decode()
            return shown.endswith("finish\r\n")

        wait_until(all_came)
    assert shown.count("\n") == 2
    assert shown.count("\r\x1b[K") == 3
    assert "61 s left" in shown
    assert "█" in shown
