"""Requests that no honest client sends: refused in words or cut off, and the service answers on."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Service, preview_job, running_service

from backend.service import answers
from backend.service.app import Service as Routes
from backend.service.queue import Queue
from backend.service.security import Roots
from backend.service.store import JobStore


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[Service]:
    with running_service(root) as service:
        yield service


@pytest.fixture(autouse=True)
def answers_on(service: Service) -> Iterator[None]:
    yield
    assert service.client.get("/v1/hello").status_code == 200


# HOST and TOKEN stand for the right ones.
RAW = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello over TLS\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/0.9": b"GET /v1/hello\r\n\r\n",
    "no host": b"GET /v1/hello HTTP/1.1\r\nAuthorization: TOKEN\r\n\r\n",
    "no host in 1.0": b"GET /v1/hello HTTP/1.0\r\nAuthorization: TOKEN\r\n\r\n",
    "two hosts": b"GET /v1/hello HTTP/1.1\r\nHost: HOST\r\nHost: x\r\nAuthorization: TOKEN\r\n\r\n",
    "host in the line": b"GET http://evil.example/v1/hello HTTP/1.1\r\nHost: evil.example\r\n"
    b"Authorization: TOKEN\r\n\r\n",
    "two tokens": b"GET /v1/hello HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Authorization: Bearer x\r\n\r\n",
    "two lengths": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length and chunks": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "negative length": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Content-Length: -1\r\n\r\n",
    "endless length": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "endless chunk": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n{",
    "broken chunk": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n",
    "unknown coding": b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Transfer-Encoding: gzip\r\n\r\n",
    "long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "many headers": b"GET /v1/hello HTTP/1.1\r\nHost: HOST\r\n"
    + b"".join(b"X-%d: x\r\n" % n for n in range(20_000))
    + b"\r\n",
    "folded header": b"GET /v1/hello HTTP/1.1\r\nHost: HOST\r\nOrigin:\r\n http://evil.example\r\n"
    b"Authorization: TOKEN\r\n\r\n",
    "nul in a header": b"GET /v1/hello HTTP/1.1\r\nHost: HOST\0\r\nAuthorization: TOKEN\r\n\r\n",
    "nul in the line": b"GET /v1/\0hello HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n\r\n",
    "proxy": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n\r\n",
    "websocket": b"GET /v1/jobs/1/events HTTP/1.1\r\nHost: HOST\r\nAuthorization: TOKEN\r\n"
    b"Origin: http://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "cookie for a token": b"GET /v1/hello HTTP/1.1\r\nHost: HOST\r\nCookie: token=TOKEN\r\n\r\n",
    "token in the query": b"GET /v1/hello?token=TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "forwarded": b"GET /v1/hello HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: HOST\r\n"
    b"X-Forwarded-For: 127.0.0.1\r\nAuthorization: TOKEN\r\n\r\n",
}


@pytest.mark.parametrize("case", RAW)
def test_what_is_no_honest_request_is_refused_or_cut_off(service: Service, case: str) -> None:
    host = service.address.removeprefix("http://")
    data = RAW[case].replace(b"HOST", host.encode())
    data = data.replace(b"TOKEN", f"Bearer {service.token}".encode())
    answer = b""
    with socket.create_connection(("127.0.0.1", int(host.partition(":")[2])), timeout=5) as line:
        try:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            while part := line.recv(65536):
                answer += part
        except OSError as error:  # cut off with data that nobody had read, or before
            if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                raise
    assert answer[:11] == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:300]
    assert service.token.encode() not in answer


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/../v1/jobs/1", "/v1/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/etc/passwd"),
        *("/v1/jobs/..%2f..%2fetc%2fpasswd", "/v1/jobs/%00", "/v1/jobs/' OR 1=1 --", "/v1/jobs/*"),
        *("/v1/jobs/1/files/..%2f..%2fetc%2fpasswd", "/v1/jobs/1/files/%2fetc%2fpasswd"),
        *("/V1/JOBS/1", "/v1/jobs/1;x", "/v1\\jobs", "/v1/jobs/" + "a" * 9000, "/v1/%ff%fe"),
    ],
)
def test_paths_lead_nowhere(service: Service, path: str) -> None:
    answer = service.client.get(service.address + path)
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_files_of_a_job_are_its_results_only(service: Service, root: Path) -> None:
    id = service.submit(preview_job(root))
    assert service.wait(id)["state"] == "done"
    image = root / "out.png"
    assert service.client.get(f"/v1/jobs/{id}/files/image").content == image.read_bytes()
    for role in ("style", "..%2fout.png", str(root / "art.png").replace("/", "%2f"), "%00", "."):
        assert service.client.get(f"/v1/jobs/{id}/files/{role}").status_code == 404, role
    # The result has been swapped for a way out since.
    image.unlink()
    image.symlink_to("/etc/passwd")
    answer = service.client.get(f"/v1/jobs/{id}/files/image")
    assert answer.status_code == 400
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x"}, b'--x\r\n\r\n{"kind": 1}\r\n--x--'),
        ({"Content-Type": "multipart/form-data"}, b"--" * 20_000),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"kind=train&out=/etc/passwd"),
        ({"Content-Type": "application/xml"}, b'<!DOCTYPE a [<!ENTITY b SYSTEM "/etc/passwd">]>'),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000)),
        ({"Content-Type": "application/x-python-serialize"}, b"\x80\x04cos\nsystem\n."),
    ],
    ids=["multipart", "multipart without end", "form", "xml", "gzip bomb", "pickle"],
)
def test_bodies_of_other_kinds_are_not_read(
    service: Service, headers: dict[str, str], body: bytes
) -> None:
    answer = service.client.post("/v1/jobs", content=body, headers=headers)
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]


def test_a_token_of_an_earlier_service_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_service(tmp_path, data=data) as earlier:
        pass
    with running_service(tmp_path, data=data) as later:
        old = {"Authorization": f"Bearer {earlier.token}"}
        assert later.client.get("/v1/jobs", headers=old).status_code == 401
        assert later.client.get("/v1/jobs").status_code == 200


def test_a_body_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.05)

    def no(*_: Any) -> Any:
        return False

    async def drips() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def check() -> None:
        store = JobStore()
        app = Routes(store, Queue(store), Roots([tmp_path]), no, no, no).app()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post("/v1/jobs", content=drips())
            assert answer.status_code == 400
            assert "too slowly" in answer.json()["error"]

    asyncio.run(check())


def bomb(side: int, rows: bytes) -> bytes:
    """A PNG that announces side × side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize(
    "picture",
    [
        bomb(60_000, b"\0" * 10_000_000),
        bomb(4000, b"\0" * 100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"",
    ],
    ids=["bomb", "fewer than announced", "postscript", "svg", "empty"],
)
def test_a_hostile_picture_fails_its_job_only(service: Service, root: Path, picture: bytes) -> None:
    path = root / "hostile.png"
    path.write_bytes(picture)
    job = preview_job(root, "hostile_out.png") | {"input": str(path)}
    answer = service.client.post("/v1/jobs", content=json.dumps(job))
    status = service.wait(answer.json()["id"])
    assert status["state"] == "failed"
    assert "hostile.png" in status["error"]
    assert status["remedy"]
    assert not (root / "hostile_out.png").exists()
