"""What users do, twice: it leaves nothing open and no file; `python build.py stress` goes on so."""

from __future__ import annotations

from pathlib import Path

from soak import Soak
from watching import LOOKS, MODELS, SERVICE, unowned


def test_nothing_is_left_of_a_mix_of_small_jobs(tmp_path: Path, tiny_model: Path) -> None:
    soak = Soak(tmp_path, tiny_model, seed=1, load=float("inf"))
    with soak.service():
        soak.fill(3)
        for _ in range(2):
            # A training with a look beside it last of all, so that both workers are there.
            for do in (*soak.all_deeds, soak.train):
                soak.deed(do)
    assert soak.problems == []
    assert soak.left_over == []
    few = len(soak.samples) // 2
    first, last = soak.samples[few - 1][1], soak.samples[-1][1]
    for role in (SERVICE, LOOKS, MODELS):
        assert last[role].descriptors <= first[role].descriptors, role
    assert soak.states["done"] >= 12
    assert set(soak.states) == {"done", "failed", "cancelled"}


def test_what_nobody_owns_is_found(tmp_path: Path) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    style, trash = work / "styles" / "roses", work / "styles" / ".trash" / "old"
    partial = work / "styles" / "lilies.partial"
    owned = [data / "jobs" / "jobs.sqlite3", data / "logs" / "service.log.2", work / "out.png"]
    owned += [style / "style.json", style / "mask.png", trash / "style.json"]
    owned += [partial / "job.json", work / "art.png"]
    strange = [data / "jobs" / "7.receipt", data / "logs" / "core", work / "more.png"]
    strange += [style.with_name(".roses.abcd0123") / "style.json", style / ".mask.png.abcd0123"]
    strange += [work / "tulips.partial" / "job.json", work / "empty"]
    for each in (*owned, *strange[:-1]):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.touch()
    strange[-1].mkdir()
    found = unowned(work, data, [work / "art.png"], [work / "out.png", partial])
    assert found == set(strange)
