"""Memory modes: what a base model gives up to fit into a smaller GPU, and which one a job takes.

Imports no heavy library, so that doors can show what would fit. A smaller mode is slower; all
compute the same, but for the smallest's tiles in the autoencoder and 8-bit moments, which come
close. Modes are carried out by settings of the profile (`applied`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from backend.errors import ResourceError

if TYPE_CHECKING:
    from backend.models.profiles import Profile

__all__ = [
    "MODES",
    "NEEDS",
    "MemoryMode",
    "ModeNeed",
    "Place",
    "applied",
    "fitting",
    "need",
    "neutral",
    "share_of",
    "with_precision",
]

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
# Left free: the driver's own share, and what the allocator cannot use for its gaps.
MARGIN_GIB = 0.4
SDXL_BYTES = 6.9e9


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMode:
    """What a mode does.

    Attributes:
        name: as on the command line: "full", or the GPU's GB it is meant for.
        offload: as `Profile.offload`.
        gradient_checkpointing: compute the UNet's inner values twice while training.
        eight_bit: keep the optimiser's moments in 8 bits where bitsandbytes is installed.
        vae_tiling: encode and decode in overlapping parts of half a window, one row at a time.
        single: windows one at a time.
    """

    name: str
    offload: Literal["none", "phase", "network"] = "none"
    gradient_checkpointing: bool = True
    eight_bit: bool = False
    vae_tiling: bool = False
    single: bool = False


MODES = (
    MemoryMode(name="full", gradient_checkpointing=False),
    MemoryMode(name="24"),
    MemoryMode(name="12", offload="phase", single=True),
    MemoryMode(name="8", offload="network", eight_bit=True, vae_tiling=True, single=True),
)
"""From fastest to smallest."""


@dataclass(frozen=True, slots=True)
class ModeNeed:
    """Memory of the device that a mode needs, GiB, in the profile's own arithmetic on a GPU."""

    mode: str
    train: float
    restyle: float


NEEDS = {
    "starter": (ModeNeed("full", 2.0, 1.5),),
    "sdxl": (
        ModeNeed("full", 28.0, 15.0),
        ModeNeed("24", 15.0, 15.0),
        ModeNeed("12", 11.1, 10.4),
        ModeNeed("8", 7.3, 5.8),
    ),
}
"""By profile, largest first; one row: modes make no difference worth a choice.

SDXL's are computed, not measured: weights of the true layouts (UNet 4.8 GiB, a ControlNet 2.3, text
encoders 1.5), the tensors alive at the peak of a pass at 1024 px (training 0.5 GiB a row with
checkpointing, 5.3 without; decoding 1.5, in tiles 0.4), the LoRA with its moments, and half a GiB
to one and a half for what the allocator and the libraries take.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job would compute.

    Attributes:
        kind: "cuda", "mps" or "cpu".
        free_gib: memory that a job may take there now.
    """

    kind: str
    free_gib: float

    @property
    def shared(self) -> bool:
        """Whether the device has no memory of its own, so that parking networks frees none."""
        return self.kind != "cuda"


def applied(profile: Profile, mode: MemoryMode) -> Profile:
    """The profile with a mode's settings."""
    inference = profile.inference
    if mode.single:
        inference = dataclasses.replace(inference, batch=1)
    return dataclasses.replace(
        profile,
        offload=mode.offload,
        vae_tiling=mode.vae_tiling,
        training=dataclasses.replace(
            profile.training,
            gradient_checkpointing=mode.gradient_checkpointing,
            eight_bit=mode.eight_bit,
        ),
        inference=inference,
    )


def neutral(settings: dict[str, Any]) -> dict[str, Any]:
    """A profile's settings (`asdict`) without those that change no result but its memory."""
    found = {key: value for key, value in settings.items() if key not in ("offload", "vae_tiling")}
    for part, names in {
        "training": ("gradient_checkpointing",),
        "inference": ("batch",),
    }.items():
        found[part] = {key: value for key, value in found[part].items() if key not in names}
    return found


