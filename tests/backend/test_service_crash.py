"""The service is killed at random moments; `python build.py stress` does it two hundred times."""

from __future__ import annotations

from pathlib import Path

import pytest
from crashing import Crashes


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_doubled_or_done_in_part(tmp_path: Path, seed: int) -> None:
    tally = Crashes(tmp_path, None, seed, mean=1.5).run(5)
    assert tally.clean, tally
    assert tally.done >= 3
