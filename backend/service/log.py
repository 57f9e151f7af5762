"""The service's log file, which never grows beyond a few megabytes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from backend.errors import ResourceError

__all__ = ["log_to"]

MAX_BYTES = 2 * 2**20
OLDER_FILES = 3


@contextmanager
def log_to(folder: Path) -> Iterator[Path]:
    """Log to `folder`/service.log, and warnings to standard error as before.

    A log that cannot be written to any more (the disk is full) stops no job.

    Raises:
        ResourceError: the file cannot be made.
    """
    path = folder / "service.log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = RotatingFileHandler(
            path, maxBytes=MAX_BYTES, backupCount=OLDER_FILES, encoding="utf-8"
        )
    except OSError as error:
        raise ResourceError(
            f"{path}: the log cannot be kept there ({error.strerror}).",
            "Give --data a folder that may be written to.",
        ) from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.WARNING)
    root = logging.getLogger()
    before = root.level, logging.raiseExceptions
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False
    for handler in (file, screen):
        root.addHandler(handler)
    try:
        yield path
    finally:
        for handler in (file, screen):
            root.removeHandler(handler)
        file.close()
        root.setLevel(before[0])
        logging.raiseExceptions = before[1]
