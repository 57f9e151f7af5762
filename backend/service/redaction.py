"""Takes out of log lines what is nobody's business: secrets, and paths outside the roots."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

__all__ = ["LONGEST", "Redactor"]

LONGEST = 500  # characters of a line
HIDDEN = "[…]"
_SECRETS = re.compile(
    r"\bhf_[A-Za-z0-9]{8,}"  # of the model hub
    r"|\bBearer\s+\S+"
    r"|(?<=://)[^\s/@]+@"  # user and password in an address
    r"|\b(?:token|password|passwd|secret|api[_-]?key)['\"]?\s*[:=]\s*\S+",
    re.IGNORECASE,
)
_ADDRESS = r"\b(?:https?|wss?)://[^\s'\"<>]*"
# A space belongs to it where a separator comes within a few words, but none after a colon.
_BODY = r"(?:[^\s\"<>|]|(?<!:)\s(?=(?:[^\s\"<>|]+\s){0,3}[^\s\"<>|]*[/\\]))*"
_REST = re.compile(r"[^\s:;,=]*")
_PATH = re.compile(
    rf"(?P<address>{_ADDRESS})|"
    r"(?P<quote>['\"])(?P<quoted>(?:file:)?(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\n]*?)(?P=quote)|"
    rf"(?P<path>(?:file:/+|(?<![\w.])~?/|(?<!\w)[A-Za-z]:[\\/]|(?<!\S)\\\\){_BODY})"
)


class Redactor:
    """Makes a line of a worker's log fit for every client.

    Args:
        roots: folders whose paths clients may see.
        secrets: texts that none may see, such as the token.
    """

    def __init__(self, roots: Sequence[str] = (), secrets: Sequence[str] = ()) -> None:
        self._roots = roots
        self._secrets = secrets

    def __call__(self, text: str) -> str:
        """One line, at most LONGEST characters, printable."""
        text = " ".join(text[: 20 * LONGEST].split())
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _PATH.sub(self._path, _SECRETS.sub(HIDDEN, text))
        text = "".join(each if each.isprintable() else "�" for each in text)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

    def _path(self, found: re.Match[str]) -> str:
        if found["address"]:
            return found[0]
        if found["quoted"] is not None:
            return found["quote"] + self._shown(found["quoted"]) + found["quote"]
        return self._shown(found["path"])

    def _shown(self, path: str) -> str:
        """What begins as a path: as it is under a root, though other paths may follow it."""
        for root in self._roots:
            if path == root or path.startswith(root.rstrip(os.sep) + os.sep):
                end = _REST.match(path, len(root)).end()  # type: ignore[union-attr]
                head = os.path.normpath(path[:end])
                if head == root or head.startswith(root.rstrip(os.sep) + os.sep):
                    return path[:end] + _PATH.sub(self._path, path[end:])
        return HIDDEN
