"""The service's whole HTTP side as a target of the fuzzer, in this process and without a socket."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h11
from fuzzing import ODD_WORDS, Target, job
from PIL import Image
from uvicorn.server import ServerState

from backend.jobs import JOB_TYPES, Result, job_from_dict
from backend.service.app import Service
from backend.service.artefacts import measure
from backend.service.connections import Connection
from backend.service.queue import Queue
from backend.service.quota import Quota
from backend.service.security import Guard, Roots
from backend.service.server import web_server
from backend.service.store import JobStore

__all__ = ["Requests"]

PORT, TOKEN = 4711, "the-token"
_HEADS = re.compile(rb"^HTTP/1\.1 (\d{3}) .*?\r\n\r\n", re.MULTILINE | re.DOTALL)
_PLAIN = (b"400", b"416")


class Wire(asyncio.Transport):
    """The service's end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.protocol: asyncio.Protocol | None = None
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", PORT) if name in ("sockname", "peername") else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closing and self.protocol is not None:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


class Requests(Target):
    """HTTP on one connection: requests with a line `%%` between them.

    Each is a request line, headers, an empty line and a body; Host, token and Content-Length are
    the right ones where they are not given, and HTTP/1.1 may be left out. ROOT is the folder that
    jobs may use, JOB0 a job that is done and JOB1 one that waits.
    """

    name = "requests"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        Image.new("RGB", (4, 4)).save(folder / "done.png")
        self._runner = asyncio.Runner()
        self.statuses: list[int] = []  # of the last answers
        self._renew()

    def seeds(self) -> Mapping[str, bytes]:
        posted = {kind: b"POST /v1/jobs\n\n" + json.dumps(job(kind)).encode() for kind in JOB_TYPES}
        multipart = b'--x\r\nContent-Disposition: form-data; name="kind"\r\n\r\ntrain\r\n--x--\r\n'
        lines = (
            *("GET /v1/hello", "GET /v1/openapi.json", "GET /v1/jobs", "GET /v1/storage"),
            *("GET /v1/jobs/JOB0", "GET /v1/jobs/JOB0?since=0", "GET /v1/jobs/JOB0/files/image"),
            *("GET /v1/jobs/JOB1/events?since=1", "POST /v1/jobs/JOB1/cancel", "POST /v1/shutdown"),
            *("HEAD /v1/jobs/JOB0/files/image", "OPTIONS /v1/jobs", "GET /v1/%2e%2e/%00"),
        )
        return {
            **posted,
            **{line: f"{line}\n\n".encode() for line in lines},
            "range": b"GET /v1/jobs/JOB0/files/image\nRange: bytes=1-9,20-\n\n",
            "again": b"GET /v1/jobs/JOB0/events\nLast-Event-ID: 1\n\n",
            "join": b'POST /v1/clients/join\n\n{"pid": 1}\n%%\n'
            b'POST /v1/clients/leave\n\n{"pid": 1}',
            "key": b"POST /v1/jobs?client=7&key=a-b\n\n" + posted["preview"].partition(b"\n\n")[2],
            "multipart": b"POST /v1/jobs\nContent-Type: multipart/form-data; boundary=x\n\n"
            + multipart,
            "chunked": b"POST /v1/clients/join\nTransfer-Encoding: chunked\n\n"
            b'a\r\n{"pid": 1}\r\n0\r\n\r\n',
            "stranger": b"GET /v1/jobs\nHost: evil.example\nOrigin: null\nAuthorization: x\n\n",
            "tokens": b"GET /v1/jobs\nAuthorization: Bearer old\n\n\n%%\nDELETE /v1/jobs\n\n",
            "upgrade": b"GET /v1/jobs\nConnection: Upgrade\nUpgrade: websocket\n\n",
        }

    def words(self) -> tuple[str, ...]:
        headers = ("Content-Length: ", "Content-Type: ", "Expect: 100-continue", "Range: bytes=")
        more = ("multipart/form-data; boundary=", "\n%%\n", "JOB0", "JOB1", "ROOT/", "%00", "%ff")
        places = ("/v1/jobs", "/events", "/cancel", "/files/image", "/v1/clients/", "?since=", "&")
        job_words = (*JOB_TYPES, *JOB_TYPES["restyle"].__dataclass_fields__)
        return (*ODD_WORDS, *headers, *more, *places, "key=", "client=", '"pid": ', *job_words)

    def __call__(self, data: bytes) -> bool:
        return self._runner.run(self._all_answered(data))

    def close(self) -> None:
        self._runner.close()

    def _renew(self) -> None:
        """A fresh service with a job that is done and has a picture."""

        def no(*_: Any) -> Any:
            return False

        self._store = JobStore()
        quota = Quota(self._store, 2**60)
        app = Service(
            *(self._store, Queue(self._store, quota=quota), Roots([self.folder]), no, no, no),
            quota=quota,
        ).app()
        self._config = web_server(Guard(app, token=TOKEN, port=PORT)).config
        self._done = self._add()
        result = Result(outputs={"image": str(self.folder / "done.png")})
        self._store.start(self._done)
        self._store.done(self._done, result, measure(result))
        self._left = 64  # inputs

    def _add(self) -> str:
        paths = {name: str(self.folder / f"{name}.png") for name in ("reference", "input", "out")}
        return self._store.add(job_from_dict({"kind": "preview", **paths})).id

    async def _all_answered(self, data: bytes) -> bool:
        if not self._left:
            assert self._store.problems() == []
            self._renew()
        self._left -= 1
        for name, id in ((b"JOB0", self._done), (b"JOB1", self._add())):
            data = data.replace(name, id.encode())
        data = data.replace(b"ROOT", bytes(self.folder))
        raw = b"".join(_request(each) for each in data.split(b"\n%%\n"))
        statuses, text = await _exchange(self._config, self._store, raw)
        assert not [each for each in statuses if each >= 500], statuses
        assert b"Traceback" not in text
        for head in _HEADS.finditer(text):
            # Plain words come from uvicorn on what is no HTTP, and from Starlette on ranges.
            assert head[1] < b"400" or b"application/json" in head[0] or head[1] in _PLAIN, head[0]
        honest, _ = await _exchange(self._config, self._store, _request(b"GET /v1/hello\n\n"))
        assert honest == [200], honest
        self.statuses = statuses
        return bool(statuses) and max(statuses) < 400


