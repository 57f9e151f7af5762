"""Workers are killed amid many jobs; `python build.py stress` does it with a thousand."""

from __future__ import annotations

from pathlib import Path

from thousand import Thousand


def test_every_output_is_there_exactly_once(tmp_path: Path) -> None:
    account = Thousand(tmp_path, jobs=40, workers=3, killed=0.2, seed=1).run()
    assert account.clean, account
    assert account.failed_by_it >= 4  # of the 8 that were to be
    assert account.workers >= 5
