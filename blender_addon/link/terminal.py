"""Progress on the terminal for work without an interface: one line that rewrites itself."""

from __future__ import annotations

import json
import sys
from typing import IO

from .jobs import NOTE, Progress

__all__ = ["Terminal", "clock"]

BAR = 24


def clock(seconds: float | None) -> str:
    """Seconds as `m:ss` (or `h:mm:ss`); empty while unknown."""
    if seconds is None or seconds < 0:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Terminal:
    """Shows what is being done.

    On a terminal the progress line is rewritten; elsewhere there is a line for each new tenth of a
    stage. With `as_json`, each change is one JSON object on a line.
    """

    def __init__(self, stream: IO[str] | None = None, *, as_json: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._json = as_json
        self._rewrites = self._stream.isatty() and not as_json
        self._open = False
        self._last: tuple[str, int] | None = None

    def say(self, text: str) -> None:
        """A finished line."""
        if self._json:
            self._write(json.dumps({"message": text}) + "\n")
            return
        self._write(("\r\x1b[2K" if self._open else "") + text + "\n")
        self._open, self._last = False, None

    def progress(self, title: str, progress: Progress | None) -> None:
        """The present step of a task; `None` while it waits."""
        stage = progress.stage if progress else "waiting for the backend"
        share = progress.step / progress.steps if progress and progress.steps else 0.0
        resolution = 200 if self._rewrites else 10
        mark = (stage, int(share * resolution))
        if mark == self._last:
            return
        if progress and stage == NOTE:
            self.say(f"note: {progress.message}")
            self._last = mark
            return
        self._last = mark
        left = clock(progress.seconds_left if progress else None)
        if self._json:
            line = {"task": title, "stage": stage, "share": round(share, 4), "left": left}
            self._write(json.dumps(line) + "\n")
            return
        full = round(share * BAR)
        text = f"{title}: {stage:<22} [{'#' * full}{'.' * (BAR - full)}] {share:4.0%}"
        text += f"  {left} left" if left else ""
        if self._rewrites:
            self._write(f"\r\x1b[2K{text}")
            self._open = True
        else:
            self._write(text + "\n")

    def done(self, outputs: dict[str, str]) -> None:
        """The results, one a line."""
        if self._json:
            self._write(json.dumps({"outputs": outputs}) + "\n")
            return
        width = max(map(len, outputs), default=0)
        for role, path in outputs.items():
            self.say(f"   {role:<{width}}  {path}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
