"""How motifs drawn from words are judged: by the true picture that is nearest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from backend.models.motif_words import wording
from backend.starter import spoken
from backend.starter.motifs import TINTS, Motif, Picture, recoloured
from backend.starter.spoken import draw_motifs, rows_of


def _bar(name: str, rows: slice, columns: slice) -> Motif:
    rgba = np.zeros((32, 32, 4), np.float32)
    rgba[rows, columns] = (0.8, 0.4, 0.1, 1.0)
    return Motif(name, rgba)


WIDE = _bar("wide", slice(12, 20), slice(4, 28))
TALL = _bar("tall", slice(4, 28), slice(12, 20))


def test_a_motif_and_its_colour_are_told_from_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    true = {wording(m.name, t): recoloured(m, t) for m in (WIDE, TALL) for t in ("", *TINTS)}

    def drawn(composer: object, words: Sequence[str], seed: int) -> Iterator[None]:
        yield None
        return [true[each] for each in words]

    monkeypatch.setattr(spoken, "compose", drawn)
    found = list(draw_motifs(None, [WIDE, TALL], 3))
    assert [each.words for each in found] == ["a yellow wide", "a green tall"]
    assert all(each.motif and each.colour and each.error < 1e-3 for each in found)

    true["a yellow wide"], true["a green tall"] = recoloured(TALL, "yellow"), true["a red tall"]
    shape, colour = draw_motifs(None, [WIDE, TALL], 3)
    assert not shape.motif
    assert shape.error > 10
    assert colour.motif
    assert not colour.colour


def test_the_last_row_of_a_sheet_is_filled_up() -> None:
    pictures: list[Picture] = [np.zeros((4, 4, 3), np.float32)] * 5
    rows = rows_of(pictures, 3)
    assert [len(row) for row in rows] == [3, 3]
    assert rows[1][2].min() == 1.0
