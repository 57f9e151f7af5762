"""Which build of torch this machine needs: the common one for Linux brings gigabytes for NVIDIA."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TorchBuild", "choose", "has_nvidia"]

INDEX = "https://download.pytorch.org/whl"
PINNED = re.compile(r"^torch==\S+", re.MULTILINE)
HASH = "--hash="
# The environment, and the downloads beside it while pip unpacks them.
SMALL, LARGE = 4 * 2**30, 9 * 2**30


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """A build of torch.

    Attributes:
        needed: bytes of disk that the whole installation takes with it.
        arguments: of `pip install`, for torch alone, since its index need not have the other
            packages; empty: it comes with them.
        name: what it is for, in words.
        otherwise: bytes that the installation takes if that index cannot be reached.
        means: what that means, in words; empty: nothing.
    """

    needed: int
    arguments: tuple[str, ...] = ()
    name: str = ""
    otherwise: int = 0
    means: str = ""


def has_nvidia(platform: str = sys.platform) -> bool:
    """Whether the driver of an NVIDIA GPU is installed."""
    if platform == "win32":
        windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"))
        return (windows / "System32" / "nvcuda.dll").is_file()
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def choose(lock: str, nvidia: bool, platform: str = sys.platform) -> TorchBuild:
    """The build to fetch.

    The package index's own torch is for NVIDIA on Linux, for the processor on Windows, and for
    Apple's GPUs on macOS. A lock file with hashes names the very files, so nothing else is chosen.

    Args:
        lock: text of the lock file, which pins torch.
    """
    pinned = PINNED.search(lock)
    if pinned is None or platform == "darwin":
        return TorchBuild(SMALL)
    if HASH in lock or (nvidia and platform != "win32"):
        return TorchBuild(SMALL if platform == "win32" else LARGE)
    if nvidia:
        name, folder, means = "NVIDIA GPUs", "cu130", "torch works on the processor, not on the GPU"
    elif platform == "win32":
        name, folder, means = "the processor", "cpu", ""
    else:
        name, folder, means = "the processor", "cpu", "torch came with libraries for NVIDIA GPUs"
    return TorchBuild(
        needed=LARGE if nvidia else SMALL,
        arguments=("--no-deps", "--index-url", f"{INDEX}/{folder}", pinned[0]),
        name=name,
        otherwise=SMALL if platform == "win32" else LARGE,
        means=means,
    )
