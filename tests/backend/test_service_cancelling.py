"""Jobs cancelled in each of their stages; `python build.py stress` does it with every kind."""

from __future__ import annotations

from pathlib import Path

from cancelling import cancel_everywhere


def test_a_first_look_can_be_cancelled_in_every_stage(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    account = cancel_everywhere(folder, tiny_model, ["preview"])
    assert not account.wrong
    assert {"preview: queued", "preview: starting", "preview: laying thread"} <= set(
        account.seconds
    )
    assert account.seconds["preview: queued"] is not None
