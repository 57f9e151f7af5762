"""A folder of styles: what is in it, sharing a style as one file, which styles are alike."""

from __future__ import annotations

__all__ = ["FORMATS", "SUFFIX", "TRASH"]

# Named here, so that the command line can tell of them before any library is loaded.
TRASH = ".trash"
SUFFIX = ".stitchstyle"
FORMATS = ("diffusers", "kohya")
