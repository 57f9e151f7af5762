"""JSON in and out of the service."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from backend.errors import InputError

__all__ = ["Answer", "parse_object", "read_object"]

BODY_SECONDS = 10.0


class Answer(Response):
    """A JSON response; in ASCII, so that even half a surrogate pair comes back as it was sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")

    @classmethod
    def refusal(cls, status: int, error: str, remedy: str = "") -> Self:
        return cls({"error": error, "remedy": remedy}, status_code=status)


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The request's body as a JSON object.

    Raises:
        InputError: too large, too slow, not JSON, not an object.
    """
    try:
        body = await asyncio.wait_for(_read(request, limit), BODY_SECONDS)
    except TimeoutError:
        raise InputError("The request's body came too slowly.", "Send it again.") from None
    except ClientDisconnect:
        raise InputError("The request's body was cut off.", "Send it again.") from None
    return parse_object(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: not JSON, not an object.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("The request's body is not JSON.", "Send a JSON object.") from None
    if not isinstance(data, dict):
        raise InputError("The request's body is not a JSON object.", "Send a JSON object.")
    return data


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise InputError(f"The request's body has over {limit} bytes.", "Send a smaller one.")
    return bytes(body)
