"""What the commands of the command line share: exit codes, options that all have, progress."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from backend.jobs import Progress
from backend.terminal import ProgressLine

__all__ = [
    "EXIT_CANCELLED",
    "EXIT_FAILED",
    "EXIT_OK",
    "EXIT_USAGE",
    "absolute",
    "add_command",
    "watched",
]

T = TypeVar("T")

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_CANCELLED = 0, 1, 2, 130


def add_command(
    commands: Any, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A subcommand: its first sentence in the list of commands, all of `about` in its own help."""
    first = about.partition(". ")[0]
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=first[:1].lower() + first[1:].rstrip("."), description=about
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    parser.set_defaults(run=run, parser=parser, command=name)
    return parser


def absolute(path: str) -> str:
    """A path as the engine wants it."""
    return os.path.abspath(os.path.expanduser(path))


def watched(steps: Generator[Progress, None, T]) -> T:
    """Run steps to their end and show their progress; whatever ends them, they are closed."""
    line = ProgressLine()
    try:
        while True:
            line.show(next(steps))
    except StopIteration as finished:
        value: T = finished.value
        return value
    finally:
        line.close()
        steps.close()
