"""A run's report: one web page with its pictures beside it, without scripts or network."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from backend.errors import InputError, ResourceError
from backend.evaluation.definitions import MEASURES, Comparison, measure
from backend.terminal import duration

__all__ = ["Fact", "Manifest", "Picture", "Timing", "write_report"]

_STYLE = Path(__file__).parent / "report.css"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture, shown beside the others of its group.

    Attributes:
        path: file, absolute or relative to the manifest.
        group: heading it stands under.
        note: a line under the group's heading; the first one given counts.
    """

    path: str
    caption: str
    group: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall seconds of a stage."""

    stage: str
    seconds: float
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A name and a value, such as "profile" and "starter"."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a report shows; its JSON form has these very names.

    Attributes:
        facts: shown under the title.
        comparisons: results that are measured when the report is written; the columns of the table.
        measures: label → measure → value, in addition, where values are known already.
        notes: paragraphs at the end.
        outputs, run: what was made (role → path) and how; for programs, not shown.
        folder: what relative paths start from; not part of the JSON.
    """

    title: str
    subtitle: str = ""
    facts: tuple[Fact, ...] = ()
    pictures: tuple[Picture, ...] = ()
    timings: tuple[Timing, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A manifest from its JSON file.

        Raises:
            InputError: it cannot be read, or its fields are unknown, missing or of wrong types.
        """
        parts: dict[str, type[Any]] = {
            "facts": Fact,
            "pictures": Picture,
            "timings": Timing,
            "comparisons": Comparison,
        }
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            for name, kind in parts.items():
                data[name] = tuple(kind(**each) for each in data.get(name, ()))
            data["notes"] = tuple(data.get("notes", ()))
            return cls(**data, folder=path.parent)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}.", "Check the path.") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a manifest ({error}).", "Correct it.") from error

    def to_dict(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        del data["folder"]
        return data


def write_report(manifest: Manifest, out: Path) -> None:
    """Write the page; pictures that do not lie beside it are copied into `<name>_files`.

    Raises:
        InputError: a picture is missing, or something cannot be measured.
        ResourceError: the page cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        page = _page(manifest, _measured(manifest), out.resolve())
        aside = out.with_name(f".{out.name}.part")
        try:
            aside.write_text(page, encoding="utf-8")
            os.replace(aside, out)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{out}: the report cannot be written ({error.strerror or error}).",
            "Choose a folder that may be written to, on a disk with free space.",
        ) from error


def _measured(manifest: Manifest) -> dict[str, Mapping[str, float]]:
    """Label → measure → value of all comparisons."""
    table = {each.label: measure(each, manifest.folder) for each in manifest.comparisons}
    for label, values in manifest.measures.items():
        table[label] = {**table.get(label, {}), **values}
    return table


def _page(manifest: Manifest, table: Mapping[str, Mapping[str, float]], out: Path) -> str:
    sections = [*_gallery(manifest, out), _timings(manifest.timings)]
    baselines = {each.label for each in manifest.comparisons if each.baseline}
    sections.append(_table(table, baselines))
    sections += [f"<p>{html.escape(note)}</p>" for note in manifest.notes]
    facts = "".join(
        f"<div><dt>{html.escape(each.name)}</dt><dd>{html.escape(each.value)}</dd></div>"
        for each in manifest.facts
    )
    title, subtitle = html.escape(manifest.title), html.escape(manifest.subtitle)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
<header>
<h1>{title}</h1>
<p>{subtitle}</p>
<dl>{facts}</dl>
</header>
<main>
{"".join(sections)}
</main>
</html>
"""


def _gallery(manifest: Manifest, out: Path) -> Iterable[str]:
    groups: dict[str, list[Picture]] = {}
    for picture in manifest.pictures:
        groups.setdefault(picture.group, []).append(picture)
    for name, pictures in groups.items():
        note = next((each.note for each in pictures if each.note), "")
        figures = "".join(
            f'<figure><a href="{address}"><img src="{address}" alt="{caption}"></a>'
            f"<figcaption>{caption}</figcaption></figure>\n"
            for each in pictures
            for address, caption in [
                (_address(each, manifest.folder, out), html.escape(each.caption))
            ]
        )
        yield (
            f'<section><h2>{html.escape(name)}</h2><p class="note">{html.escape(note)}</p>\n'
            f'<div class="row">\n{figures}</div></section>\n'
        )


def _address(picture: Picture, folder: Path, out: Path) -> str:
    """The picture's address relative to the page; it is copied if it lies elsewhere."""
    source = (folder / picture.path).resolve()
    if not source.is_file():
        raise InputError(f"{source}: the report's picture is missing.", "Check the manifest.")
    if not source.is_relative_to(out.parent):
        beside = out.parent / f"{out.stem}_files"
        beside.mkdir(exist_ok=True)
        target = beside / f"{source.parent.name}-{source.name}"
        shutil.copyfile(source, target)
        source = target
    return html.escape(source.relative_to(out.parent).as_posix())


def _timings(timings: tuple[Timing, ...]) -> str:
    if not timings:
        return ""
    longest = max(max(each.seconds for each in timings), 1e-9)
    rows = "".join(
        f"<tr><td>{html.escape(each.group)}</td><th scope=row>{html.escape(each.stage)}</th>"
        f"<td class=number>{duration(each.seconds)}</td>"
        f'<td class=bar><i style="width:{100 * each.seconds / longest:.1f}%"></i></td></tr>\n'
        for each in timings
    )
    total = duration(sum(each.seconds for each in timings))
    return (
        f"<section><h2>Time by stage</h2><table class=timings>\n{rows}"
        f"<tr class=total><td></td><th scope=row>in all</th><td class=number>{total}</td>"
        f"<td></td></tr></table></section>\n"
    )


def _table(table: Mapping[str, Mapping[str, float]], baselines: set[str]) -> str:
    shown = [each for each in MEASURES if any(each.name in column for column in table.values())]
    if not shown:
        return ""
    head = "".join(f"<th scope=col>{html.escape(label)}</th>" for label in table)
    rows, meanings = "", ""
    for each in shown:
        values = {label: column.get(each.name) for label, column in table.items()}
        rivals = {label: v for label, v in values.items() if v is not None}
        for label in baselines:
            rivals.pop(label, None)
        pick = min if each.better == "lower" else max
        best = pick(rivals.values()) if len(set(rivals.values())) > 1 else None
        cells = "".join(
            _cell(value, label in rivals and value == best) for label, value in values.items()
        )
        arrow = "↓" if each.better == "lower" else "↑"
        rows += (
            f"<tr><th scope=row>{html.escape(each.title)} {arrow}"
            f"<small>{html.escape(each.unit)}</small></th>{cells}</tr>\n"
        )
        meanings += (
            f"<dt>{html.escape(each.title)}</dt><dd>{html.escape(each.meaning)} "
            f"({html.escape(each.source)}).</dd>\n"
        )
    return (
        "<section><h2>Measures</h2>"
        '<p class="note">↓ lower is better, ↑ higher is better; the best of a row is bold. '
        "Numbers help to compare, they do not see: look at the pictures first.</p>\n"
        f"<table class=measures><thead><tr><th></th>{head}</tr></thead>\n<tbody>{rows}</tbody>"
        f"</table>\n<dl class=meanings>{meanings}</dl></section>\n"
    )


def _cell(value: float | None, best: bool) -> str:
    text = "–" if value is None else f"{value:.2f}"
    return f"<td class=number>{f'<b>{text}</b>' if best else text}</td>"
