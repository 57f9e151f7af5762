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
PINNED = re.compile(r"^torch==(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
# The environment, and the downloads beside it while pip unpacks them.
SMALL, LARGE = 4 * 2**30, 9 * 2**30


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """A build of torch.

    Attributes:
        needed: bytes of disk that the whole installation takes with it.
        libraries: whether NVIDIA's libraries, which cuda.lock names, go with it.
        requirement: line of the lock file for torch alone, with its hashes, to be fetched first by
            `arguments` of `pip install`, since its index need not have the other packages; empty:
            it comes with them.
        arguments: see there.
        name: what it is for, in words.
        otherwise: the build that is taken if that index cannot be reached.
        means: what that means, in words; empty: nothing.
    """

    needed: int
    libraries: bool = False
    requirement: str = ""
    arguments: tuple[str, ...] = ()
    name: str = ""
    otherwise: TorchBuild | None = None
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
    Apple's GPUs on macOS. The lock file names the files of all builds by their hashes.

    Args:
        lock: text of the lock file, which pins torch.
    """
    pinned = PINNED.search(lock)
    if pinned is None or platform == "darwin":
        return TorchBuild(SMALL)
    usual = TorchBuild(SMALL) if platform == "win32" else TorchBuild(LARGE, libraries=True)
    if nvidia == usual.libraries:
        return usual  # what the package index has is what this machine needs
    if nvidia:
        name, folder, means = "NVIDIA GPUs", "cu130", "torch works on the processor, not on the GPU"
    else:
        name, folder, means = "the processor", "cpu", "torch came with libraries for NVIDIA GPUs"
    return TorchBuild(
        needed=LARGE if nvidia else SMALL,
        requirement=f"{pinned[0]}\n",
        arguments=("--no-deps", "--index-url", f"{INDEX}/{folder}"),
        name=name,
        otherwise=usual,
        means=means,
    )