def with_precision(profile: Profile, precision: str) -> Profile:
    """The profile computing in "fp32", "fp16" or "bf16"; "auto": as it says itself."""
    if precision == "auto":
        return profile
    dtype = _DTYPES[precision]
    return dataclasses.replace(profile, cpu_dtype=dtype, gpu_dtype=dtype)


def share_of(base: str | None) -> float:
    """How large a base in a local folder or file is beside SDXL's half-precision files, at most 1.

    Others are taken for as large.
    """
    path = Path(base) if base is not None else None
    if path is None or not path.exists():
        return 1.0
    files = [path] if path.is_file() else path.rglob("*.safetensors")
    return min(1.0, sum(each.stat().st_size for each in files) / SDXL_BYTES)


def need(
    profile: Profile,
    mode: MemoryMode,
    task: str,
    kind: str,
    dtype: str = "",
    base: str | None = None,
) -> float:
    """GiB of a device that a task takes in a mode.

    Args:
        task: "train" or "restyle".
        kind: of the device, as in `Place`.
        dtype: arithmetic; the profile's own for the device if empty.
        base: in place of the profile's own.
    """
    rows = {each.mode: each for each in NEEDS[profile.name]}
    name = mode.name
    if Place(kind, 0.0).shared and mode.offload != "none":
        name = "24"  # what is parked lies in the same memory
    row = rows.get(name, NEEDS[profile.name][-1])
    gib = row.train if task == "train" else row.restyle
    dtype = dtype or (profile.cpu_dtype if kind == "cpu" else profile.gpu_dtype)
    # The table of a profile is for its own arithmetic on a GPU.
    gib *= 2.0 if dtype == "float32" and profile.gpu_dtype != "float32" else 1.0
    return gib * share_of(base) if profile.hub else gib


def fitting(
    profile: Profile,
    wanted: str,
    task: str,
    place: Place,
    dtype: str = "",
    base: str | None = None,
) -> MemoryMode | None:
    """The mode a job takes: the wanted one, or with "auto" the fastest that fits.

    Args:
        task, dtype, base: as for `need`.

    Returns:
        None: the profile as it is, which needs no mode.

    Raises:
        ResourceError: with the memory it needs and the mode that fits, if one does.
    """
    rows = [(mode, need(profile, mode, task, place.kind, dtype, base)) for mode in MODES]
    fits = [mode for mode, gib in rows if gib <= place.free_gib]
    if wanted == "auto":
        if not fits:
            raise _too_little(profile, task, place, rows)
        # A profile whose modes need no less than it does itself is best left as it is.
        return fits[0] if len(NEEDS[profile.name]) > 1 else None
    mode, gib = next(each for each in rows if each[0].name == wanted)
    if mode not in fits:
        if not fits:
            raise _too_little(profile, task, place, rows)
        raise ResourceError(
            f"{_verb(task)} with profile {profile.name} in memory mode {wanted} needs about "
            f"{gib:.1f} GiB, the {place.kind} has {place.free_gib:.1f} GiB free.",
            f"Use --memory {fits[0].name}, or leave it to --memory auto.",
        )
    return mode


def _too_little(
    profile: Profile, task: str, place: Place, rows: Sequence[tuple[MemoryMode, float]]
) -> ResourceError:
    mode, gib = min(rows, key=lambda row: row[1])
    where = "" if len(NEEDS[profile.name]) == 1 else f" even in memory mode {mode.name}"
    return ResourceError(
        f"{_verb(task)} with profile {profile.name} needs about {gib:.1f} GiB{where}, "
        f"the {place.kind} has {place.free_gib:.1f} GiB free.",
        "Close what else uses it, or use another profile or machine.",
    )


def _verb(task: str) -> str:
    return "Training" if task == "train" else "Embroidering"
