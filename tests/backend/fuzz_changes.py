"""Changes of an input for a target of `fuzz_targets`: of its bytes, or of the JSON within it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

__all__ = ["ODD", "change_bytes", "change_json"]

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 0.5, 2**31, 2**63, 10**400, 1e308, -0.0, float("nan")),
    *("", " ", "\0", "\ud800", "é" * 300, "a" * 5000, "a/" + "b" * 300, "\x1b[2J", "1,5", "NaN"),
    *("../..", "/", "~", "~nobody/x", "/etc/passwd", "C:\\x", "file:///etc/passwd", "a/..", "."),
    *([], [[]], {}, {"": None}, [1, 2], {"a": 1}, [0, 2**62], [2**63, 0], ["a"] * 50),
)
_OPENING = re.compile(rb"[{\[]")


def change_bytes(data: bytes, chance: random.Random, words: Sequence[str]) -> bytes:
    """Some bytes are others, a piece is missing or there twice, a word is put in."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(raw))
        end = min(len(raw), place + chance.choice((1, 2, 4, 8, 30, 200)))
        match chance.randrange(5):
            case 0 if place < len(raw):
                raw[place] = chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1:
                del raw[place:end]
            case 2:
                raw[place:place] = raw[place:end]
            case 3:
                raw[place:place] = chance.choice(words).encode("utf-8", "replace")
            case 4 if place < len(raw):
                raw[place] ^= 1 << chance.randrange(8)
    return bytes(raw)


def change_json(data: bytes, chance: random.Random, words: Sequence[str]) -> bytes | None:
    """The first JSON object or list within the bytes is another; None if there is none.

    Where the eight bytes before it are its length, as in safetensors, they stay right.
    """
    for found in list(_OPENING.finditer(data))[:20]:
        start = found.start()
        text = data[start:].decode("utf-8", "surrogateescape")
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            continue
        if not value:
            continue
        before, rest = data[:start], text[end:].encode("utf-8", "surrogateescape")
        old = len(data) - start - len(rest)
        for _ in range(chance.randint(1, 3)):
            _change(value, chance, words)
        new = json.dumps(value).encode("utf-8")
        if before[-8:] == old.to_bytes(8, "little"):
            before = before[:-8] + len(new).to_bytes(8, "little")
        return before + new + rest
    return None


def _change(value: Any, chance: random.Random, words: Sequence[str]) -> None:
    """Change one thing in an object or list, or further down."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = chance.choice(keys)
    inner = deepcopy(value[key])
    if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
        _change(value[key], chance, words)
        return
    match chance.randrange(6):
        case 0 | 1:
            value[key] = deepcopy(chance.choice(ODD))
        case 2:
            del value[key]
        case 3:
            value[key] = chance.choice(words)
        case 4 if isinstance(inner, int | float):
            value[key] = chance.choice((-inner, inner + 1, inner - 1, inner * 2, str(inner)))
        case 4:
            value[key] = [inner]
        case 5 if isinstance(value, dict):
            value[chance.choice((*words, "", "é", "__class__", "\0"))] = inner
        case 5:
            value.append(inner)
