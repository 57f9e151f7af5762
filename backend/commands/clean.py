"""`clean`: what a service keeps, and the oldest of it deleted when that is asked for."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.commands import EXIT_FAILED, EXIT_OK, add_command
from backend.errors import InputError, ResourceError

if TYPE_CHECKING:
    from backend.service.store import Outputs

__all__ = ["add_clean", "gigabytes_option"]

_ABOUT = (
    "Delete the oldest results of a service that has ended, until the rest takes no more than "
    "--keep-gb. Pictures only, unless --styles is given; nothing that was changed since, nothing "
    "that a waiting job needs, and nothing without asking."
)


def gigabytes_option(text: str) -> int:
    """Bytes, of an option in gigabytes."""
    value = float(text)
    if not 0.0 <= value <= 1e9:
        raise ValueError
    return round(value * 1e9)


gigabytes_option.__name__ = "number of gigabytes"  # what argparse calls a wrong one


def add_clean(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(commands, "clean", _ABOUT, _clean)
    parser.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="as it was given to serve"
    )
    parser.add_argument(
        "--keep-gb",
        required=True,
        type=gigabytes_option,
        metavar="X",
        help="how much may stay; 0 deletes all that may be deleted",
    )
    parser.add_argument("--styles", action="store_true", help="trained styles too")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _clean(options: argparse.Namespace) -> int:
    from backend.service.info import InfoFile
    from backend.service.quota import Quota, gigabytes, removable, remove, size_of
    from backend.service.records import Records
    from backend.service.store import JobStore

    if not (options.data / "jobs" / "jobs.sqlite3").is_file():
        raise InputError(f"{options.data}: no service has kept jobs here.", "Check --data.")
    with ExitStack() as stack:
        stack.enter_context(InfoFile(options.data.absolute()))  # no service starts meanwhile
        store = JobStore(stack.enter_context(Records(options.data.absolute())).database)
        quota = Quota(store)
        used = quota.used()
        chosen: list[Outputs] = []
        for each in removable(store, styles=options.styles):
            if used - sum(map(size_of, chosen)) > options.keep_gb:
                chosen.append(each)
        print(f"results take {gigabytes(used)}")
        for each in chosen:
            print(f"  {gigabytes(size_of(each)):>8}  {each.kind:8}  {', '.join(each.paths)}")
        if chosen and not (options.yes or _agreed(len(chosen))):
            print("nothing was deleted", file=sys.stderr)
            return EXIT_FAILED
        for each in chosen:
            try:
                remove(each)
            except OSError as error:
                raise ResourceError(
                    f"{error.filename}: it cannot be deleted ({error.strerror}).",
                    "See who owns it, then run clean again.",
                ) from error
        left = quota.used()
    print(f"{len(chosen)} deleted, {gigabytes(left)} are kept")
    if left > options.keep_gb:
        more = "what may go has gone" if options.styles else "--styles would delete styles too"
        print(f"note: that is more than --keep-gb; {more}")
    return EXIT_OK


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise InputError(f"{count} results would be deleted.", "Give --yes to delete them.")
    print(f"Delete {'this' if count == 1 else f'these {count}'} for good? [y/N] ", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
