"""A batch on Ray: real actors on the tiny model, one of them killed, and its driver killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from manifests import listed
from running import ROOT, alive, artwork, embroidery, environment, save, wait_until

ray = pytest.importorskip("ray", reason="Ray is an optional extra: pip install '.[ray]'")

MARK = "STITCHWORK_TEST_BATCH"
SECONDS = 600  # for anything to happen
Content = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch_ray")


@pytest.fixture(scope="module")
def manifest(folder: Path, tiny_model: Path) -> Path:
    """Twelve rows, of artwork and of words, in two styles that are still to be trained."""
    save(folder / "photo.png", embroidery())
    save(folder / "other.png", embroidery(200))
    for number in range(5):
        save(folder / f"art{number}.png", artwork(72 + 8 * number, 80))
    short = {"base": str(tiny_model), "steps_one": 2, "steps_two": 0, "blocks": "paper"}
    return listed(
        folder,
        {
            "inputs": [
                {"input": f"art{number}.png", "steps": 6, "start": "design"} for number in range(5)
            ],
            "prompts": [{"prompt": "a red heart", "steps": 2}],
            "styles": [{"reference": name, **short} for name in ("photo.png", "other.png")],
        },
    )


@pytest.fixture(scope="module")
def wanted(folder: Path, manifest: Path) -> Content:
    """What the local engine makes of it."""
    with batch(manifest, folder / "local", "--engine", "local", "--workers", "2") as process:
        said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0, said
    return content(folder / "local")


@contextmanager
def batch(
    manifest: Path, out: Path, *options: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "backend", "batch", str(manifest), "--out", str(out)]
    settings = {name: value for name, value in environment().items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**settings, MARK: str(out), **variables},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def record(out: Path) -> Content:
    path = out / "results.json"
    found: Content = json.loads(path.read_text()) if path.exists() else {"counts": {}}
    return found


def done(out: Path) -> int:
    return int(record(out)["counts"].get("done", 0))


def content(out: Path) -> Content:
    """All of a record but the times and where things lie, and whether every file is as it says."""
    data = record(out)
    files = {each.relative_to(out).as_posix() for each in (out / "pictures").iterdir()}
    assert files == {each["picture"] for each in data["rows"]}  # and nothing half-written
    return {
        "rows": [
            {
                "row": each["row"],
                "key": each["key"],
                "picture": each["picture"],
                "sha256": data["pictures"][each["key"]]["sha256"],
                "error": each["error"],
            }
            for each in data["rows"]
        ],
        "styles": {key: (each["path"], each["hash"]) for key, each in data["styles"].items()},
    }


def belonging(out: Path) -> dict[int, str]:
    """Processes started for a batch, those of its cluster among them, and their names (Linux)."""
    mark, found = f"{MARK}={out}\0".encode(), {}
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark in (each / "environ").read_bytes() and alive(int(each.name)):
                found[int(each.name)] = (each / "cmdline").read_text().partition("\0")[0]
    return found


def at_work(out: Path) -> list[int]:
    """Actors in the middle of a job: Ray names its processes by what they do."""
    return [pid for pid, name in belonging(out).items() if name.startswith("ray::Actor.run")]


def test_a_killed_actor_s_row_is_done_again_and_all_is_as_the_local_engine_makes_it(
    folder: Path, manifest: Path, wanted: Content
) -> None:
    out = folder / "ray"
    with batch(manifest, out, "--engine", "ray", "--workers", "3") as process:
        wait_until(lambda: done(out) >= 3 and len(at_work(out)) == 3, SECONDS)
        killed = at_work(out)[0]
        os.kill(killed, signal.SIGKILL)
        listening = ports(belonging(out))
        shown, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert "12 made, 0 were there, 0 failed" in shown
    assert len(shown.splitlines()) == 2  # what Ray says is not among the results
    lines = [line for line in said.splitlines() if "/14 " in line]
    assert sum("put back, its worker ended" in line for line in lines) == 1
    finished = [line.partition(" ")[2].partition(": done")[0] for line in lines if ": done" in line]
    assert Counter(finished) == dict.fromkeys(
        [
            *(f"art{number} in {name}" for number in range(5) for name in ("photo", "other")),
            *("a_red_heart in photo", "a_red_heart in other"),
            *("training photo", "training other"),
        ],
        1,
    )
    assert record(out)["counts"] == {"done": 12}
    assert content(out) == wanted
    assert listening
    assert {address for address, _ in listening} == {"127.0.0.1"}
    wait_until(lambda: not belonging(out), 30)
    assert not list(Path("/tmp").glob(f"stitchwork-ray-{process.pid}-*"))


def test_a_batch_whose_driver_is_killed_goes_on_in_the_same_cluster(
    folder: Path, manifest: Path, wanted: Content
) -> None:
    out = folder / "again"
    same = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
    }
    with cluster(folder, **same) as address:
        options = ("--engine", "ray", "--workers", "3")
        with batch(manifest, out, *options, RAY_ADDRESS=address, **same) as process:
            wait_until(lambda: done(out) >= 2, SECONDS)
            assert at_work(folder)
            process.send_signal(signal.SIGKILL)
            process.wait()
        made = record(out)
        recorded = {each["row"] for each in made["rows"] if each["state"] == "done"}
        assert 2 <= len(recorded) < 12
        wait_until(lambda: not at_work(folder), 60)  # the cluster lets go of its actors
        with batch(manifest, out, *options, RAY_ADDRESS=address, **same) as process:
            shown, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
        assert f"{12 - len(recorded)} made, {len(recorded)} were there, 0 failed" in shown
        rows = {each["row"]: each["state"] for each in record(out)["rows"]}
        assert {row for row, state in rows.items() if state == "already there"} == recorded
        assert content(out) == wanted
        with batch(manifest, out, *options, RAY_ADDRESS=address, **same) as process:
            assert "0 made, 12 were there" in process.communicate(timeout=SECONDS)[0]


@contextmanager
def cluster(folder: Path, **variables: str) -> Iterator[str]:
    """A running cluster with room for three workers: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    short = Path("/tmp") / f"stitchwork-test-{os.getpid()}"  # names of sockets must be short
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *(f"--port={port}", "--num-cpus=3", "--num-gpus=0", f"--temp-dir={short}"),
            *("--include-dashboard=false", "--disable-usage-stats"),
            f"--object-store-memory={80 * 2**20}",
        ],
        stdout=subprocess.DEVNULL,
        env={**environment(), **variables, MARK: str(folder)},
    )
    try:
        wait_until(lambda: answers(port), 120)
        yield f"127.0.0.1:{port}"
        assert process.poll() is None, "the cluster should outlast its batches"
    finally:
        process.terminate()
        process.wait(60)
        with suppress(AssertionError):
            wait_until(lambda: not belonging(folder), 30)
        for pid in belonging(folder):
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["rm", "-rf", str(short)], check=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports(processes: dict[int, str]) -> set[tuple[str, int]]:
    """Addresses and ports at which processes listen (Linux, IPv4 and IPv6)."""
    inodes = set()
    for pid in processes:
        with suppress(OSError):
            for each in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    inodes.add(os.readlink(each).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                words = bytes.fromhex(address)
                little = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                family = socket.AF_INET if len(little) == 4 else socket.AF_INET6
                text = socket.inet_ntop(family, little).removeprefix("::ffff:")
                found.add((text, int(port, 16)))
    return found
