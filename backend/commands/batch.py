"""`batch`: many pictures in many styles from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from backend.batch.columns import COLUMNS
from backend.batch.workers import ENGINES, opener
from backend.commands import EXIT_FAILED, EXIT_OK, add_command, watched

__all__ = ["add_batch"]

_ABOUT = (
    "Embroider many pictures, or motifs from words, in many styles, as a CSV or JSON manifest "
    "says. Each style is trained once. Called again, it does only what is missing: what changed "
    "(by content) or failed. A row has either an input (a picture) or a prompt (words), and either "
    "a style (a trained style's folder) or a reference (a photo to train on); further columns are "
    "options of restyle, or of generate for a prompt, and, with a reference, of train. "
    f"All columns: {', '.join(COLUMNS)}. "
    'JSON: a list of such rows, or {"inputs": [...], "prompts": [...], "styles": [...]} (inputs, '
    "prompts or both) for every one in every style. "
    "Paths are relative to the manifest's folder. Exit code 1 if a row failed."
)


def add_batch(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(commands, "batch", _ABOUT, _batch)
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="CSV or JSON file")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="for pictures/, styles/, results.json and results.csv",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="who does the work: processes on this machine (the default), or actors of a Ray "
        "cluster (the one at RAY_ADDRESS, or one started here), which must share these folders",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=0,
        metavar="N",
        help="how many; one a GPU, or else one a machine, unless told",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="also lay all pictures out in one PNG: a row a style, a column an input or prompt",
    )


def _count(text: str) -> int:
    """A number of workers."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a whole number from 1")
    return int(text)


def _batch(options: argparse.Namespace) -> int:
    from backend.batch.work import run_batch

    workers = opener(options.engine, options.workers)
    outcome = watched(run_batch(options.manifest, options.out, workers))
    for label, error in outcome.failed:
        print(f"failed: {label}: {error}", file=sys.stderr)
    print(f"results: {(options.out / 'results.json').resolve()}")
    print(f"{outcome.done} made, {outcome.already} were there, {len(outcome.failed)} failed")
    if options.sheet is not None and outcome.done + outcome.already:
        from backend.batch.sheet import write_sheet

        write_sheet(options.out, options.sheet)
        print(f"sheet: {options.sheet.resolve()}")
    return EXIT_FAILED if outcome.failed else EXIT_OK
