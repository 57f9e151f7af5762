"""The training pictures as latents, made once, so that UNet training never runs the autoencoder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL

from backend.imaging.edges import canny, tile_condition
from backend.starter.data import Corpus
from backend.starter.training import halved

__all__ = ["LatentCorpus", "make_latents"]


@dataclass(frozen=True, slots=True)
class LatentCorpus:
    """Latents and ControlNet pictures on disk.

    Attributes:
        flats, textiles: (N, C, h, w) half precision, not yet scaled.
        edges: (N, H, W) bytes, 0 or 1: Canny edges of the flat design.
        tiles: (N, H, W, 3) bytes: the blurred flat design.
        notes: captions, as in `Corpus`.
        scale: factor that gives the latents unit variance.
    """

    flats: npt.NDArray[np.float16]
    textiles: npt.NDArray[np.float16]
    edges: npt.NDArray[np.uint8]
    tiles: npt.NDArray[np.uint8]
    notes: list[dict[str, str]]
    scale: float

    @classmethod
    def load(cls, folder: Path) -> LatentCorpus:
        """Open a folder that `make_latents` wrote."""
        arrays: dict[str, Any] = {
            kind: np.load(folder / f"{kind}.npy", mmap_mode="r")
            for kind in ("flats", "textiles", "edges", "tiles")
        }
        facts = json.loads((folder / "facts.json").read_text("utf-8"))
        return cls(**arrays, notes=facts["notes"], scale=facts["scale"])


@torch.no_grad()
def make_latents(
    vae: AutoencoderKL, corpus: Corpus, folder: Path, *, batch: int = 8
) -> Iterator[int]:
    """Encode a corpus, yielding how many pairs are done; a finished folder is kept."""
    count, height, width, _ = corpus.flats.shape
    if (folder / "facts.json").exists():
        yield count
        return
    folder.mkdir(parents=True, exist_ok=True)
    channels = vae.config["latent_channels"]
    latent = (count, channels, height // 8, width // 8)

    def create(kind: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        return np.lib.format.open_memmap(folder / f"{kind}.npy", "w+", dtype, shape)

    flats, textiles = create("flats", np.float16, latent), create("textiles", np.float16, latent)
    edges = create("edges", np.uint8, (count, height, width))
    tiles = create("tiles", np.uint8, (count, height, width, 3))
    device = next(vae.parameters()).device
    for start in range(0, count, batch):
        rows = slice(start, min(start + batch, count))
        for pictures, out in ((corpus.flats, flats), (corpus.textiles, textiles)):
            pixels = torch.from_numpy(np.array(pictures[rows])).permute(0, 3, 1, 2).to(device)
            with halved(device):
                mode = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()
            out[rows] = mode.float().cpu().numpy()
        for row in range(rows.start, rows.stop):
            flat = np.asarray(corpus.flats[row], np.float32) / 255
            edges[row] = np.asarray(canny(flat)).reshape(height, width, -1)[..., 0] > 0.5
            tiles[row] = np.round(tile_condition(flat, width) * 255)
        yield rows.stop
    scale = 1 / float(np.asarray(textiles[:: max(1, count // 200)], np.float32).std())
    facts = {"notes": corpus.notes, "scale": scale}
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
