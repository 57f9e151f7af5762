"""Talks to the backend's HTTP service on this machine, with the standard library only."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from ..wording import do
from .jobs import PROTOCOL_VERSION, Job, JobError, JobStatus, job_to_dict

__all__ = ["Client", "Endpoint", "Hello", "LinkError", "UnreachableError", "check_protocol"]

POLL_SECONDS = 0.75
SUBMIT_SECONDS = 5.0
MAX_ANSWER_BYTES = 4 * 2**20


class LinkError(Exception):
    """The backend cannot do what was asked: what is wrong, and what the user can do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UnreachableError(LinkError):
    """No answer in time; asking again later may succeed."""


def check_protocol(protocol: Any, version: str = "") -> None:
    """Raise a LinkError that says which side to update unless both speak one protocol."""
    if protocol == PROTOCOL_VERSION:
        return
    theirs = f"The backend {version} speaks protocol {protocol}, this add-on {PROTOCOL_VERSION}."
    if isinstance(protocol, int) and protocol > PROTOCOL_VERSION:
        raise LinkError(theirs, "Update the Stitchwork extension in Blender's preferences.")
    raise LinkError(theirs, do("update_backend"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a backend listens, http://127.0.0.1:PORT, and the token that opens it.

    Raises:
        LinkError: the address is not of this machine (photos and token stay here).
    """

    url: str
    token: str = field(repr=False)
    pid: int | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            usable = parts.scheme == "http" and parts.hostname == "127.0.0.1" and parts.port
        except ValueError:
            usable = None
        if not usable:
            raise LinkError(
                f"{self.url!r} is not the address of a backend on this computer.",
                "Use the form http://127.0.0.1:PORT as the backend announces it.",
            )

    @classmethod
    def from_announcement(cls, line: str) -> Endpoint:
        """Read the one JSON line that a starting backend prints: port, token, pid, protocol."""
        try:
            data = json.loads(line)
            port, token = int(data["port"]), str(data["token"])
        except (ValueError, KeyError, TypeError) as error:
            raise LinkError(
                f"The backend began with {line.strip()[:80]!r} instead of its address.",
                do("repair"),
            ) from error
        check_protocol(data.get("protocol"), str(data.get("version", "")))
        pid = data.get("pid")
        return cls(f"http://127.0.0.1:{port}", token, pid if isinstance(pid, int) else None)


@dataclass(frozen=True, slots=True)
class Hello:
    """The backend's handshake."""

    protocol: int
    version: str
    profiles: tuple[str, ...] = ()
    pid: int | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Client:
    """One backend's HTTP interface; every call is short and never retries by itself.

    All methods raise `UnreachableError` when nothing answers in time and `LinkError` when it
    refuses, with its own message and remedy.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = POLL_SECONDS) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        # A system proxy must not see requests to this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def hello(self) -> Hello:
        """The handshake; raises a LinkError that says which side to update if they differ."""
        data = self._object("GET", "/v1/hello", timeout=SUBMIT_SECONDS)
        check_protocol(data.get("protocol"), str(data.get("version", "")))
        profiles = data.get("profiles")
        names = profiles if isinstance(profiles, list | dict) else ()
        pid = data.get("pid")
        return Hello(
            protocol=PROTOCOL_VERSION,
            version=str(data.get("version", "")),
            profiles=tuple(str(name) for name in names),
            pid=pid if isinstance(pid, int) else None,
        )

    def submit(self, job: Job, pid: int | None = None) -> JobStatus:
        """Queue a job; it is cancelled when process `pid`, if given, leaves the backend."""
        path = "/v1/jobs" if pid is None else f"/v1/jobs?client={pid}"
        return self._status("POST", path, job_to_dict(job), timeout=SUBMIT_SECONDS)

    def status(self, job_id: str) -> JobStatus:
        return self._status("GET", f"/v1/jobs/{quote(job_id, safe='')}")

    def cancel(self, job_id: str) -> JobStatus:
        path = f"/v1/jobs/{quote(job_id, safe='')}/cancel"
        return self._status("POST", path, {}, timeout=SUBMIT_SECONDS)

    def join(self, pid: int) -> None:
        """Have the backend stay while process `pid` lives."""
        self._request("POST", "/v1/clients/join", {"pid": pid}, timeout=SUBMIT_SECONDS)

    def leave(self, pid: int) -> bool:
        """Process `pid` needs the backend no more; returns whether the backend stops."""
        return bool(self._object("POST", "/v1/clients/leave", {"pid": pid}).get("stopping", True))

    def _status(self, method: str, path: str, body: Any = None, **options: float) -> JobStatus:
        data = self._object(method, path, body, **options)
        try:
            return JobStatus.from_dict(data)
        except (JobError, KeyError, TypeError, ValueError) as error:
            raise LinkError(
                f"The backend's answer about a job is not understood: {error}",
                "Bring add-on and backend to the same version.",
            ) from error

    def _object(self, method: str, path: str, body: Any = None, **options: float) -> dict[str, Any]:
        data = self._request(method, path, body, **options)
        if not isinstance(data, dict):
            raise LinkError("The backend's answer is not understood.", "Restart the backend.")
        return data

    def _request(
        self, method: str, path: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        request = urllib.request.Request(
            self.endpoint.url.rstrip("/") + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.endpoint.token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with self._opener.open(request, timeout=timeout or self._timeout) as answer:
                raw = answer.read(MAX_ANSWER_BYTES)
                if answer.length:  # what is still to come: it died in mid-sentence, or talks on
                    raise http.client.IncompleteRead(raw, answer.length)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(MAX_ANSWER_BYTES)) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                "The backend does not answer.",
                "Start it again; Stitchwork's preferences open its log.",
            ) from error
        try:
            return json.loads(raw) if raw else None
        except ValueError as error:
            raise LinkError(
                f"{self.endpoint.url} answered, but is not a Stitchwork backend.",
                do("address"),
            ) from error


def _refusal(code: int, raw: bytes) -> LinkError:
    """A LinkError from a refusing answer; its JSON body is {"error", "remedy"} when it is ours."""
    if code == 401:
        return LinkError(
            "The backend refuses this token.", "Copy the token that the backend announced."
        )
    try:
        body = json.loads(raw)
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    message = str(body.get("error") or body.get("message") or f"The backend refused ({code}).")
    return LinkError(message, str(body.get("remedy") or ""))
