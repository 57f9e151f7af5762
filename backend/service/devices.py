"""Which GPUs there are, so that each can have workers of its own; how they share a CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["devices", "places"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_SECONDS = 10.0
_THREADS = "OMP_NUM_THREADS"


def devices(variables: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that work may use, as `CUDA_VISIBLE_DEVICES` names them; empty: one or none.

    That variable, where it is set, is the user's own choice among them.
    """
    chosen = variables.get(_VISIBLE)
    if chosen is not None:
        found = [each.strip() for each in chosen.split(",") if each.strip()]
    elif _DRIVER.is_dir() and len(list(_DRIVER.iterdir())) < 2:
        found = []
    else:
        found = _ask()
    return found if len(found) > 1 and "-1" not in found else []


def _processors() -> int:
    """How many this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def places(
    count: int, gpus: Sequence[str], variables: Mapping[str, str] = os.environ
) -> list[dict[str, str]]:
    """What each of `count` workers has in its environment beside this process's own.

    Each gets one of several GPUs in turn, and its share of the processors; one worker alone has
    whatever there is, and the user's own count of threads stays.
    """
    share = {_THREADS: str(max(1, _processors() // count))}
    if count == 1 or _THREADS in variables:
        share = {}
    return [
        {**share, **({_VISIBLE: gpus[number % len(gpus)]} if gpus else {})}
        for number in range(count)
    ]


def _ask() -> list[str]:
    """By the driver's own program; nothing where that is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run(
            [program, "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.startswith("GPU-")]
