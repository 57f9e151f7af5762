"""What a trained style is on disk: a folder that diffusers, people and this program can read.

style.json (schema 3) · pytorch_lora_weights.safetensors · reference.png · design.png · mask.png
(1 on the motif, 0 on cloth) · preview.png · blocks.png. The first three pictures have one size.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from backend.errors import InputError, ResourceError, StyleError
from backend.imaging.files import read_mask, read_rgba, write_png
from backend.jobs import TASKS

if TYPE_CHECKING:
    # Seconds to import, and no need of them to list styles.
    import torch

    from backend.models.loading import Models

__all__ = [
    "DESCRIPTION",
    "DESIGNED",
    "SCHEMA",
    "WEIGHTS",
    "BaseModel",
    "Prompts",
    "Style",
    "is_style",
    "read_description",
    "replace_folder",
    "write_description",
]

SCHEMA = 3
DESIGNED = {
    "given": "given with the photo",
    "designer": "drawn by Stable Diffusion 3",
    "base": "drawn by the base model",
    "flattened": "the photo, flattened",
    "smoothed": "the picture, smoothed",
    "lines": "the picture's own lines",
    "unknown": "not recorded",
}
"""Where the design of a style's pair came from, and that in words."""
WEIGHTS = "pytorch_lora_weights.safetensors"
DESCRIPTION = "style.json"
# What style.json holds: a type; [type] for a list; {...: type} for any keys, else these keys.
_FIELDS: dict[str, Any] = {
    "name": str,
    "created": str,
    "task": str,
    "designed": str,
    "profile": str,
    "base": {"id": str, "hash": str},
    "blocks": [str],
    "block_weights": {...: float},
    "prompts": {"design": str, "embroidery": str, "negative": str, "trigger": str},
    "steps": {...: int},
    "seed": int,
    "rank": int,
    "kind": str,
    "thread_width_px": float,
    "licence_note": str,
    "measures": {...: float},
    "seconds": {...: float},
    "versions": {...: str},
}
_OPTIONAL = {"block_weights", "measures", "seconds", "versions"}
# Fields that are files of their own.
_FILES = ("weights", "reference", "design", "mask", "preview", "plot")
_RETRAIN = "Train the style again, or choose another one."


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base a style was trained on: its name and `Models.fingerprint()`."""

    id: str
    hash: str


@dataclass(frozen=True, slots=True)
class Prompts:
    """The words a style was trained with."""

    design: str
    embroidery: str
    negative: str
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A trained style.

    Attributes:
        weights: LoRA tensors of the style blocks, names as diffusers stores them ("unet.…").
        reference, design: the pair at training scale, (H, W, 3) float32 in [0, 1].
        mask: (H, W), 1 on the motif and 0 on bare cloth.
        preview: the reference's own design embroidered in the style, (H, W, 3), if made.
        plot: similarity of the blocks (paper, section 3.1), (H, W, 3), if measured.
        task: one of `backend.jobs.TASKS`; another than embroidery has its own design, say a
            sketch, and its own "embroidery", say the coloured picture.
        designed: where the design came from, a key of `DESIGNED`.
        steps: {"one": …, "two": …}.
        kind: "flat" or "relief".
        block_weights: scale of each block's LoRA, already in `weights`; empty: 1 for all.
        thread_width_px: as measured in `reference`; 0 if none was found.
    """

    name: str
    created: str
    task: str = TASKS[0]
    designed: str = "unknown"
    profile: str
    base: BaseModel
    blocks: tuple[str, ...]
    prompts: Prompts
    steps: Mapping[str, int]
    seed: int
    rank: int
    kind: str
    thread_width_px: float
    licence_note: str
    weights: Mapping[str, torch.Tensor]
    reference: NDArray[np.float32]
    design: NDArray[np.float32]
    mask: NDArray[np.float32]
    preview: NDArray[np.float32] | None = None
    plot: NDArray[np.float32] | None = None
    block_weights: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a style.

        Raises:
            StyleError: the folder is missing, damaged, or of a newer schema.
        """
        folder = Path(folder)
        data = read_description(folder)
        try:
            return cls(
                weights=_read_weights(folder / WEIGHTS),
                reference=_read_picture(folder / "reference.png"),
                design=_read_picture(folder / "design.png"),
                mask=read_mask(folder / "mask.png"),
                preview=_read_optional(folder / "preview.png"),
                plot=_read_optional(folder / "blocks.png"),
                base=BaseModel(**data.pop("base")),
                prompts=Prompts(**data.pop("prompts")),
                blocks=tuple(data.pop("blocks")),
                **data,
            )
        except InputError as error:
            raise StyleError(f"{error.message} The style is damaged.", _RETRAIN) from error

    def save(self, folder: str | Path, before: Callable[[Path], None] = lambda _: None) -> None:
        """Write the style aside and put it in place in one step; an older style is replaced.

        Args:
            before: called with the whole style's place aside, before it is put in place.

        Raises:
            StyleError: the folder holds something that is not a style.
            ResourceError: it cannot be written.
        """
        folder = Path(folder)
        check_target(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError as error:
            raise _cannot_write(folder, error) from error
        try:
            self._write(aside)
            before(aside)
            replace_folder(aside, folder)
        except (OSError, SafetensorError) as error:
            raise _cannot_write(folder, error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        import safetensors.torch

        os.chmod(folder, 0o755)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.weights.items()}
        safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        os.chmod(folder / WEIGHTS, 0o644)
        pictures = {
            "reference": self.reference,
            "design": self.design,
            "mask": self.mask,
            "preview": self.preview,
            "blocks": self.plot,
        }
        for name, picture in pictures.items():
            if picture is not None:
                write_png(folder / f"{name}.png", picture)
        data: dict[str, Any] = {}
        for each in dataclasses.fields(self):
            if each.name in _FILES:
                continue
            value = getattr(self, each.name)
            parts = isinstance(value, BaseModel | Prompts)
            data[each.name] = dataclasses.asdict(value) if parts else value
        write_description(folder, data)

    def check(self, models: Models) -> None:
        """Make sure that the style belongs to these models.

        Raises:
            StyleError: another profile, or another base model.
        """
        if self.profile != models.profile.name:
            raise StyleError(
                f"The style {self.name!r} belongs to profile {self.profile}, "
                f"not {models.profile.name}.",
                f"Choose profile {self.profile}, or train the style again with this one.",
            )
        if self.base.hash != models.fingerprint():
            raise StyleError(
                f"The style {self.name!r} was trained on other weights of {self.base.id}.",
                "Give that base model with --base, or train the style again.",
            )


def is_style(folder: str | Path) -> bool:
    """Whether a folder looks like a style."""
    return os.path.isfile(Path(folder) / DESCRIPTION)  # in any case an answer, whatever the name


def check_target(folder: Path) -> None:
    """Refuse to write a style over something else.

    Raises:
        StyleError: `folder` is a file, or a folder of other things.
    """
    if folder.is_dir() and (is_style(folder) or not any(folder.iterdir())):
        return
    if folder.exists():
        raise StyleError(
            f"{folder}: this exists and is not a style.", "Choose a new folder for the style."
        )


def replace_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`, which is moved aside first and deleted last."""
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read_description(folder: str | Path) -> dict[str, Any]:
    """What a style's style.json says, without its schema; every field has the type it should have.

    Raises:
        StyleError: it is missing, damaged, or of a newer schema.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not os.path.isdir(folder):
        raise StyleError(f"{folder}: there is no such style folder.", "Check the path.")
    if not path.is_file():
        raise StyleError(
            f"{folder}: this folder is not a style (it has no {DESCRIPTION}).",
            "Choose a folder that training has made.",
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StyleError(f"{path}: cannot be read.", _RETRAIN) from error
    if not isinstance(data, dict):
        raise StyleError(f"{path}: this is not a style's description.", _RETRAIN)
    schema = data.pop("schema", None)
    if isinstance(schema, bool) or schema not in range(1, SCHEMA + 1):
        raise StyleError(
            f"{path}: schema {schema!r} is not {SCHEMA}.",
            "Update Stitchwork, or train the style again.",
        )
    if schema == 1:
        data.setdefault("task", TASKS[0])  # the only one there was
    if schema < SCHEMA:
        data.setdefault("designed", "unknown")
    if not _FIELDS.keys() - _OPTIONAL <= data.keys() <= _FIELDS.keys():
        raise StyleError(f"{path}: fields are missing or unknown.", _RETRAIN)
    wrong = [name for name, value in data.items() if not _is(value, _FIELDS[name])]
    wrong += [
        name
        for name, known in (("task", TASKS), ("designed", DESIGNED))
        if name not in wrong and data[name] not in known
    ]
    if wrong:
        raise StyleError(f"{path}: {', '.join(wrong)} cannot be what is written there.", _RETRAIN)
    return data


def write_description(folder: Path, data: Mapping[str, Any]) -> None:
    """Write a style's style.json in one step: readers see the old one or the whole new one."""
    text = json.dumps({"schema": SCHEMA, **data}, indent=2, ensure_ascii=False, default=dict)
    aside = folder / f".{DESCRIPTION}.{os.getpid()}"
    try:
        aside.write_text(text + "\n", encoding="utf-8")
        os.replace(aside, folder / DESCRIPTION)
    finally:
        aside.unlink(missing_ok=True)


def _is(value: object, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is(each, kind[0]) for each in value)
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return False
        if ... in kind:
            return all(_is(each, kind[...]) for each in value.values())
        return value.keys() == kind.keys() and all(_is(value[name], kind[name]) for name in kind)
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise StyleError(f"{path}: the style's weights are missing.", _RETRAIN) from error
    except (OSError, SafetensorError) as error:
        raise StyleError(f"{path}: the style's weights are damaged.", _RETRAIN) from error


def _read_picture(path: Path) -> NDArray[np.float32]:
    return np.ascontiguousarray(read_rgba(path)[..., :3])


def _read_optional(path: Path) -> NDArray[np.float32] | None:
    return _read_picture(path) if path.is_file() else None


def _cannot_write(folder: Path, error: Exception) -> ResourceError:
    return ResourceError(
        f"{folder}: the style cannot be written ({getattr(error, 'strerror', None) or error}).",
        "Choose a folder that may be written to, on a disk with free space.",
    )
