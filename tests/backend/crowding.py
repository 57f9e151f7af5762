"""Crowds the service with connections from strangers, while somebody with the token uses it.

    python tests/backend/crowding.py [--connections N]

They say nothing, send half a request's head, announce two gigabytes and drip, or ask without the
token; as many stay open as the system lets this program have.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from running import Service, running_service

EVERY = 20  # connections, somebody asks
SLOWEST = 5.0  # seconds for an answer


@dataclass
class Crowd:
    """What came of it."""

    connections: int
    held: int  # open at once, on the strangers' side
    asked: int = 0
    unanswered: int = 0
    slowest: float = 0.0
    grown: float = 0.0  # MiB of the service's memory

    @property
    def bad(self) -> bool:
        return bool(self.unanswered or self.slowest > SLOWEST or self.grown > 64.0)


def crowd(service: Service, connections: int) -> Crowd:
    """Open connections and leave them, and ask in between."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = Crowd(connections, min(connections, hard - 200))
    address = service.address.removeprefix("http://").split(":")
    place = (address[0], int(address[1]))
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {':'.join(address)}\r\n".encode()
    openings = (b"", head, head + b"Content-Length: 2147483648\r\n\r\n{", head + b"\r\n")
    opened: deque[socket.socket] = deque()
    before = resident(service.process.pid)
    try:
        for number in range(connections):
            if len(opened) == found.held:
                opened.popleft().close()
            opened.append(socket.create_connection(place, timeout=SLOWEST))
            with suppress(OSError):  # the service need not keep it
                opened[-1].sendall(openings[number % len(openings)])
            if number % EVERY == 0:
                ask(service, found)
                for each in list(opened)[-EVERY:]:
                    with suppress(OSError):
                        each.sendall(b"x")
        ask(service, found)
    finally:
        for each in opened:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found.grown = resident(service.process.pid) - before
    return found


def ask(service: Service, found: Crowd) -> None:
    """An honest request on a connection of its own."""
    found.asked += 1
    began = time.monotonic()
    try:
        answer = httpx.get(
            f"{service.address}/v1/jobs",
            headers={"Authorization": f"Bearer {service.token}"},
            timeout=2 * SLOWEST,
        )
        found.unanswered += answer.status_code != 200
    except httpx.HTTPError:
        found.unanswered += 1
    found.slowest = max(found.slowest, time.monotonic() - began)


def resident(pid: int) -> float:
    """MiB of memory that a process has (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", help=argparse.SUPPRESS)  # nothing here is by chance
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        found = crowd(service, options.connections)
    print(
        f"{found.connections} connections, {found.held} of them held open: {found.asked} honest "
        f"requests, {found.unanswered} unanswered, the slowest answer after "
        f"{found.slowest:.2f} s; the service's memory grew by {found.grown:.1f} MiB"
    )
    return int(found.bad)


if __name__ == "__main__":
    sys.exit(main())
