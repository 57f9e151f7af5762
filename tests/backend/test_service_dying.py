"""A worker that dies before any single thing it does with files, and the service after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import environment

DYING = Path(__file__).with_name("dying.py")


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize(("kind", "again"), [("preview", False), ("train", False), ("train", True)])
def test_a_result_in_its_place_is_done_whenever_its_worker_dies(
    tmp_path: Path, kind: str, again: bool
) -> None:
    command = [sys.executable, str(DYING), kind, str(tmp_path), *(["--again"] * again)]
    said = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=240)
    assert said.returncode == 0, said.stderr
    deaths = [json.loads(line) for line in said.stdout.splitlines()]
    before = "older" if again else "nothing"
    for each in deaths:
        # Never made twice, and never said to be done before it is.
        assert each["state"] == ("done" if each["held"] == "result" else "queued"), each
        assert each["then"] == ("result" if each["state"] == "done" else before), each
        assert (each["end"], each["finally"], each["intact"]) == ("done", "result", True), each
        assert each["problems"] == each["receipts"] == [], each
        assert set(each["left"]) <= {"begun.log", "completed.log"}, each
    # It has died at both sides of the moment that counts, and at last lived through.
    states = [each["state"] for each in deaths]
    assert states == sorted(states, reverse=True)
    assert states.count("queued") > 10
    assert states.count("done") > 3
    assert not deaths[-1]["point"]
