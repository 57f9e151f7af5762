"""What takes bytes from strangers: sound ones are taken, changed ones give nothing but words.

The short form of `fuzz.py`, by chance from a seed; and what that has found stays mended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fuzz_changes import change_bytes, change_json
from fuzz_requests import Requests
from fuzz_targets import TARGETS
from fuzzing import Target

# Seeds that are there to be refused.
STRANGE = {"OPTIONS /v1/jobs", "GET /v1/%2e%2e/%00", "multipart", "stranger", "tokens"}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[str], Target]]:
    opened: list[Target] = []

    def make(name: str) -> Target:
        opened.append(TARGETS[name](tmp_path))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.mark.parametrize("name", TARGETS)
def test_sound_input_is_taken(made: Callable[[str], Target], name: str) -> None:
    target = made(name)
    assert {name for name, data in target.seeds().items() if not target(data)} <= STRANGE


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", TARGETS)
def test_changed_input_gives_words(made: Callable[[str], Target], name: str, seed: int) -> None:
    target, chance = made(name), random.Random(seed)
    seeds, words = list(target.seeds().values()), target.words()
    taken, statuses = 0, set()
    for _ in range(600):
        data = chance.choice(seeds)
        other = change_json(data, chance, words) if chance.random() < 0.6 else None
        data = change_bytes(data, chance, words) if other is None else other
        try:
            taken += target(data)
        except Exception as error:
            error.add_note(f"The input was {data!r}")
            raise
        if isinstance(target, Requests):
            statuses |= set(target.statuses)
    assert 0 < taken < 600
    if isinstance(target, Requests):
        assert {200, 201, 400, 401, 404, 405, 421} <= statuses


# target, input, whether it is taken: each was once an exception, or stopped the service
LONG = b"b" * 300
FOUND = {
    "long result": ("jobs", b'{"kind":"train","reference":"ROOT/r","out":"ROOT/%b"}' % LONG, False),
    "long checkpoint": (
        "jobs",
        b'{"kind":"train","reference":"ROOT/r","out":"ROOT/%b"}' % LONG[:250],
        False,
    ),
    "long input in a manifest": ("manifests", b"cinput,style\n%b,satin\n" % LONG, False),
    "long style in a manifest": ("manifests", b"cinput,style\na.png,%b\n" % LONG, False),
    "long base in a manifest": ("manifests", b"cinput,style,base\na.png,satin,%b" % LONG, True),
    "nobody's home": ("manifests", b'j[{"input": "~nobody/a.png", "style": "satin"}]', False),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_was_found_stays_mended(made: Callable[[str], Target], case: str) -> None:
    name, data, taken = FOUND[case]
    assert made(name)(data) is taken


def test_a_damaged_avif_is_refused(made: Callable[[str], Target]) -> None:
    images = made("images")
    sound = images.seeds()["avif"]
    assert b"iloc" in sound
    assert not images(sound.replace(b"iloc", b"\xd7loc"))


def test_a_part_before_the_beginning_of_an_archive_is_refused(
    made: Callable[[str], Target],
) -> None:
    archives = made("archives")
    sound = archives.seeds()["archive"]
    place = len(sound) - 6  # of the offset that all others are counted from
    later = int.from_bytes(sound[place : place + 4], "little") + 500
    assert not archives(sound[:place] + later.to_bytes(4, "little") + sound[place + 4 :])
