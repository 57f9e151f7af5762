"""A tagger's model, written byte by byte as onnxruntime reads it: no other package can be asked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

__all__ = ["save_tagger"]

_FLOAT, _INTS = 1, 7


def save_tagger(folder: Path, tags: Sequence[tuple[str, str]], *, side: int = 8) -> Path:
    """A tagger that answers, as often as there are tags, a 255th of the mean blue, green and red.

    Args:
        tags: name and category of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{i},{name},{category},1" for i, (name, category) in enumerate(tags)]
    text = "\n".join(["tag_id,name,category,count", *rows])
    (folder / "selected_tags.csv").write_text(text, encoding="utf-8")
    axes = _text(1, "axes") + _number(8, 1) + _number(8, 2) + _number(20, _INTS)
    keep = _text(1, "keepdims") + _number(3, 0) + _number(20, 2)
    mean = _node("ReduceMean", ["pixels"], "means", _message(5, axes) + _message(5, keep))
    share = _node("Div", ["means", "most"], "tags")
    most = _number(2, _FLOAT) + _text(8, "most") + _message(9, struct.pack("<f", 255.0))
    graph = (
        mean
        + share
        + _text(2, "tagger")
        + _message(5, most)
        + _value(11, "pixels", [1, side, side, 3])
        + _value(12, "tags", [1, 3])
    )
    model = _number(1, 8) + _message(7, graph) + _message(8, _text(1, "") + _number(2, 13))
    (folder / "model.onnx").write_bytes(model)
    return folder


def _node(kind: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    given = b"".join(_text(1, each) for each in inputs)
    return _message(1, given + _text(2, output) + _text(4, kind) + attributes)


def _value(field: int, name: str, shape: Sequence[int]) -> bytes:
    sizes = b"".join(_message(1, _number(1, side)) for side in shape)
    tensor = _number(1, _FLOAT) + _message(2, sizes)
    return _message(field, _text(1, name) + _message(2, _message(1, tensor)))


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, inner: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(inner)) + inner


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
