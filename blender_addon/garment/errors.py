"""The add-on's error that a user can act on; operators report it, the command line prints it."""

from __future__ import annotations

__all__ = ["GarmentError"]


class GarmentError(Exception):
    """A garment, patch or picture cannot be used.

    Args:
        message: what is wrong, naming the object, layer or file.
        remedy: what the user can do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()
