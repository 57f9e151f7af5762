"""What a job will need, memory and minutes, said before its work starts."""

from __future__ import annotations

import math
from pathlib import Path

from backend.errors import ResourceError

__all__ = ["available_bytes", "check_memory", "check_minutes"]

GIB = 2**30
# Bytes at the peak for every pixel of a picture that is read and written, and for every pixel of
# the part that is worked on: float copies of picture, design, start, result and their blends.
PICTURE, WORK = 36, 192


def available_bytes() -> float:
    """Main memory that programs may still take; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    for line in lines:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024.0
    return math.inf


def check_memory(
    name: str, size: tuple[int, int], work: int, models: float, allowed: float | None
) -> float:
    """Refuse a picture for which memory would run out.

    Args:
        name: of the picture, for the message.
        size: (height, width) of the picture.
        work: pixels of it that are worked on.
        models: bytes that the models take besides.
        allowed: bytes; None: what is available now.

    Returns:
        the bytes the job may take.

    Raises:
        ResourceError: with the factor by which the picture would fit.
    """
    height, width = size
    pixels = float(height * width * PICTURE + work * WORK)
    limit = available_bytes() if allowed is None else allowed
    if pixels + models > limit:
        whose = "are available" if allowed is None else "are allowed"
        raise ResourceError(
            f"{name}: {width} × {height} pixels need about {(pixels + models) / GIB:.1f} GiB of "
            f"memory, {limit / GIB:.1f} GiB {whose}.",
            _smaller(math.sqrt(max(limit - models, 0.0) / pixels), "use less of it (a mask)"),
        )
    return pixels + models


def check_minutes(name: str, seconds: float, fixed: float, allowed: float | None) -> None:
    """Refuse a picture that would take longer than the user allows.

    Args:
        seconds: of work that grows with the picture's area.
        fixed: seconds that do not.
        allowed: minutes; None: any.

    Raises:
        ResourceError: with the factor by which the picture would be done in time.
    """
    if allowed is None or seconds + fixed <= 60.0 * allowed:
        return
    scale = math.sqrt(max(60.0 * allowed - fixed, 0.0) / seconds) if seconds > 0.0 else 0.0
    raise ResourceError(
        f"{name}: this would take about {(seconds + fixed) / 60.0:.1f} minutes here, "
        f"{allowed:g} are allowed.",
        _smaller(scale, "allow more time"),
    )


def _smaller(scale: float, otherwise: str) -> str:
    if scale < 0.05:
        return f"Raise the limit, or {otherwise}."
    return f"Scale it by {math.floor(scale * 100.0) / 100.0:.2f} or less, or {otherwise}."
