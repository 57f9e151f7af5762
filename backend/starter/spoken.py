"""Every motif drawn by the shipped composer from its words alone, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from backend.models.loading import Models
from backend.models.motif_words import wording
from backend.progress import outcome
from backend.restyle.composed import compose
from backend.starter.motifs import TINTS, Motif, Picture, recoloured

__all__ = ["Spoken", "draw_motifs", "rows_of"]

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Spoken:
    """A motif drawn from words.

    Attributes:
        words: "a red heart".
        picture: (S, S, 3) in [0, 1].
        motif: whether the true picture of no other motif in this colour is nearer.
        colour: whether the true picture of this motif in no other colour is nearer.
        error: RMS difference to the true picture, in 256ths.
    """

    words: str
    picture: Picture
    motif: bool
    colour: bool
    error: float


def draw_motifs(composer: Models, drawn: Sequence[Motif], seed: int) -> Iterator[Spoken]:
    """Each motif in one colour, its own or one of the tints in turn.

    Args:
        composer: a base with its composer's networks.
        drawn: what it was trained on, at its own side.
        seed: of the noise, and of which colour a motif begins with.
    """
    tints = ("", *TINTS)
    asked = [(motif, tints[(k + seed) % len(tints)]) for k, motif in enumerate(drawn)]
    true = {tint: [recoloured(motif, tint) for motif in drawn] for tint in tints}
    for start in range(0, len(asked), _BATCH):
        part = asked[start : start + _BATCH]
        words = [wording(motif.name, tint) for motif, tint in part]
        for k, picture in enumerate(outcome(compose(composer, words, seed + start))):
            tint, row = part[k][1], start + k
            by_motif = [_difference(picture, each) for each in true[tint]]
            by_colour = {name: _difference(picture, true[name][row]) for name in tints}
            yield Spoken(
                words[k],
                picture,
                int(np.argmin(by_motif)) == row,
                min(by_colour, key=lambda name: by_colour[name]) == tint,
                256 * by_motif[row],
            )


def rows_of(pictures: Sequence[Picture], columns: int) -> list[list[Picture]]:
    """Pictures in rows, the last filled up with plain ones, for `samples.sheet`."""
    empty = [np.ones_like(pictures[0])] * (-len(pictures) % columns)
    filled = [*pictures, *empty]
    return [filled[k : k + columns] for k in range(0, len(filled), columns)]


def _difference(one: Picture, other: Picture) -> float:
    return float(np.sqrt(np.square(one - other).mean()))
