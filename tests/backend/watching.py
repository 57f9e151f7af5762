"""What a service and its workers hold of the machine, and what lies in its folders (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from running import children

MIB = 2**20
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
SERVICE, LOOKS, MODELS = "service", "worker for looks", "worker with models"


@dataclass(frozen=True)
class Holding:
    """Of one process: resident bytes, open file descriptors, threads."""

    resident: int
    descriptors: int
    threads: int


def holdings(service: int) -> dict[str, Holding]:
    """Of the service and of each of its workers, which are told apart by torch."""
    found = {SERVICE: holding(service)}
    for pid in children(service):
        torch = "libtorch" in Path(f"/proc/{pid}/maps").read_text()
        found[MODELS if torch else LOOKS] = holding(pid)
    return found


def holding(pid: int) -> Holding:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    threads, descriptors = process / "task", process / "fd"
    return Holding(pages * _PAGE, len(os.listdir(descriptors)), len(os.listdir(threads)))


def seconds(pid: int) -> float:
    """Of processor time, with that of children that have ended; 0 once it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last fifth."""
    few = max(1, len(values) // 5)
    return median(values[:few]), median(values[-few:])


def files(*folders: Path) -> set[Path]:
    """All files, and folders in which there is nothing."""
    return {
        each
        for folder in folders
        for each in folder.rglob("*")
        if not each.is_dir() or not any(each.iterdir())
    }


def unowned(folder: Path, data: Path, inputs: Iterable[Path], owned: Iterable[Path]) -> set[Path]:
    """What lies in a folder and belongs to no job, no style and no log.

    Args:
        data: the service's, inside or outside.
        inputs: what the jobs read.
        owned: files and folders that jobs of the service's table have made, or that are to go on.
    """
    kept = {data / "run" / name for name in ("service.json", "service.lock")}
    kept |= {data / "jobs" / f"jobs.sqlite3{end}" for end in ("", "-wal", "-shm")}
    kept |= {data / "jobs" / "workers.lock", *inputs, *owned}
    kept |= {data / "logs" / f"service.log{end}" for end in ("", ".1", ".2", ".3")}
    return {
        each
        for each in files(folder, data)
        if each not in kept and not kept.intersection(each.parents) and not _of_style(each)
    }


def _of_style(path: Path) -> bool:
    """Whether a file lies in a style's folder, or in one that is in the trash; no temporary one."""
    inside = path.parent
    hidden = any(each.name.startswith(".") for each in (path, inside))
    return (inside / "style.json").is_file() and not hidden
