"""Torch's threads leave room for other programs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.backend.running import environment

_ASK = "import os, backend.cli; print(os.environ['GOMP_SPINCOUNT'])"


@pytest.mark.parametrize(("given", "found"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_spin_briefly_unless_told_otherwise(given: dict[str, str], found: str) -> None:
    plain = {key: value for key, value in environment().items() if key != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, env={**plain, **given}
    )
    assert done.stdout.strip() == found, done.stderr
