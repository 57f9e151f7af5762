"""Reads what a batch is to do, CSV or JSON, and finds all that is wrong with it before any work.

CSV: a header, then a row for every picture, of an input or of a prompt. JSON: a list of such rows,
or every input and prompt in every style: {"inputs": ["a.png", …], "prompts": ["a red heart", …],
"styles": ["satin", "photo.jpg", {"reference": …}, …]}, where the parts of a row may stand in place
of a bare path or prompt. Paths are relative to the manifest's folder.
"""

from __future__ import annotations

import csv
import json
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backend.batch.columns import COLUMNS, TYPES
from backend.batch.row import Row, absolute, check_row
from backend.errors import InputError

__all__ = ["read_manifest"]

_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_CROSSED = {"input": "inputs", "prompt": "prompts"}  # what JSON crosses with styles
_MOST_SHOWN = 40


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest.

    Raises:
        InputError: with every problem and the rows that have it.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.", "Check the path of the manifest.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        parts = list(_json_rows(_json(text), path.parent) if _is_json(path) else _csv_rows(text))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not UTF-8 text.", "Save it as UTF-8.") from error
    except (ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}).", "Save it again.") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.", "Allow reading it.") from error
    except _ManifestError as error:
        raise InputError(f"{path}: {error}", f"The columns are {', '.join(COLUMNS)}.") from error
    if not parts:
        raise InputError(
            f"{path}: it has no row.", "Give at least one input or prompt, and a style."
        )
    folder = path.resolve().parent
    problems: dict[str, list[str]] = {}
    rows = []
    for label, cells in parts:
        wrong: list[str] = []
        row = check_row(label, cells, folder, wrong)
        for each in wrong:
            problems.setdefault(each, []).append(label)
        if row is not None:
            rows.append(row)
    if problems:
        lines = [f"  {_joined(labels)}: {each}" for each, labels in problems.items()]
        rest = [f"  and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
        listed = "\n".join([*lines[:_MOST_SHOWN], *rest])
        raise InputError(f"{path}: nothing was started.\n{listed}\n", "Correct the manifest.")
    return rows


class _ManifestError(Exception):
    """The manifest as a whole cannot be understood."""


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _csv_rows(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    header = text.partition("\n")[0]
    # Spreadsheets write what their country takes for a comma.
    delimiter = max(",;\t", key=header.count)
    lines = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True))
    if not lines:
        return
    names = [each.strip().lower().replace(" ", "_") for each in lines[0]]
    unknown = [each for each in names if each not in COLUMNS]
    if unknown:
        raise _ManifestError(f"row 1: there is no column {', '.join(map(repr, unknown))}.")
    if len(set(names)) < len(names):
        raise _ManifestError("row 1: a column is there twice.")
    for number, cells in enumerate(lines[1:], start=2):
        if not any(each.strip() for each in cells):
            continue
        if len(cells) > len(names):
            raise _ManifestError(
                f"row {number}: it has {len(cells)} cells for {len(names)} columns."
            )
        filled = {name: cell.strip() for name, cell in zip(names, cells) if cell.strip()}
        yield f"row {number}", {name: _number(name, cell) for name, cell in filled.items()}


def _number(column: str, text: str) -> Any:
    """A cell's number where its column takes one; what is none is left for the job to refuse."""
    hint = TYPES.get(column, str)
    if hint is bool:
        return _YES_NO.get(text.lower(), text)
    for kind in (int, float):
        if kind in (hint, *typing.get_args(hint)):
            try:
                # A decimal comma comes with the semicolon.
                return kind(text.replace(",", "."))
            except ValueError:
                return text
    return text


def _json(text: str) -> Any:
    data = json.loads(text)
    json.dumps(data, ensure_ascii=False).encode()  # refuses half characters, which no file can hold
    return data


def _json_rows(data: Any, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(data, list):
        for number, each in enumerate(data, start=1):
            yield f"item {number}", _object(f"item {number}", each)
        return
    lists = {"styles", *_CROSSED.values()}
    if not isinstance(data, dict) or not {"styles"} < data.keys() <= lists:
        raise _ManifestError(
            'it is neither a list of rows nor {"inputs": […], "prompts": […], "styles": […]} with '
            "inputs, prompts or both."
        )
    if not all(isinstance(each, list) for each in data.values()):
        raise _ManifestError("inputs, prompts and styles must be lists.")
    for column, name in _CROSSED.items():
        for one, given in enumerate(data.get(name, []), start=1):
            for other, style in enumerate(data["styles"], start=1):
                label = f"{column} {one}, style {other}"
                picture = {column: given} if isinstance(given, str) else _object(label, given)
                yield label, picture | _style_part(label, style, folder)


def _style_part(label: str, given: Any, folder: Path) -> dict[str, Any]:
    """A JSON's style: the parts of a row, or bare the path of a style's folder or of a photo."""
    if not isinstance(given, str):
        return _object(label, given)
    return {"style" if os.path.isdir(absolute(given, folder)) else "reference": given}


def _object(label: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _ManifestError(f"{label}: this is no object with columns as keys.")
    return {name: each for name, each in value.items() if each is not None}


def _joined(labels: list[str]) -> str:
    if len(labels) > 1 and all(each.startswith("row ") for each in labels):
        return "rows " + ", ".join(each.removeprefix("row ") for each in labels)
    return "; ".join(labels)
