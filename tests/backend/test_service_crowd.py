"""Whoever opens connections and says nothing shuts nobody out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crowding import crowd
from fuzz_requests import Wire
from running import running_service
from uvicorn.server import ServerState

from backend.service import connections
from backend.service.connections import Connection
from backend.service.server import web_server

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_hundreds_of_strangers_leave_room_for_a_user(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        found = crowd(service, 400)
    assert found.asked == 21
    assert not found.bad, found


class Line:
    """Connections to one server whose application answers when it is told to."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self._state = ServerState()
        self._config = web_server(self).config

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def open(self, data: bytes = b"") -> Wire:
        wire = Wire()
        wire.protocol = connection = Connection(self._config, self._state, {})
        connection.connection_made(wire)
        if data:
            connection.data_received(data)
        return wire

    async def close(self, *wires: Wire) -> None:
        self.answer.set()
        for each in wires:
            each.close()
        while self._state.tasks:
            await asyncio.wait(set(self._state.tasks))


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)


def run(check: Callable[[Line], Any]) -> None:
    async def inside() -> None:
        await check(Line())

    asyncio.run(inside())


@pytest.mark.usefixtures("crowded")
def test_the_one_that_has_waited_longest_makes_room() -> None:
    async def check(line: Line) -> None:
        busy = line.open(HEAD)
        waiting = [line.open(each) for each in (b"", HEAD[:9], HEAD, b"")]
        assert [each.is_closing() for each in (busy, *waiting)] == [False, True, True, False, False]
        await line.close(busy, *waiting)
        assert b" 204 " in busy.sent

    run(check)


@pytest.mark.usefixtures("crowded")
def test_where_all_are_busy_a_new_one_is_not_taken() -> None:
    async def check(line: Line) -> None:
        busy = [line.open(HEAD) for _ in range(3)]
        assert line.open(HEAD).is_closing()
        assert not any(each.is_closing() for each in busy)
        await line.close(*busy)

    run(check)


def test_a_head_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)

    async def check(line: Line) -> None:
        silent, slow, busy = line.open(), line.open(HEAD[:-2]), line.open(HEAD)
        while not (silent.is_closing() and slow.is_closing()):
            await asyncio.sleep(0.01)
        assert not busy.is_closing()
        await line.close(busy)

    run(check)
