"""What an unfinished training leaves on disk, so that the same job can go on from it.

`<out>.partial/` holds job.json (which job this is), the pair, the block similarities, the
complementary pairs, and checkpoint.safetensors (LoRA and optimiser). Chance needs no storing: it
is drawn from seed, stage and step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from backend.emolora.adapter import Adapter
from backend.emolora.pair import PAIR_MARK
from backend.errors import ResourceError
from backend.jobs import TrainJob, job_to_dict
from backend.models.loading import Models
from backend.models.memory import neutral
from backend.models.profiles import Profile

__all__ = ["Partial", "kept_pair"]

_JOB, _BLOCKS, _STATE = "job.json", "blocks.json", "checkpoint.safetensors"
_ANYHOW = ("memory", "offline", "base_config", "prompt")


def _folder_of(out: Path) -> Path:
    """Where an unfinished training lies."""
    return out.with_name(f"{out.name}.partial")


def kept_pair(job: TrainJob, profile: Profile) -> Path | None:
    """The folder that has the pair of an unfinished run of the same job, whatever its base."""
    folder = _folder_of(Path(job.out))
    try:
        known = json.loads((folder / _JOB).read_text(encoding="utf-8"))
        same = {**known["asked"], "pair": known["profile"]["pair"]} == json.loads(
            json.dumps({**_asked(job), "pair": asdict(profile.pair)})
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if same and (folder / PAIR_MARK).is_file() else None


class Partial:
    """The folder of an unfinished training; opening it for another job empties it.

    Raises:
        ResourceError: the folder cannot be written.
    """

    def __init__(self, out: Path, job: TrainJob, models: Models) -> None:
        self.folder = _folder_of(out)
        identity = _identity(job, models)
        try:
            known = (self.folder / _JOB).read_text(encoding="utf-8")
        except (OSError, ValueError):
            known = ""
        try:
            if known != identity:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write(_JOB, identity)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.folder / name).is_file()

    def save_blocks(self, blocks: tuple[str, ...], table: NDArray[np.float64] | None) -> None:
        """Keep the chosen blocks and what they were chosen by."""
        data = {"blocks": blocks, "table": None if table is None else table.tolist()}
        try:
            self._write(_BLOCKS, json.dumps(data))
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def load_blocks(self) -> tuple[tuple[str, ...], NDArray[np.float64] | None] | None:
        """What `save_blocks` kept, if it did."""
        if not self.has(_BLOCKS):
            return None
        data = json.loads((self.folder / _BLOCKS).read_text(encoding="utf-8"))
        return tuple(data["blocks"]), None if data["table"] is None else np.array(data["table"])

    def save_state(
        self,
        stage: str,
        step: int,
        adapter: Adapter,
        optimiser: torch.optim.Optimizer,
        losses: dict[str, list[float]],
    ) -> None:
        """Write a checkpoint after `step` steps of `stage`, replacing the last one in one move."""
        tensors = {f"adapter.{name}": value for name, value in adapter.state().items()}
        for index, moments in optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                # Some optimisers count their steps in a plain number.
                tensors[f"adam.{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
        metadata = {"stage": stage, "step": str(step), "losses": json.dumps(losses)}
        aside = self.folder / f"{_STATE}.new"
        try:
            safetensors.torch.save_file(tensors, aside, metadata=metadata)
            os.replace(aside, self.folder / _STATE)
        except (OSError, safetensors.SafetensorError) as error:
            raise _cannot_write(self.folder, error) from error

    def load_state(
        self, adapter: Adapter, optimiser: torch.optim.Optimizer
    ) -> tuple[str, int, dict[str, list[float]]] | None:
        """Take over the checkpoint, if there is one: its stage, steps done there, losses."""
        if not self.has(_STATE):
            return None
        with safetensors.safe_open(self.folder / _STATE, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        adapter.restore(
            {k.removeprefix("adapter."): v for k, v in tensors.items() if k.startswith("adapter.")}
        )
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, moment = name.split(".")
                counted = value.ndim == 0 and not value.is_floating_point()
                state.setdefault(int(index), {})[moment] = value.item() if counted else value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
        return metadata["stage"], int(metadata["step"]), json.loads(metadata["losses"])

    def remove(self) -> None:
        """Delete the folder: the training is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        aside = self.folder / f"{name}.new"
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, self.folder / name)


def _identity(job: TrainJob, models: Models) -> str:
    """Everything the outcome depends on."""
    data = {
        "asked": _asked(job),
        "profile": neutral(asdict(models.profile)),
        "base": models.fingerprint(),
        "device": str(models.device),
    }
    return json.dumps(data, indent=2, sort_keys=True, default=str)


def _asked(job: TrainJob) -> dict[str, Any]:
    """The job, and what is in its files."""
    files = {}
    for name in ("reference", "design", "mask"):
        path = getattr(job, name)
        if path is not None:
            try:
                files[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except OSError:
                files[name] = "unreadable"  # reading it as an image will say why
    # Where and how it is computed may change between two runs of a job.
    asked = {key: value for key, value in job_to_dict(job).items() if key not in _ANYHOW}
    return {"job": asked, "files": files}


def _cannot_write(folder: Path, error: Exception) -> ResourceError:
    reason = getattr(error, "strerror", None) or error
    return ResourceError(
        f"{folder}: cannot be written ({reason}).",
        "Choose a folder that may be written to, on a disk with free space.",
    )
