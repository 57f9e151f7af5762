"""The command line: one subcommand a job, built from the fields of the jobs themselves."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import traceback
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import backend
from backend.commands import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    absolute,
    add_command,
    watched,
)
from backend.commands.batch import add_batch
from backend.commands.benchmark import add_benchmark
from backend.commands.clean import add_clean, gigabytes_option
from backend.commands.settings import add_settings
from backend.commands.styles import add_styles
from backend.errors import StitchworkError
from backend.jobs import JOB_TYPES, AnalyseJob, Job, JobError, ModelJob
from backend.terminal import duration

__all__ = ["EXIT_CANCELLED", "EXIT_FAILED", "EXIT_OK", "EXIT_USAGE", "main"]

MOST_WORKERS = 64
# What users call a field, where the field itself must have another name.
_ALIASES = {"embroidery": ["--kind"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        exit code: 0 done, 1 failed for a reason the user can put right, 130 cancelled. Wrong usage
        exits with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = options.run(options)
    except JobError as error:
        options.parser.error(_as_options(str(error), options.parser))
    except StitchworkError as error:
        if options.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return EXIT_CANCELLED
    except BrokenPipeError:
        # Whoever read standard output has left; Python must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _interrupt(number: int, frame: types.FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend", description="Shows how a garment would look embroidered."
    )
    parser.add_argument("--version", action="version", version=backend.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for kind, job_type in JOB_TYPES.items():
        _add_job(add_command(commands, kind, job_type.__doc__ or "", _run_job), job_type)
    _add_serve(add_command(commands, "serve", "Run as a service on 127.0.0.1.", _serve))
    api = add_command(commands, "api", "Print how to use the service, in OpenAPI (JSON).", _api)
    api.add_argument("--markdown", action="store_true", help="print a page to read")
    doctor = add_command(commands, "doctor", "Say what is installed and what can be run.", _doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_report(add_command(commands, "report", "Write a run's report as a web page.", _report))
    _add_bench(add_command(commands, "bench", "Time each kind of work on this machine.", _bench))
    add_benchmark(commands)
    add_batch(commands)
    add_clean(commands)
    add_settings(commands)
    add_styles(commands)
    return parser


def _add_job(parser: argparse.ArgumentParser, job_type: type[Job]) -> None:
    hints = typing.get_type_hints(job_type)
    # A job's own fields come before those that all share.
    shared = {field.name for field in dataclasses.fields(ModelJob)}
    fields = sorted(dataclasses.fields(job_type), key=lambda field: field.name in shared)
    for field in fields:
        if hints[field.name] is bool:
            name = f"--{field.name.replace('_', '-')}"
            parser.add_argument(name, action="store_true", help=field.metadata["help"])
            continue
        required = field.default is dataclasses.MISSING
        text = field.metadata["help"] + _bounds(field.metadata)
        if not required and field.default is not None:
            text += f" (default: {field.default})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            *_ALIASES.get(field.name, []),
            dest=field.name,
            required=required,
            default=field.default if not required else None,
            type=_plain_type(hints[field.name]),
            choices=field.metadata["choices"] or None,
            metavar=None if field.metadata["choices"] else _metavar(field, hints[field.name]),
            help=text.replace("%", "%%"),
        )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _plain_type(annotation: Any) -> type:
    """`float` of `float | None`."""
    choices = [each for each in typing.get_args(annotation) if each is not type(None)]
    plain: type = choices[0] if choices else annotation
    return plain


def _metavar(field: dataclasses.Field[Any], annotation: Any) -> str:
    if field.metadata["path"]:
        return "PATH"
    return {int: "N", float: "X"}.get(_plain_type(annotation), "TEXT")


def _bounds(metadata: typing.Mapping[str, Any]) -> str:
    low, high = metadata["minimum"], metadata["maximum"]
    if low is None or high is None:
        return ""
    return f", {low} to {high}"


def _as_options(message: str, parser: argparse.ArgumentParser) -> str:
    """A job's complaint "steps_one: …" in the words of the command line."""
    field, colon, rest = message.partition(":")
    option = f"--{field.replace('_', '-')}"
    known = any(option in action.option_strings for action in parser._actions)
    return f"{option}:{rest}" if colon and known else message


