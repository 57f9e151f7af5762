"""A result is made aside and put in its place in one step; before it, somebody may vouch for it.

A service notes then what the result is: so there is no moment in which it is in its place and
nobody knows whose it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backend.jobs import Result

__all__ = ["Vouch", "nobody"]

# Called with the result and the place, aside, of the whole file or folder that is to be the job's
# `out`. If it raises an error nothing is put in place.
Vouch = Callable[[Result, Path], None]


def nobody(result: Result, aside: Path) -> None:
    """Where nobody needs to know."""
