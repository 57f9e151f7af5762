"""Says what is installed, which device there is, and which profile can be used for what.

Imports no heavy library: versions come from package metadata, memory from the system.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backend
from backend.errors import StitchworkError
from backend.models import memory, profiles
from backend.models.designer import find
from backend.models.profiles import Profile

__all__ = ["Device", "Findings", "Need", "ProfileFinding", "examine", "memory_needs"]

GIB = 2**30
PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
    "pillow",
    "scipy",
    "opencv-python-headless",
    "starlette",
    "uvicorn",
)
# What is made use of where it is there, and for what.
OPTIONAL = {
    "bitsandbytes": "8-bit optimiser of --memory 8",
    "onnxruntime": "tags for a design that Stable Diffusion 3 draws",
}
# A profile that needs more in its smallest mode would train for days on a CPU.
_GPU_ONLY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where models are computed.

    Attributes:
        kind: "cuda", "mps" or "cpu".
        memory_gib: of the device; a CPU's is the machine's.
        note: why nothing better is used, if there might be.
    """

    kind: str
    name: str
    memory_gib: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory a kind of job needs, GiB, on the device that computes.

    Attributes:
        mode: the memory mode, see `backend.models.memory`; "" where there is no choice.
    """

    job: str
    memory_gib: float
    mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFinding:
    """Whether a profile can be used, and if not, why and what helps."""

    name: str
    title: str
    usable: bool
    reason: str
    needs: list[Need]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that `doctor` found; packages, and optional ones, map to versions, "" where missing."""

    version: str
    python: str
    system: str
    cores: int
    memory_gib: float
    packages: dict[str, str]
    optional: dict[str, str]
    device: Device
    profiles: list[ProfileFinding]

    @property
    def usable(self) -> bool:
        """Whether at least one profile can be used."""
        return any(each.usable for each in self.profiles)

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "usable": self.usable}

    def to_text(self) -> str:
        """For people, one fact a line."""
        lines = [
            f"Stitchwork backend {self.version}, Python {self.python}, {self.system}",
            f"machine   {self.cores} cores, {self.memory_gib:.1f} GiB memory",
            f"device    {self.device.name} ({self.device.kind}, {self.device.memory_gib:.1f} GiB)",
        ]
        if self.device.note:
            lines.append(f"          {self.device.note}")
        have = [f"{name} {version}" for name, version in self.packages.items() if version]
        missing = [name for name, version in self.packages.items() if not version]
        lines.append(f"packages  {', '.join(have)}")
        if missing:
            lines.append(f"missing   {', '.join(missing)}")
        for name, version in self.optional.items():
            lines.append(f"optional  {name} {version or 'not installed'}: {OPTIONAL[name]}")
        for each in self.profiles:
            lines.append(f"profile   {each.name}: {each.title}")
            lines.append(f"          {'usable' if each.usable else 'not usable'}: {each.reason}")
            for mode in dict.fromkeys(need.mode for need in each.needs):
                needs = ", ".join(
                    f"{need.job} {need.memory_gib:.1f} GiB"
                    for need in each.needs
                    if need.mode == mode
                )
                lines.append(f"          memory{f' {mode}' if mode else ''}: {needs}")
        return "\n".join(lines)


def examine() -> Findings:
    """Look at this machine and installation."""
    packages = {name: _version(name) for name in PACKAGES}
    main = _memory_gib()
    device = _device(packages["torch"], main)
    missing = [name for name, version in packages.items() if not version]
    return Findings(
        version=backend.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        memory_gib=main,
        packages=packages,
        optional={name: _version(name) for name in OPTIONAL},
        device=device,
        profiles=[_profile(profiles.get(name), device, missing) for name in profiles.names()],
    )