def _run_job(options: argparse.Namespace) -> int:
    job_type = JOB_TYPES[options.command]
    values = {each.name: getattr(options, each.name) for each in dataclasses.fields(job_type)}
    for each in dataclasses.fields(job_type):
        if each.metadata["path"] and values[each.name] is not None:
            values[each.name] = absolute(values[each.name])
    job = job_type(**values)
    from backend.service.client import run

    result = watched(run(job))
    if options.json:
        print(json.dumps(dataclasses.asdict(result)))
        return EXIT_OK
    if isinstance(job, AnalyseJob):
        from backend.emolora.analysis import to_text

        print(to_text(result.outputs["analysis"]))
    for role, path in result.outputs.items():
        print(f"{role}: {path}")
    print(f"took {duration(sum(result.seconds.values()))}")
    return EXIT_OK


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        action="append",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder in which jobs may read and write; may be given several times",
    )
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="stop when this process has ended"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder in which jobs outlast the service, and by which other programs of the same "
        "user find it; it can have one service only",
    )
    parser.add_argument(
        "--quota-gb",
        type=gigabytes_option,
        metavar="X",
        help="most gigabytes that results may take; a job that might need more is refused "
        "(default: as many as the disk has)",
    )
    parser.add_argument(
        "--workers",
        type=_worker_count,
        default=1,
        metavar="N",
        help="how many trainings and restylings may run at once, on each of several GPUs or "
        "altogether; each takes memory for a model of its own (default: 1)",
    )
    parser.add_argument(
        "--idle-hours",
        type=_idle_hours,
        metavar="X",
        help="stop when nothing has been asked for and no job has waited or run for so long, "
        "whoever may still be there (default: never)",
    )


def _idle_hours(text: str) -> float:
    """Seconds, of an option in hours."""
    value = float(text)
    if not 0.0 < value <= 1e6:
        raise ValueError
    return value * 3600.0


_idle_hours.__name__ = "number of hours"  # what a wrong one is called


def _worker_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MOST_WORKERS:
        raise ValueError
    return count


_worker_count.__name__ = f"number of workers, 1 to {MOST_WORKERS},"  # what a wrong one is called


def _serve(options: argparse.Namespace) -> int:
    from backend.service.server import serve

    idle = options.idle_hours
    serve(options.root, options.parent, options.data, options.quota_gb, options.workers, idle)
    return EXIT_OK


def _api(options: argparse.Namespace) -> int:
    from backend.service.openapi import openapi
    from backend.service.reference import to_markdown

    document = openapi()
    page = to_markdown(document) if options.markdown else f"{json.dumps(document, indent=2)}\n"
    print(page, end="")
    return EXIT_OK


def _doctor(options: argparse.Namespace) -> int:
    from backend.doctor import examine

    findings = examine()
    print(json.dumps(findings.to_dict(), indent=2) if options.json else findings.to_text())
    return EXIT_OK if findings.usable else EXIT_FAILED


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest", required=True, type=Path, metavar="PATH", help="what to show (JSON)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="web page to write")


def _report(options: argparse.Namespace) -> int:
    from backend.evaluation.report import Manifest, write_report

    write_report(Manifest.read(options.manifest), options.out)
    print(f"report: {absolute(str(options.out))}")
    return EXIT_OK


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        choices=("work", "train", "restyle"),
        default="work",
        help="work: each kind of job (the default); train: the training stages beside a plain "
        "transcription of the reference procedure; restyle: beside diffusers' own "
        "pipeline, and beside what the networks alone take",
    )
    parser.add_argument("--profile", default="starter", help="base model (default: starter)")
    parser.add_argument("--base", help="hub id or folder in place of the profile's base model")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=[256, 512, 1024],
        metavar="N",
        help="sides of the images to embroider, pixels (default: 256 512 1024)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="training steps to time (default: 10); with restyle, denoising steps of the whole "
        "schedule (default: the profile's)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _bench(options: argparse.Namespace) -> int:
    base, steps = options.base, 10 if options.steps is None else max(1, options.steps)
    if options.what == "train":
        # The profiler that watches memory talks on standard error.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from backend.evaluation.bench_training import bench_training

        found = watched(bench_training(options.profile, steps, base))
        if options.json:
            print(json.dumps([each.to_dict() for each in found], indent=2))
        else:
            print("\n\n".join(each.to_text() for each in found))
        return EXIT_OK if all(each.agrees for each in found) else EXIT_FAILED
    if options.what == "restyle":
        from backend.evaluation import bench_restyling

        own = None if options.steps is None else steps
        made = watched(bench_restyling.bench_restyling(options.profile, options.sizes, own, base))
        costs = [dataclasses.asdict(each) for each in made]
        print(json.dumps(costs, indent=2) if options.json else bench_restyling.to_text(made))
        return EXIT_OK
    from backend.evaluation.bench import bench, to_text

    timings = watched(bench(options.profile, options.sizes, steps, base))
    rows = [dataclasses.asdict(each) for each in timings]
    print(json.dumps(rows, indent=2) if options.json else to_text(timings))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
