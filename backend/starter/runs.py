"""A training run's folder: which file holds what, and the model as far as it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from backend.errors import InputError
from backend.starter.architecture import STARTER, Architecture, Components, build, save
from backend.starter.data import Corpus
from backend.starter.latents import LatentCorpus
from backend.starter.linear_start import linear_start

__all__ = ["Run", "patches_of"]


@dataclass(frozen=True, slots=True)
class Run:
    """One folder that `python -m backend.starter` works in.

    Attributes:
        folder: holds `corpus/`, `latents/` and the checkpoints of the trainings.
        architecture: sizes of the model.
    """

    folder: Path
    architecture: Architecture = STARTER

    @property
    def corpus(self) -> Path:
        """Training pictures."""
        return self.folder / "corpus"

    @property
    def latents(self) -> Path:
        """The pictures' latents."""
        return self.folder / "latents"

    def checkpoint(self, name: str) -> Path:
        """Checkpoint of "autoencoder", "unet" (with text encoders and ControlNets), "textures",
        "controlnets" or "decoder"."""
        return self.folder / f"{name}.pt"

    def fresh(self, seed: int) -> Components:
        """A model before any training, its autoencoder begun as a linear codec of the corpus."""
        parts = build(self.architecture, seed)
        linear_start(parts["vae"], patches_of(self.open_corpus()))
        return parts

    def trained(self, seed: int, *, until: str = "decoder") -> Components:
        """The model with every training's moving average that this folder holds.

        Args:
            seed: of the parts that are not trained yet.
            until: last training taken in.

        Raises:
            InputError: the autoencoder is not trained, without which nothing can follow.
        """
        parts = build(self.architecture, seed)
        order = ("autoencoder", "unet", "textures", "controlnets", "decoder")
        for name in order[: order.index(until) + 1]:
            path = self.checkpoint(name)
            if path.exists():
                state = torch.load(path, weights_only=True, map_location="cpu")
                for part, weights in state["average"].items():
                    parts[part].load_state_dict(weights)
            elif name == "autoencoder":
                raise InputError(f"{path} is missing.", "Run `autoencoder` first.")
        return parts

    def open_corpus(self) -> Corpus:
        """The training pictures; `InputError` if they are not made."""
        if not (self.corpus / "notes.json").exists():
            raise InputError(f"{self.corpus} holds no pictures.", "Run `data` first.")
        return Corpus.load(self.corpus)

    def export(self, out: Path, seed: int) -> int:
        """Write the model in half precision; returns its size in bytes."""
        parts = self.trained(seed)
        parts["vae"].register_to_config(scaling_factor=LatentCorpus.load(self.latents).scale)
        save(parts, out, half=True)
        return sum(path.stat().st_size for path in out.rglob("*.safetensors"))


def patches_of(corpus: Corpus, *, pictures: int = 400, seed: int = 0) -> npt.NDArray[np.float32]:
    """(N, 3, 8, 8) patches in [-1, 1] of flat designs and, three times as many, textiles."""
    rng = np.random.default_rng(seed)
    parts = []
    for source, count in ((corpus.flats, pictures // 4), (corpus.textiles, 3 * pictures // 4)):
        for row in rng.integers(0, len(source), count):
            picture = np.asarray(source[int(row)], np.float32) / 127.5 - 1
            rows, columns = picture.shape[0] // 8, picture.shape[1] // 8
            cells = picture[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8, 3)
            parts.append(cells.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 8, 8)[::7])
    return np.concatenate(parts)
