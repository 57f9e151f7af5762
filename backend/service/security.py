"""Who may speak to the service, and which paths a job may name."""

from __future__ import annotations

import dataclasses
import errno
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from backend.errors import InputError
from backend.jobs import Job
from backend.service.answers import Answer

__all__ = ["MAX_BODY", "Guard", "Roots"]

MAX_BODY = 64 * 1024
_ASIDE = 40  # bytes that jobs add to a result's name while they make it
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Guard:
    """ASGI middleware in front of every route: exact Host, no Origin, the token, small bodies.

    The Host check defeats DNS rebinding, the Origin check requests from web pages.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._authorization = f"Bearer {token}".encode()
        self._host = f"127.0.0.1:{port}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = self._refusal(scope["headers"])
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Sequence[tuple[bytes, bytes]]) -> Answer | None:
        if _values(headers, b"host") != [self._host]:
            return Answer.refusal(421, f"This service answers to {self._host.decode()} only.")
        if _values(headers, b"origin"):
            return Answer.refusal(403, "Web pages may not use this service.")
        given = _values(headers, b"authorization")
        if len(given) != 1 or not hmac.compare_digest(given[0], self._authorization):
            return Answer.refusal(
                401,
                "The token is missing or wrong.",
                "Send `Authorization: Bearer TOKEN` with the token announced at start.",
            )
        lengths = _values(headers, b"content-length")
        if lengths and not (lengths[0].isdigit() and int(lengths[0][:20]) <= MAX_BODY):
            return Answer.refusal(413, f"Requests may have at most {MAX_BODY} bytes.")
        return None


def _values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _too_long(path: Path) -> bool:
    """Whether the disk could not have a file of that name: asking about it would be an error."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


class Roots:
    """The folders that jobs may read and write.

    Args:
        folders: existing folders.
        closed: folders in them that jobs may not touch.

    Raises:
        InputError: one of them is no folder.
    """

    def __init__(self, folders: Sequence[Path], closed: Sequence[Path] = ()) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"{folder}: this is not a folder.", "Give --root a folder.")
        self._folders = [folder.resolve() for folder in folders]
        self._closed = [folder.resolve() for folder in closed]

    @property
    def names(self) -> list[str]:
        return [str(folder) for folder in self._folders]

    def resolve(self, text: str) -> Path:
        """The real path behind `text`, symbolic links followed.

        Raises:
            InputError: it is not absolute, or lies outside the roots.
        """
        try:
            given = Path(text)
            path = given.resolve()
            absolute = given.is_absolute()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{text!r} is not a usable path.", "Check the path.") from error
        if _too_long(path):
            raise InputError(f"{text}: the name is too long.", "Choose a shorter name.")
        if not absolute:
            raise InputError(f"{text!r} is not an absolute path.", "Send absolute paths.")
        if any(path.is_relative_to(folder) for folder in self._closed):
            raise InputError(f"{text}: this is the service's own folder.", "Choose another path.")
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise InputError(
                f"{text}: this lies outside the folders that the service may use.",
                "Start the service with --root for that folder.",
            )
        return path

    def confine(self, job: Job) -> Job:
        """The job with every path resolved.

        Raises:
            InputError: a path lies outside the roots, or `base` is neither hub id nor such a path.
        """
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(job):
            value = getattr(job, field.name)
            if field.metadata.get("path") and value is not None:
                path = self.resolve(value)
                if field.metadata["path"] == "write":
                    # Jobs write aside first, into the folder that holds the result.
                    self.resolve(str(path.parent))
                    self.resolve(str(path.parent / f"{path.name}{'x' * _ASIDE}"))
                changes[field.name] = str(path)
        base = getattr(job, "base", None)
        # A relative folder would be taken from wherever the service was started.
        if base is not None and not (_HUB_ID.fullmatch(base) and not os.path.exists(base)):
            changes["base"] = str(self.resolve(base))
        return dataclasses.replace(job, **changes)
