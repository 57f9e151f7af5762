"""Malformed requests of every kind: refused in words, never a 500 and never a traceback."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from backend.jobs import JOB_TYPES
from backend.service.app import Service
from backend.service.queue import Queue
from backend.service.security import MAX_BODY, Guard, Roots
from backend.service.store import JobStore

PORT, TOKEN = 4711, "the-token"
ODD: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        1e308,
        -0.0,
        "",
        " ",
        "\0",
        "\ud800",
        "é" * 300,
        "../..",
        "/",
    ),
    *("/etc/passwd", "~", "C:\\x", "file:///etc/passwd", "a" * 5000, [], [[]], {}, {"": None}),
]
PLACES = (
    *("/v1/hello", "/v1/jobs", "/v1/jobs/{}", "/v1/jobs/{}/cancel", "/v1/jobs/{}/events"),
    *("/v1/jobs/{}/files/image", "/v1/clients/join", "/v1/clients/leave", "/{}", "/v1/jobs/"),
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "NONSENSE")


class Requests:
    """Requests near enough to good ones to get far, by chance from a seed."""

    def __init__(self, seed: int, root: Path, known: str) -> None:
        self._chance = random.Random(seed)
        self._root, self._known = root, known

    def next(self) -> dict[str, Any]:
        chance = self._chance
        place = chance.choice(PLACES).format(self._id())
        method = chance.choice(("GET", "POST", "POST", chance.choice(METHODS)))
        if chance.random() < 0.6:
            place, method = "/v1/jobs", "POST"
        query = {chance.choice(("since", "client", "key", "x")): self._text() for _ in range(2)}
        headers = {"Last-Event-ID": self._text().encode("ascii", "replace").replace(b"\0", b"")}
        if chance.random() < 0.3:
            headers["Content-Type"] = chance.choice(
                (b"multipart/form-data; boundary=x", b"text/xml", b"", b"application/json;" * 20)
            )
        return {
            "method": method,
            "url": place + "?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in query.items()),
            "headers": {key: value.strip() for key, value in headers.items()},
            "content": self._body(),
        }

    def _id(self) -> str:
        return self._chance.choice((self._known, quote(self._text(), safe=""), "0" * 16))

    def _text(self) -> str:
        odd = self._chance.choice([*ODD, *map(str, range(-2, 9))])
        return str(odd).encode("utf-8", "replace").decode()[:200]

    def _body(self) -> bytes:
        chance = self._chance
        body = json.dumps(self._job(), allow_nan=True).encode()
        match chance.randrange(6):
            case 0:  # some bytes are others
                raw = bytearray(body)
                for _ in range(chance.randint(1, 8)):
                    raw[chance.randrange(len(raw))] = chance.randrange(256)
                return bytes(raw)
            case 1:  # it breaks off, or goes on
                return body[: chance.randrange(len(body))] + body[chance.randrange(len(body)) :]
            case 2:
                return chance.choice((b"[", b'{"a":', b"\x80", b"PK\x03\x04")) * chance.randrange(
                    9000
                )
            case 3:
                return chance.randbytes(chance.randrange(MAX_BODY + 100))
        return body

    def _job(self) -> dict[str, Any]:
        chance = self._chance
        fields: dict[str, Any] = {
            "kind": chance.choice([*JOB_TYPES, "knit"]),
            "pid": chance.choice([1, *ODD]),
        }
        for name in ("reference", "input", "out", "style", "mask", "design"):
            if chance.random() < 0.7:
                fields[name] = str(self._root / f"{name}.png")
        for _ in range(chance.randrange(4)):
            name = chance.choice([*fields, "seed", "schema", "steps", "base", "é", "", "__class__"])
            fields[name] = chance.choice(ODD)
        return fields


@pytest.mark.parametrize("seed", range(3))
def test_nothing_but_words_comes_back(tmp_path: Path, seed: int) -> None:
    async def check() -> None:
        store = JobStore()

        def no(*_: Any) -> Any:
            return False

        app = Service(store, Queue(store), Roots([tmp_path]), no, no, no).app()
        transport = httpx.ASGITransport(
            Guard(app, token=TOKEN, port=PORT), raise_app_exceptions=False
        )
        good = {name: str(tmp_path / f"{name}.png") for name in ("reference", "input", "out")}
        seen: dict[int, int] = {}
        async with httpx.AsyncClient(
            transport=transport,
            base_url=f"http://127.0.0.1:{PORT}",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client:
            first = await client.post("/v1/jobs", json={"kind": "preview", **good})
            id = first.json()["id"]
            await client.post(f"/v1/jobs/{id}/cancel")  # its stream of events ends by itself
            requests = Requests(seed, tmp_path, id)
            for _ in range(600):
                request = requests.next()
                answer = await client.request(**request)
                seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
                assert answer.status_code < 500, request
                assert "Traceback" not in answer.text
                if answer.status_code >= 400 and request["method"] != "HEAD":
                    assert answer.json()["error"], request
                for status in store.all():
                    if not status.state.final:
                        store.cancelled(status.id)
            assert (await client.get("/v1/hello")).status_code == 200
        assert store.problems() == []
        assert {200, 400, 404, 405} <= seen.keys(), seen

    asyncio.run(check())
