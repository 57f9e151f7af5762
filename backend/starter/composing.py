"""Training of the composer: a UNet that draws flat motifs from words alone.

The starter's own UNet is trained on designs that it is given, and a few CPU hours teach it no
objects; its pooled text even forgot them. The composer has its layout and autoencoder but a smaller
UNet and text encoders of its own, and learns named motifs, each at one place, half a window wide:
text to image as the paper's section 3.4 needs it, at the size of what a CPU can learn.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backend.models.loading import Models
from backend.models.motif_words import MOTIF_WORDS, MotifWords, wording
from backend.restyle.composed import DECIDED_BY
from backend.starter.architecture import STARTER, Components
from backend.starter.diffusion import encode_text, size_ids, weighed_error
from backend.starter.motifs import TINTS, Motif, recoloured
from backend.starter.training import halved

__all__ = [
    "ARCHITECTURE",
    "COMPOSER",
    "MotifCorpus",
    "composing_loss",
    "make_motifs",
    "save_composer",
]

ARCHITECTURE = replace(
    STARTER, window=STARTER.window // 2, unet_channels=(48, 96, 192), heads=(2, 3, 6)
)
"""The shipped composer."""

COMPOSER = ("unet", "text_encoder", "text_encoder_2")
"""What is trained; autoencoder, tokenizers and noise schedule are the starter's."""

_NO_WORDS = 0.05
_NO_ARTICLE = 0.1
_NO_TINT = 2.0 / (len(TINTS) + 2)  # share of samples in the motif's own colours
_BLIND = 0.5  # share of the latest timesteps at which z_t is noise alone, as where drawing begins
_LATEST = 0.94


@dataclass(frozen=True, slots=True)
class MotifCorpus:
    """Motifs on disk.

    Attributes:
        latents: (N, C, h, w) half precision, scaled.
        notes: name and tint ("" for its own colours) of each.
    """

    latents: npt.NDArray[np.float16]
    notes: list[tuple[str, str]]

    @classmethod
    def load(cls, folder: Path) -> MotifCorpus:
        """Open a folder that `make_motifs` wrote."""
        notes = json.loads((folder / "motifs.json").read_text("utf-8"))
        return cls(np.load(folder / "motifs.npy"), [(name, tint) for name, tint in notes])


@torch.no_grad()
def make_motifs(models: Models, drawn: Sequence[Motif], folder: Path) -> Iterator[int]:
    """Encode every motif in its own and all other colours, yielding how many motifs are done.

    A finished folder is kept.
    """
    if (folder / "motifs.json").exists():
        yield len(drawn)
        return
    folder.mkdir(parents=True, exist_ok=True)
    latents, notes = [], []
    for done, motif in enumerate(drawn):
        pictures = np.stack([recoloured(motif, tint) for tint in ("", *TINTS)])
        encoded = models.encode_image(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        latents.append(encoded.cpu().numpy().astype(np.float16))
        notes += [(motif.name, tint) for tint in ("", *TINTS)]
        yield done + 1
    np.save(folder / "motifs.npy", np.concatenate(latents))
    (folder / "motifs.json").write_text(json.dumps(notes), "utf-8")


def composing_loss(
    parts: Components, corpus: MotifCorpus, *, batch: int = 16
) -> Callable[[torch.Generator], Tensor]:
    """The loss of one random batch, for `training.fit`: that of `diffusion_loss`, from words alone.

    Args:
        parts: UNet and text encoders, which are trained, tokenizer and scheduler.
        corpus: what it is to draw.
        batch: pictures a step.
    """
    device = next(parts["unet"].parameters()).device
    alphas = parts["scheduler"].alphas_cumprod.to(device)
    side = 8 * corpus.latents.shape[-1]

    def loss(generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        rows = _rows(len(corpus.notes), batch, rng)
        z = torch.from_numpy(corpus.latents[rows]).to(device).float()
        noise = torch.randn(z.shape, generator=generator).to(device)
        steps = len(alphas)
        t = torch.randint(int(DECIDED_BY * steps), steps, (batch,), generator=generator).to(device)
        alpha = alphas[t].view(-1, 1, 1, 1)
        blind = torch.rand((batch,), generator=generator).to(device) < _BLIND
        seen = ~(blind & (t > _LATEST * len(alphas))).view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * z * seen + (1 - alpha).sqrt() * noise
        velocity = (alpha.sqrt() * noisy - z) / (1 - alpha).sqrt()
        words = [_words(*corpus.notes[int(row)], rng) for row in rows]
        with halved(device):
            hidden, pooled = encode_text(parts, words)
            predicted = parts["unet"](
                noisy.to(memory_format=torch.channels_last),
                t,
                encoder_hidden_states=hidden,
                added_cond_kwargs={
                    "text_embeds": pooled,
                    "time_ids": size_ids(batch, side).to(device),
                },
            ).sample
        return weighed_error(predicted, velocity, alphas[t])

    return loss


def _words(name: str, tint: str, rng: np.random.Generator) -> str:
    if rng.random() < _NO_WORDS:
        return ""
    words = wording(name, tint)
    return words.partition(" ")[2] if rng.random() < _NO_ARTICLE else words


def _rows(count: int, batch: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    kinds = len(TINTS) + 1
    things = rng.integers(0, count // kinds, batch)
    tints = np.where(rng.random(batch) < _NO_TINT, 0, rng.integers(1, kinds, batch))
    return np.asarray(things * kinds + tints, np.int64)


def save_composer(parts: Components, corpus: MotifCorpus, folder: Path) -> int:
    """Write what was trained, in half precision, and what it knows; returns the weights' bytes."""
    for name in COMPOSER:
        copy.deepcopy(parts[name]).to(torch.float16).save_pretrained(folder / name)
    names = dict.fromkeys(name for name, _ in corpus.notes)
    MotifWords(tuple(names), TINTS).save(folder / MOTIF_WORDS)
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
