"""A whole main job through the service reaches for nothing outside this machine.

Shown twice at once: by the system calls of all its processes where strace can be used, and by
Python's own audit events, which see no more than Python's sockets.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from running import ROOT, artwork, endless_job, preview_job, running_service, save

HOOK = """
import os, sys

def heard(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        place = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments[0]
    else:
        return
    if isinstance(place, tuple):
        place = place[0]
    note = f"{event}\\t{place.decode() if isinstance(place, bytes) else place}\\n"
    with open(f"{os.environ['STITCHWORK_HEARD']}.{os.getpid()}", "a") as file:
        file.write(note)

sys.addaudithook(heard)
with open(f"{os.environ['STITCHWORK_HEARD']}.{os.getpid()}", "a"):
    pass
"""
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"|sin6_addr="([^"]+)"')


class Watch:
    """What processes reach for.

    Args:
        folder: for the notes; empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "hook").mkdir(parents=True)
        (folder / "hook" / "sitecustomize.py").write_text(HOOK)
        self.calls = strace_works()

    @property
    def under(self) -> Sequence[str]:
        if not self.calls:
            return ()
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        return ("strace", "-f", "-qq", "-e", calls, "-o", str(self._folder / "calls"))

    @property
    def variables(self) -> Mapping[str, str]:
        """Without the settings that would keep libraries from a network in tests."""
        names = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_OFFLINE")
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(self._folder / "hook"), str(ROOT)]),
            "STITCHWORK_HEARD": str(self._folder / "heard"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def processes(self) -> int:
        """How many Python processes were listened to."""
        return len(list(self._folder.glob("heard.*")))

    def outside(self) -> set[str]:
        """Addresses and names beyond this machine."""
        found = set()
        for path in self._folder.glob("heard.*"):
            found |= {line.split("\t", 1)[1] for line in path.read_text().splitlines()}
        if self.calls:
            for line in (self._folder / "calls").read_text(errors="replace").splitlines():
                found |= {each for match in _ADDRESS.findall(line) for each in match if each}
        return {each for each in found if not here(each)}


def here(place: str) -> bool:
    """Whether it is this machine: loopback, or a socket in the file system."""
    if place.startswith(("/", "\0")) or place in ("localhost", "None", ""):
        return True
    try:
        return ip_address(place).is_loopback
    except ValueError:
        return False


def strace_works() -> bool:
    program = shutil.which("strace")
    if program is None:
        return False
    return subprocess.run([program, "-qq", "-o", os.devnull, "true"], check=False).returncode == 0


REACH = (
    "import socket\n"
    "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
    "except OSError: pass\n"
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
)


def test_the_watch_sees_what_there_is_to_see(tmp_path: Path) -> None:
    """Also in a child, and where only one of the two listens."""
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {REACH!r}])"
    watch = Watch(tmp_path)
    command = [*watch.under, sys.executable, "-W", "ignore", "-c", program]
    subprocess.run(command, env=dict(watch.variables), check=True)
    assert watch.processes == 2
    assert watch.outside() == {"192.0.2.1"}
    for path in tmp_path.glob("heard.*"):
        path.unlink()
    assert watch.outside() == ({"192.0.2.1"} if watch.calls else set())


@pytest.mark.slow
def test_a_main_job_reaches_for_nothing_outside(tmp_path: Path, tiny_model: Path) -> None:
    watch = Watch(tmp_path / "watch")
    work = tmp_path / "work"
    work.mkdir()
    training = {**endless_job(work, tiny_model), "steps_one": 2, "steps_two": 1}
    training["blocks"] = "auto"
    restyling = {
        "kind": "restyle",
        "style": training["out"],
        "input": str(save(work / "bird.png", artwork(96, 80))),
        "out": str(work / "embroidered.png"),
        "base": str(tiny_model),
        "steps": 2,
    }
    with running_service(
        work, tiny_model, under=watch.under, variables=watch.variables, data=tmp_path / "data"
    ) as service:
        for job in (preview_job(work), training, restyling):
            done = service.wait(service.submit(job), seconds=500)
            assert done["state"] == "done", done
        assert service.client.post("/v1/shutdown").status_code == 202
        service.process.wait(30)
    assert (work / "embroidered.png").is_file()
    assert watch.processes >= 3  # the service and both workers
    assert watch.outside() == set()
    if not watch.calls:
        pytest.skip("strace cannot be used: shown by Python's audit events alone")
