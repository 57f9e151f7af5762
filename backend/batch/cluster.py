"""A Ray cluster to work on: the one at RAY_ADDRESS, or one of this machine's own for a while.

Own clusters listen on loopback only and ask for a token, send no usage statistics, have no
dashboard, and leave nothing behind. Nothing here asks the network for anything.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.errors import ResourceError
from backend.service.lifetime import process_exists

__all__ = ["Cluster", "share"]

OBJECT_STORE = 80 * 2**20  # messages are all that goes through it; Ray's own least is 75 MiB
ANSWER_SECONDS = 10.0
_PREFIX = "stitchwork-ray-"
_OWN = {
    "RAY_AUTH_MODE": "token",
    # Ray's name for it; off, everything of a cluster listens on loopback alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def share(processors: Sequence[float], count: int) -> int:
    """Processors that each of `count` workers can have, on machines with so many each; at least 1.

    A worker runs on one machine, so shares must fit there whole.
    """
    for size in range(int(max(processors, default=1)), 1, -1):
        if sum(int(each) // size for each in processors) >= count:
            return size
    return 1


class Cluster:
    """A connection to a cluster, until it is closed.

    Args:
        count: of workers wanted; one a GPU, or one a machine without GPUs, if 0.

    Attributes:
        count: of workers that there will be.
        needs: what each worker asks of its machine, as Ray's options.

    Raises:
        ResourceError: there is no cluster at RAY_ADDRESS, or none could be started.
    """

    def __init__(self, count: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._undo = contextlib.ExitStack()
        address = os.environ.get("RAY_ADDRESS", "").strip()
        _check_address(address)
        settings: dict[str, Any] = {"address": address, "log_to_driver": False}
        if address in ("", "local"):
            settings |= self._own(count)
        import ray

        self._undo.callback(ray.shutdown)
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(logging_level="ERROR", **settings)
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            self.close()
            first = str(error).strip().partition("\n")[0]
            place = f"RAY_ADDRESS {address}" if address else "A cluster of this machine's own"
            raise ResourceError(
                f"{place} cannot be reached or started ({first}).",
                "Check that it runs with the same versions of Ray and Python, or unset "
                "RAY_ADDRESS.",
            ) from error
        finally:
            # Ray puts its own in place, which knows nothing of our exit codes.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
        machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        gpus = int(sum(each.get("GPU", 0) for each in machines))
        self.count = count or gpus or len(machines)
        processors = [each.get("CPU", 0) for each in machines]
        self.needs: dict[str, float] = (
            {"num_gpus": 1, "num_cpus": 1}
            if gpus
            else {"num_gpus": 0, "num_cpus": share(processors, self.count)}
        )
        # Ray says on standard output when a worker dies; that is for our own results.
        self._undo.enter_context(contextlib.redirect_stdout(sys.stderr))

    def close(self) -> None:
        """Disconnect; an own cluster ends, and its files go."""
        self._undo.close()

    def _own(self, count: int) -> dict[str, Any]:
        """Settings of a cluster that is started here."""
        for name, value in _OWN.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Not the system's own choice: names of sockets may have 107 characters, or 103.
        place = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())
        _remove_stale(place)
        folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)
        self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
        return {
            "address": "local",
            "num_cpus": max(os.cpu_count() or 1, count),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
            "_temp_dir": folder,
        }


def _check_address(address: str) -> None:
    """Refuse in a moment what Ray would try for minutes."""
    if address in ("", "local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ResourceError(
            f"RAY_ADDRESS: {address} is no host:port.",
            "Start this on a machine of the cluster, and give the address of its head.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"RAY_ADDRESS: nothing answers at {address} ({error}).",
            "Start the cluster (`ray start --head` there), or unset RAY_ADDRESS.",
        ) from error


def _remove_stale(place: Path) -> None:
    """Remove the files of own clusters whose driver was killed; the clusters ended with it."""
    if os.name != "posix":
        return
    for folder in place.glob(f"{_PREFIX}*-*"):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-\w+", folder.name)
        if found and folder.stat().st_uid == os.getuid() and not process_exists(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)
