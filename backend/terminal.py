"""A job's progress on the terminal: one line rewritten, or a line a change where nobody watches."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from backend.jobs import NOTE, Progress

__all__ = ["ProgressLine", "duration"]

BAR_CELLS = 24
SHARES = 4  # lines a stage gets where lines cannot be rewritten


def duration(seconds: float) -> str:
    """Seconds as people say them: "40 s", "3:05 min", "1:12 h"."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


class ProgressLine:
    """Shows progress on a stream.

    Args:
        stream: standard error if absent, so that results on standard output stay clean.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._open = False
        self._last: tuple[str, int] | None = None

    def show(self, progress: Progress) -> None:
        """Show one step, if it says anything new; a note stays on a line of its own."""
        if progress.stage == NOTE:
            self.close()
            self._stream.write(f"note: {progress.message}\n")
            self._stream.flush()
            return
        if self._live:
            self._rewrite(progress)
            return
        # A stage of a single step is said once, when it begins.
        share = progress.step * SHARES // progress.steps if progress.steps > 1 else 0
        change = (progress.stage, share)
        if change != self._last:
            self._last = change
            self._stream.write(f"{_text(progress)}\n")
            self._stream.flush()

    def close(self) -> None:
        """End the line that is being rewritten."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False

    def _rewrite(self, progress: Progress) -> None:
        if self._last is not None and progress.stage != self._last[0]:
            self.close()
        self._last = (progress.stage, 0)
        filled = round(BAR_CELLS * progress.step / max(progress.steps, 1))
        bar = "█" * filled + "░" * (BAR_CELLS - filled)
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + f"{bar} {_text(progress)}"[:width])
        self._stream.flush()
        self._open = True


def _text(progress: Progress) -> str:
    text = progress.stage
    if progress.steps > 1:
        text += f" {progress.step}/{progress.steps}"
    if progress.message:
        text += f" · {progress.message}"
    if progress.seconds_left is not None:
        text += f" · {duration(progress.seconds_left)} left"
    return text
