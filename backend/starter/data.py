"""The training pictures: flat designs and textiles of them, with captions, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backend.starter.designs import Icon, draw_design, icon_design, is_held_out
from backend.starter.stitches import HELD_OUT, TRAINING, book_look, draw_look, render

__all__ = ["TRIGGER", "Corpus", "Sample", "make_corpus", "stream"]

TRIGGER = "in [emb] style"
"""Ends the captions of textiles that are not named (the paper's placeholder, section 3.3)."""

_DRAWN_SHARE = 0.25
_UNNAMED_SHARE = 0.25
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair: (H, W, 3) bytes of the flat design and of the textile, captions, origin."""

    flat: Bytes
    textile: Bytes
    flat_caption: str
    textile_caption: str
    family: str
    design: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pictures on disk, (N, H, W, 3) bytes each, and their notes."""

    flats: Bytes
    textiles: Bytes
    notes: list[dict[str, str]]

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Open a folder that `make_corpus` wrote, without reading the pictures into memory."""
        notes = json.loads((folder / "notes.json").read_text("utf-8"))
        flats, textiles = (
            np.load(folder / f"{kind}.npy", mmap_mode="r") for kind in ("flats", "textiles")
        )
        return cls(flats, textiles, notes)


def stream(
    icons: Sequence[Icon], seed: int, *, size: int = 256, held_out: bool = False, start: int = 0
) -> Iterator[Sample]:
    """Yield pairs without end; sample n depends on the seed and n alone.

    Args:
        icons: drawings to sew; those of the other side of the split are left out here.
        seed: of the whole stream.
        size: side of the pictures in pixels.
        held_out: False for training; True for icons and stitch families kept out of it.
        start: number of the first sample.
    """
    usable = [icon for icon in icons if is_held_out(icon.name) == held_out]
    families = list(HELD_OUT if held_out else TRAINING)
    number = start
    while True:
        rng = np.random.default_rng([seed, number, int(held_out)])
        if not usable or (not held_out and rng.random() < _DRAWN_SHARE):
            design = draw_design(size, rng)
        else:
            design = icon_design(usable[int(rng.integers(len(usable)))], size, rng)
        family = families[int(rng.integers(len(families)))]
        manner = TRIGGER if rng.random() < _UNNAMED_SHARE else f"{family} embroidery"
        by_the_book = not held_out and manner != TRIGGER
        look = book_look(family, rng) if by_the_book else draw_look(family, rng, window=size)
        textile = render(design.flat, design.art, look)
        comma = "" if manner == TRIGGER else ","
        yield Sample(
            flat=_bytes(design.flat),
            textile=_bytes(textile),
            flat_caption=f"a {design.subject}, flat design",
            textile_caption=f"a {design.subject}{comma} {manner}",
            family=family,
            design=design.name,
        )
        number += 1


def make_corpus(
    icons: Sequence[Icon], folder: Path, count: int, seed: int, *, size: int = 256
) -> Iterator[int]:
    """Write `count` training pairs, yielding how many are there.

    A finished folder is kept; an unfinished one is begun again, since it takes only minutes.
    """
    if (folder / "notes.json").exists() and len(Corpus.load(folder).notes) >= count:
        yield count
        return
    folder.mkdir(parents=True, exist_ok=True)
    shape = (count, size, size, 3)
    flats, textiles = (
        np.lib.format.open_memmap(folder / f"{kind}.npy", "w+", np.uint8, shape)
        for kind in ("flats", "textiles")
    )
    notes = []
    for index, sample in zip(range(count), stream(icons, seed, size=size)):
        flats[index], textiles[index] = sample.flat, sample.textile
        notes.append(
            {
                "flat": sample.flat_caption,
                "textile": sample.textile_caption,
                "family": sample.family,
                "design": sample.design,
            }
        )
        yield index + 1
    (folder / "notes.json").write_text(json.dumps(notes), "utf-8")


def _bytes(picture: npt.NDArray[np.float32]) -> Bytes:
    return np.asarray(np.round(picture * 255), np.uint8)
