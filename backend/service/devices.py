"""Which GPUs there are, so that each can have workers of its own; how they share a CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["devices", "only", "share_of"]

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


def only(device: str) -> dict[str, str]:
    """Variables of a process that is to see this one alone."""
    return {_VISIBLE: device}


def share_of(workers: int, variables: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """Variables of one of several processes that compute on the CPU; the user's own count stays."""
    if workers == 1 or _THREADS in variables:
        return None
    return {_THREADS: str(max(1, (os.cpu_count() or 1) // workers))}


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