def _request(given: bytes) -> bytes:
    """What goes over the wire for one request of an input."""
    head, _, body = given.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if b" HTTP/" not in first:
        first += b" HTTP/1.1"
    names = {line.partition(b":")[0].strip().lower() for line in lines}
    right = {b"host": b"127.0.0.1:%d" % PORT, b"authorization": b"Bearer " + TOKEN.encode()}
    if b"transfer-encoding" not in names:
        right[b"content-length"] = b"%d" % len(body)
    lines += [name + b": " + value for name, value in right.items() if name not in names]
    return b"\r\n".join((first, *(line.rstrip(b"\r") for line in lines), b"", b"")) + body


async def _exchange(config: Any, store: JobStore, raw: bytes) -> tuple[list[int], bytes]:
    """(statuses, all that came back) for the bytes of one connection."""
    wire, state = Wire(), ServerState()
    wire.protocol = protocol = Connection(config, state, {})
    protocol.connection_made(wire)
    protocol.data_received(raw)
    for _ in range(9):  # for a stream of events to begin
        await asyncio.sleep(0)
    for _ in range(100):
        if not state.tasks:
            break
        if protocol.conn.their_state is h11.SEND_BODY:
            wire.close()  # the rest never comes
        for status in store.all():  # a stream ends with its job
            if not status.state.final:
                store.cancelled(status.id)
        await asyncio.wait(set(state.tasks), timeout=0.05)
    assert not state.tasks, "an answer does not end"
    wire.close()
    await asyncio.sleep(0)
    sent = bytes(wire.sent)
    return [int(head[1]) for head in _HEADS.finditer(sent)], sent
