"""The service lets nobody in but the holder of its token, and no path outside its roots."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import Service, preview_job, running_service

from backend.errors import InputError
from backend.jobs import RestyleJob
from backend.service import security
from backend.service.openapi import openapi
from backend.service.security import MAX_BODY, Roots

ROUTES = (
    *(
        (method.upper(), path.replace("{id}", "1").replace("{role}", "image"))
        for path, operations in openapi()["paths"].items()
        for method in operations
    ),
    ("GET", "/nowhere"),
    ("OPTIONS", "/v1/jobs"),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("root")) as service:
        yield service
        # Whatever was tried, it still answers.
        assert service.client.get("/v1/hello").status_code == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer wrong", "bearer {}", "Basic {}"])
def test_every_route_wants_the_token(
    service: Service, method: str, path: str, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": token.format(service.token)}
    answer = httpx.request(method, service.address + path, headers=headers)
    assert answer.status_code == 401
    assert service.token not in answer.text


@pytest.mark.parametrize(
    "host",
    ["localhost:{}", "127.0.0.1", "evil.example:{}", "127.0.0.1:{}.evil.example", "[::1]:{}"],
)
def test_another_host_name_is_refused(service: Service, host: str) -> None:
    port = service.address.rpartition(":")[2]
    answer = service.client.get("/v1/hello", headers={"Host": host.format(port)})
    assert answer.status_code == 421


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "same"])
def test_web_pages_are_refused(service: Service, origin: str) -> None:
    origin = service.address if origin == "same" else origin
    answer = service.client.get("/v1/hello", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_only_loopback_is_bound(service: Service) -> None:
    port = int(service.address.rpartition(":")[2])
    other = socket.create_server(("127.0.0.2", port))  # would fail if all addresses were taken
    other.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"[" * 60_000, b'{"a":' * 10_000, b"9" * 5000],
)
def test_a_body_that_is_no_object_is_refused(service: Service, body: bytes) -> None:
    answer = service.client.post("/v1/jobs", content=body)
    assert answer.status_code == 400
    assert answer.json()["remedy"]


def test_odd_strings_and_numbers_are_refused_or_fail_cleanly(
    service: Service, tmp_path: Path
) -> None:
    good = preview_job(tmp_path)
    for change in (
        '"seed": NaN',
        '"seed": 1e400',
        f'"seed": {"9" * 400}',
        '"\\ud800": 1',
        '"out": "\\ud800"',
        '"out": "/a\\u0000b.png"',
    ):
        body = json.dumps(good)[:-1] + "," + change + "}"
        answer = service.client.post("/v1/jobs", content=body)
        assert answer.status_code == 400, change


def test_large_bodies_are_refused(service: Service) -> None:
    announced = service.client.post("/v1/jobs", content=b" " * (MAX_BODY + 1))
    assert announced.status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 4096

    streamed = service.client.post("/v1/jobs", content=chunks())
    assert streamed.status_code == 400


def test_a_huge_announced_body_is_refused_unread(service: Service) -> None:
    port = int(service.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Authorization: Bearer {service.token}\r\nContent-Length: {2 * 2**30}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(200)


def test_paths_outside_the_roots_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root, outside = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("outside")
    (root / "link").symlink_to(outside)
    (root / "picture.png").symlink_to(outside / "secret.png")
    inside = preview_job(root)
    with running_service(root) as service:
        for field, path in (
            ("input", outside / "secret.png"),
            ("input", root / "picture.png"),
            ("input", root / "link" / "secret.png"),
            ("input", root / ".." / outside.name / "secret.png"),
            ("out", outside / "out.png"),
            ("out", root / "link" / "out.png"),
            ("reference", "reference.png"),
            ("reference", "~/reference.png"),
            ("reference", ""),
            ("mask", "/etc/passwd"),
        ):
            answer = service.client.post("/v1/jobs", json={**inside, field: str(path)})
            assert answer.status_code == 400, path
        assert service.client.get("/v1/jobs").json() == []


@pytest.fixture
def job(tmp_path: Path) -> RestyleJob:
    return RestyleJob(
        style=str(tmp_path / "style"), input=str(tmp_path / "a.png"), out=str(tmp_path / "b.png")
    )


def test_a_result_may_not_take_the_place_of_a_root(tmp_path: Path, job: RestyleJob) -> None:
    with pytest.raises(InputError):
        Roots([tmp_path]).confine(dataclasses.replace(job, out=str(tmp_path)))


@pytest.mark.parametrize("base", ["../x", "/etc", "a/b/c", "relative", "a/..", "https://h/a"])
def test_a_base_outside_the_roots_is_refused(tmp_path: Path, job: RestyleJob, base: str) -> None:
    with pytest.raises(InputError):
        Roots([tmp_path]).confine(dataclasses.replace(job, base=base))


def test_a_base_by_hub_id_or_inside_the_roots_is_taken(tmp_path: Path, job: RestyleJob) -> None:
    roots = Roots([tmp_path])
    for base in ("some-org/some_model.1", str(tmp_path / "model")):
        assert roots.confine(dataclasses.replace(job, base=base)).base == base


def test_a_relative_folder_named_like_a_hub_id_is_refused(
    tmp_path: Path, job: RestyleJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        Roots([tmp_path]).confine(dataclasses.replace(job, base="org/model"))


@pytest.mark.parametrize("given", [b"Bearer secret", b"Bearer secreX", b"B", b"", "é".encode()])
def test_the_token_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, given: bytes
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return first == second

    async def app(*_: object) -> None:
        return

    monkeypatch.setattr(security.hmac, "compare_digest", compare)
    guard = security.Guard(app, token="secret", port=9)
    refusal = guard._refusal([(b"host", b"127.0.0.1:9"), (b"authorization", given)])
    assert compared == [(given, b"Bearer secret")]
    assert (refusal is None) == (given == b"Bearer secret")
