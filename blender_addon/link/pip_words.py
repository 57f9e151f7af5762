"""What pip does, in words and as a share, from its lines and from the files that it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PipRun"]

COLLECTING = re.compile(r"\s*Collecting ([A-Za-z0-9._-]+)")
SATISFIED = re.compile(r"\s*Requirement already satisfied: ([A-Za-z0-9._-]+)")
FETCHED = re.compile(
    r"\s*(?:Downloading|Using cached|Processing) (?:\S*[/\\])?"
    r"(([A-Za-z0-9._]+?)-\d\S*(?:\.whl|\.tar\.gz|\.zip))(?= |$)(?: \(([\d.]+) ?([kMG]?)B\))?"
)
UNPACKING = "Installing collected packages:"
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
# Of a run, as far as it can be told beforehand: a network is slower than a disk.
FETCHING_SHARE = 0.7


@dataclass(slots=True)
class PipRun:
    """Follows one `pip install`.

    Attributes:
        expected: packages that it will fetch, as far as is known.
        share: 0..1, never falls.
        message: in words.
    """

    expected: int
    share: float = 0.0
    message: str = "Asking the package index"
    _fetched: int = 0
    _file: str = ""
    _name: str = ""
    _size: float = 0.0
    _unpacking: int = 0

    def hear(self, line: str) -> None:
        """Take note of a line that pip printed."""
        if fetched := FETCHED.match(line):
            self._file, self._name = fetched[1], fetched[2]
            self._size = float(fetched[3] or 0) * UNITS[fetched[4] or ""]
            self._count()
            self._tell_download(0)
        elif SATISFIED.match(line):
            self._count()
        elif collecting := COLLECTING.match(line):
            self.message = f"Looking up {collecting[1]}"
        elif "Retrying (Retry" in line:
            self.message = "The index does not answer; asking again"
        elif line.startswith(UNPACKING):
            self._unpacking, self._file = line.count(",") + 1, ""

    def look(self, downloads: Path, site: Path) -> None:
        """See how far a long download or the unpacking is, of which pip says nothing.

        Args:
            downloads: pip's temporary folder.
            site: folder of the environment.
        """
        if self._unpacking:
            # Not in the packages themselves: pip replaces some while this looks.
            folders = ("lib/python*/site-packages", "[Ll]ib/site-packages")
            there = sum(1 for each in folders for _ in site.glob(f"{each}/*.dist-info"))
            there = min(there, self._unpacking)
            done = FETCHING_SHARE + (1.0 - FETCHING_SHARE) * there / self._unpacking
            self.share = max(self.share, done)
            self.message = f"Unpacking packages ({there} of {self._unpacking})"
            if self._unpacking == 1:
                self.message = f"Unpacking {self._name or 'it'}"
        elif self._file:
            sizes = [_size(each) for each in downloads.glob(f"*/{self._file}")]
            self._tell_download(max(sizes, default=0))

    def _count(self) -> None:
        self._fetched += 1
        self.expected = max(self.expected, self._fetched)

    def _tell_download(self, there: int) -> None:
        part = min(there / self._size, 1.0) if self._size else 0.0
        share = (self._fetched - 1 + part) / self.expected
        self.share = max(self.share, FETCHING_SHARE * share)
        size = ""
        if self._size >= 1e6:
            size = f": {min(there, self._size) / 1e6:.0f} of {self._size / 1e6:.0f} MB"
        number = f" ({self._fetched} of {self.expected})" if self.expected > 1 else ""
        self.message = f"Fetching {self._name}{number}{size}"


def _size(file: Path) -> int:
    """Bytes of a file; 0 if pip has just put it elsewhere."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
