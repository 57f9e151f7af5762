"""Errors a user can act on: each says what is wrong and what to do about it."""

from __future__ import annotations

__all__ = ["InputError", "ProfileError", "ResourceError", "StitchworkError", "StyleError"]


class StitchworkError(Exception):
    """A failure with a remedy; doors (command line, HTTP) print it without a traceback.

    Args:
        message: what is wrong, naming the file or setting.
        remedy: what the user can do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(StitchworkError):
    """A file or value given by the user cannot be used."""


class StyleError(StitchworkError):
    """A style folder is damaged or belongs to another profile."""


class ProfileError(StitchworkError):
    """A base model is missing or cannot be loaded."""


class ResourceError(StitchworkError):
    """Memory, disk space or permission is lacking."""
