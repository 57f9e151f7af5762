"""A worker's word about a whole result, given before that is put in its place.

From the moment that the result is there, it and the receipt tell that its job is done, whenever the
worker or the service ends. A receipt whose files are not there, or are others, tells nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.jobs import Result
from backend.service.artefacts import Artefact, sync

__all__ = ["Receipt"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A job's result and the files that belong to it, at the places where they are to be."""

    result: Result
    artefacts: Sequence[Artefact]

    def write(self, path: Path) -> None:
        """Write it in one step, so that it outlasts a power cut.

        Raises:
            OSError: the disk is full, or worse; there is no receipt then.
        """
        aside = path.with_suffix(".partial")
        data = {
            "result": asdict(self.result),
            "artefacts": [each.to_dict() for each in self.artefacts],
        }
        try:
            with aside.open("w", encoding="utf-8") as file:
                json.dump(data, file)
            sync([aside])
            aside.replace(path)
            sync([path])
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path) -> Receipt | None:
        """The receipt, if there is one and every file is as it says."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            receipt = cls(
                Result(**data["result"]), [Artefact.from_dict(each) for each in data["artefacts"]]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return receipt if all(each.intact for each in receipt.artefacts) else None

    @classmethod
    def settled(cls, path: Path) -> Receipt | None:
        """As `read`, once the files are safely on the disk."""
        receipt = cls.read(path)
        if receipt is not None:
            try:
                sync(each.path for each in receipt.artefacts)
            except OSError as error:
                _log.warning("%s: %s", path, error)
                return None
        return receipt
