"""What can go wrong around a job: files before it starts, disk and memory while it runs."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.errors import InputError, ResourceError
from backend.jobs import AnalyseJob, Job, TrainJob
from backend.models.memory import MODES

__all__ = ["check_files", "clear_failures", "needed_bytes", "remove_leftovers"]

MIB = 2**20
IMAGE_SPACE = 300 * MIB  # an 8192 px PNG and its temporary twin
STYLE_SPACE = {"starter": 400 * MIB}
OTHER_STYLE_SPACE = 3072 * MIB

# Fields that name folders.
_FOLDERS = {"style": "style folder", "base_config": "folder", "designer": "folder"}

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def needed_bytes(job: Job) -> int:
    """Disk space the job may need in its output folder, temporary files included."""
    if isinstance(job, TrainJob):
        return STYLE_SPACE.get(job.profile, OTHER_STYLE_SPACE)
    return IMAGE_SPACE


def check_files(job: Job) -> None:
    """See that inputs exist and that the output can be written, before any work.

    Raises:
        InputError: a path is missing, of the wrong kind, or the output would replace an input.
        ResourceError: the output folder is read-only or its disk too full.
    """
    inputs: list[Path] = []
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        if field.metadata.get("path") != "read" or value is None:
            continue
        path = Path(value)
        wanted = Path.is_dir if field.name in _FOLDERS else Path.is_file
        try:
            if not path.exists():
                raise InputError(f"{value}: there is no such file or folder.", "Check the path.")
            if not wanted(path):
                kind = _FOLDERS.get(field.name, "file")
                name = field.name.replace("_", "-")
                raise InputError(f"{value}: this is not a {kind}.", f"Check the {name}.")
        except (OSError, ValueError) as error:
            raise InputError(f"{value!r} cannot be read ({error}).", "Check the path.") from error
        inputs.append(path.resolve())
    _check_output(job, Path(job.out), inputs)


def _check_output(job: Job, out: Path, inputs: list[Path]) -> None:
    try:
        resolved = out.resolve()
        if resolved in inputs:
            raise InputError(
                f"{out}: the result would replace an input.", "Choose another --out; inputs stay."
            )
        if isinstance(job, TrainJob):
            _check_folder(resolved, out, "a style", "style.json")
        elif isinstance(job, AnalyseJob):
            _check_folder(resolved, out, "an analysis", "analysis.json")
        else:
            _check_image_file(resolved, out)
        # A folder that is still to be made takes its space from where it will be.
        folder = next(each for each in resolved.parents if each.exists())
        with tempfile.TemporaryFile(dir=folder, prefix=".stitchwork"):
            free, needed = shutil.disk_usage(folder).free, needed_bytes(job)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ResourceError(
            f"{out}: nothing can be written there ({reason}).",
            "Choose a folder that may be written to.",
        ) from error
    if free < needed:
        raise ResourceError(
            f"{out}: the disk has {free // MIB} MiB free, the job may need {needed // MIB} MiB.",
            "Free some space, or choose another disk.",
        )


def _check_image_file(resolved: Path, out: Path) -> None:
    if resolved.is_dir():
        raise InputError(f"{out}: this is a folder.", "Give --out the name of a PNG file.")
    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: results are written as PNG.", "Let the name end in .png.")


def _check_folder(resolved: Path, out: Path, what: str, mark: str) -> None:
    """A folder may be new, empty, or an earlier result: then it has the file `mark`."""
    if resolved.is_file():
        raise InputError(f"{out}: this is a file.", "Give --out the name of a folder to make.")
    if resolved.is_dir() and any(resolved.iterdir()) and not (resolved / mark).is_file():
        raise InputError(
            f"{out}: this folder holds something that is not {what}.",
            "Give --out a new folder.",
        )


@contextmanager
def clear_failures(out: str, memory: str | None = None) -> Iterator[None]:
    """Turn what the machine lacks, disk or memory, into errors with a remedy.

    Args:
        memory: the memory mode that the job runs in; None where there is none.

    Raises:
        ResourceError: in place of the system's and torch's own errors.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or out
        if error.errno in _FULL:
            raise ResourceError(
                f"{place}: the disk is full.", "Free some space, then run the job again."
            ) from error
        if error.errno in _FORBIDDEN:
            raise ResourceError(
                f"{place}: {os.strerror(error.errno)}.", "Choose a folder that may be written to."
            ) from error
        raise
    except MemoryError as error:
        raise _out_of_memory(memory) from error
    except RuntimeError as error:
        # torch's own errors; its module need not be loaded here.
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise _out_of_memory(memory) from error
        raise


def remove_leftovers(job: Job, *, finished: bool = False) -> None:
    """Remove what a job that was killed left aside.

    Args:
        finished: its result is in its place; if not, training's checkpoint stays, to be resumed.
    """
    out = Path(job.out)
    if not os.path.isdir(out.parent):  # in any case an answer, whatever the name
        return
    # The names that tempfile makes, `styles.replace_folder`, and `service.glimpse`.
    ours = re.compile(rf"\.{re.escape(out.name)}\.([a-z0-9_]{{8}}|old-\d+|preview\.png)")
    for path in sorted(out.parent.iterdir()):
        if not ours.fullmatch(path.name):
            continue
        if path.is_file():
            path.unlink(missing_ok=True)
        elif path.name.startswith(f".{out.name}.old-") and not out.exists():
            # Killed between moving the older style away and putting the new one in its place.
            os.replace(path, out)
        else:
            shutil.rmtree(path, ignore_errors=True)
    if finished and isinstance(job, TrainJob):
        shutil.rmtree(out.with_name(f"{out.name}.partial"), ignore_errors=True)


def _out_of_memory(memory: str | None) -> ResourceError:
    remedy = "Close other programs, or use a smaller image or another profile."
    names = [mode.name for mode in MODES]
    if memory is not None and memory != names[-1]:
        smaller = names[names.index(memory) + 1] if memory in names else names[-1]
        remedy = f"Try --memory {smaller}. {remedy}"
    return ResourceError("Memory ran out.", remedy)