def memory_needs(profile: Profile) -> list[Need]:
    """Memory each kind of job needs with a profile; restyling without its image's own share."""
    rows = memory.NEEDS[profile.name]
    return [
        need
        for row in rows
        for mode in ["" if len(rows) == 1 else row.mode]
        for need in (Need("train", row.train, mode), Need("restyle", row.restyle, mode))
    ] + [Need("preview", 0.5)]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _device(torch_version: str, memory: float) -> Device:
    cpu = Device(kind="cpu", name=platform.processor() or "CPU", memory_gib=memory)
    if not torch_version:
        return dataclasses.replace(cpu, note="torch is not installed")
    if torch_version.endswith("+cpu"):
        # Importing torch takes seconds; its name says already that it knows no GPU.
        note = "a GPU is present, but torch is a CPU build" if _nvidia_names() else ""
        return dataclasses.replace(cpu, note=note)
    try:
        import torch
    except ImportError as error:
        return dataclasses.replace(cpu, note=f"torch cannot be loaded ({error}): install it again")
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Device(kind="cuda", name=found.name, memory_gib=found.total_memory / GIB)
    if torch.backends.mps.is_available():
        return Device(kind="mps", name="Apple GPU", memory_gib=memory)
    note = "a GPU is present, but torch cannot use it: check its driver" if _nvidia_names() else ""
    return dataclasses.replace(cpu, note=note)


def _nvidia_names() -> str:
    """Names of NVIDIA GPUs as their driver tells them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        answer = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _memory_gib() -> float:
    """Main memory, GiB; what a container's limit leaves of it."""
    if sys.platform == "win32":
        return _windows_memory() / GIB
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(limit.read_text()))
    return total / GIB


def _windows_memory() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "page_total")),
            *((name, ctypes.c_ulonglong) for name in ("page_free", "virtual", "virtual_free")),
            ("extended", ctypes.c_ulonglong),
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.total)


def _profile(profile: Profile, device: Device, missing: list[str]) -> ProfileFinding:
    try:
        reason = _usability(profile, device, missing)
        usable = True
    except StitchworkError as obstacle:
        reason, usable = str(obstacle), False
    return ProfileFinding(
        name=profile.name,
        title=profile.title,
        usable=usable,
        reason=reason,
        needs=memory_needs(profile),
    )


def _usability(profile: Profile, device: Device, missing: list[str]) -> str:
    """How a profile can be used; raises StitchworkError with why it cannot."""
    if missing:
        raise StitchworkError(f"packages are missing: {', '.join(missing)}.", "Install them.")
    least = min(row.train for row in memory.NEEDS[profile.name])
    if device.kind == "cpu" and least > _GPU_ONLY:
        raise StitchworkError(
            "it needs a GPU; on a CPU training would take days.", "Use a machine with a GPU."
        )
    place = memory.Place(device.kind, device.memory_gib)
    mode = memory.fitting(profile, "auto", "train", place)
    how = "" if mode is None else f" It trains here with --memory {mode.name}."
    if profile.folder is not None:
        if not (profile.folder / "unet" / "config.json").is_file():
            raise StitchworkError(
                f"its weights are not in {profile.folder}.", "Install Stitchwork again."
            )
        return f"its weights are here.{how}"
    _, designer = find(profile)
    return f"{_hub_state(profile)}{how}{f' Note: {designer}.' if designer else ''}"


def _hub_state(profile: Profile) -> str:
    from huggingface_hub import try_to_load_from_cache

    assert profile.hub is not None
    wanted = (
        (profile.hub.base, "unet/config.json"),
        (profile.hub.canny, "config.json"),
        (profile.hub.tile, "config.json"),
    )
    absent = [
        name for name, file in wanted if not isinstance(try_to_load_from_cache(name, file), str)
    ]
    if not absent:
        return "its weights are in the hub's cache."
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise StitchworkError(
            f"not in the hub's cache: {', '.join(absent)}.",
            "Unset HF_HUB_OFFLINE to download them, or give a folder with --base.",
        )
    return f"its first job downloads {', '.join(absent)}."
