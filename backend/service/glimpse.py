"""A running job's newest preview picture, in a file beside its result, for as long as it runs."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.imaging.files import to_bytes

__all__ = ["SIDE", "Glimpse"]

SIDE = 512  # pixels, at most


class Glimpse:
    """Writes pictures to one file, each in one step; `checks.remove_leftovers` knows it, too.

    Args:
        out: the job's result; nothing is written where its folder is still to be made.
    """

    def __init__(self, out: str) -> None:
        self._out = Path(out)
        self._path = self._out.with_name(f".{self._out.name}.preview.png")

    def show(self, picture: NDArray[np.float32]) -> str | None:
        """Its path, once a picture (H, W, 3) is there; None where that fails: work goes on."""
        image = Image.fromarray(to_bytes(picture))
        image.thumbnail((SIDE, SIDE))
        data = io.BytesIO()
        image.save(data, format="PNG")
        aside = ""
        try:
            handle, aside = tempfile.mkstemp(prefix=f".{self._out.name}.", dir=self._out.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data.getbuffer())
            os.replace(aside, self._path)
        except OSError:
            with suppress(OSError):
                os.unlink(aside)
            return None
        return str(self._path)

    def close(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
