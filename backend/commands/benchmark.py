"""`benchmark`: methods compared on held-out references and designs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from backend.commands import EXIT_OK, add_command, watched

__all__ = ["add_benchmark"]

_ABOUT = (
    "Compare methods on references and designs that no training saw. Writes report.html (pictures "
    "first, then tables with 95% intervals) and report.json into a folder, beside all that was "
    "made. Called again, it goes on where it was interrupted. The full benchmark takes hours on a "
    "CPU; --quick takes minutes and shows that everything runs. With --blocks the automatic choice "
    "of style blocks is compared instead: with the paper's four and with random ones."
)


def add_benchmark(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(commands, "benchmark", _ABOUT, _benchmark)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for the report and pictures"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few references and designs, little training"
    )
    parser.add_argument(
        "--blocks", action="store_true", help="compare choices of style blocks, not methods"
    )
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FOLDER",
        help="photos to learn from as well; NAME_mask.png beside a NAME.jpg says where it is sewn",
    )
    parser.add_argument(
        "--icons",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="icon sets (Iconify's icons.json); those held out of training are embroidered too",
    )
    parser.add_argument(
        "--methods", default="", metavar="NAMES", help="compare ours with these only (by commas)"
    )
    parser.add_argument(
        "--seed", type=int, default=42, metavar="N", help="seed of all randomness (default: 42)"
    )
    parser.add_argument("--profile", default="starter", help="base model (default: starter)")
    parser.add_argument("--base", help="hub id or folder in place of the profile's base model")


def _benchmark(options: argparse.Namespace) -> int:
    from backend.checks import clear_failures
    from backend.evaluation.benchmark.block_study import STUDY, study, to_text
    from backend.evaluation.benchmark.settings import FULL, QUICK, Settings
    from backend.evaluation.benchmark.work import benchmark

    settings = Settings(
        out=options.out.expanduser().absolute(),
        extent=STUDY if options.blocks else QUICK if options.quick else FULL,
        references=options.references,
        icons=tuple(options.icons),
        methods=tuple(each.strip() for each in options.methods.split(",") if each.strip()),
        seed=options.seed,
        profile=options.profile,
        base=options.base,
    )
    with clear_failures(str(settings.out)):
        if options.blocks:
            found = watched(study(settings))
            print(f"{to_text(json.loads(found.read_text(encoding='utf-8')))}\nreport: {found}")
            return EXIT_OK
        page = watched(benchmark(settings))
    print(f"report: {page}")
    return EXIT_OK
