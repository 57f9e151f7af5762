"""The report: report.json, and report.html with pictures first, then tables; no scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backend.evaluation.benchmark.methods import OURS
from backend.evaluation.benchmark.store import Store
from backend.terminal import duration

__all__ = ["write_page"]

_HERE = Path(__file__).parent
_STYLES = (_HERE.parent / "report.css", _HERE / "page.css")
_SIGNS = {"better": "▼", "worse": "▲", "tied": "≈", "unknown": ""}
_TITLES = {"style": "Style", "colour": "Colour", "content": "Content", "words": "Words"}

Report = Mapping[str, Any]


def write_page(store: Store, report: Report) -> Path:
    """Write both files; the page's path.

    Raises:
        ResourceError: they cannot be written.
    """
    store.write("report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    store.write("report.html", _page(store, report))
    return store.folder / "report.html"


def _page(store: Store, report: Report) -> str:
    style = "\n".join(path.read_text(encoding="utf-8") for path in _STYLES)
    facts = {
        "profile": report["profile"],
        "base": report["base"]["hash"],
        "references": len(report["references"]),
        "designs": len(report["designs"]),
        "prompts": len(report["prompts"]),
        "seed": report["seed"],
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{_text(facts[name])}</dd></div>" for name in facts)
    how = (
        "Quick: few references and little training. It shows that everything runs; its figures "
        "rank nothing."
        if report["quick"]
        else "Methods are configurations of one program; they share references, designs and seeds."
    )
    sections = [
        *_grids(store, report),
        *_word_grids(report),
        _methods(report),
        *(_measured(report, group) for group in ("style", "colour", "content")),
        _bands(report),
        _words(report),
        _verdicts(report),
        _definitions(report),
    ]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stitchwork benchmark</title>
<style>
{style}</style>
<header>
<h1>Benchmark</h1>
<p>{how}</p>
<dl>{shown}</dl>
</header>
<main>
{"".join(sections)}
</main>
</html>
"""


def _grids(store: Store, report: Report) -> Iterable[str]:
    methods = [each for each in report["methods"]]
    pictures = {
        (each["reference"], each["method"], each["design"]): each["picture"]
        for each in report["cells"]
    }
    for reference in report["references"]:
        name = reference["name"]
        columns = ["design", *(["true answer"] if reference["known"] else [])]
        columns += [each["title"] for each in methods]
        rows = []
        for design in report["designs"]:
            files = [f"designs/{design['name']}.png"]
            if reference["known"]:
                files.append(f"truth/{name}/{design['name']}.png")
            files += [pictures[name, each["name"], design["name"]] for each in methods]
            rows.append((design["subject"], files))
        known = (
            "Its look is known, so the true answer to every design is."
            if reference["known"]
            else "A photo: what the designs would truly look like in it is not known."
        )
        pair = f"styles/{name}/{OURS}"
        figures = "".join(
            f"<figure>{_image(path, caption)}<figcaption>{caption}</figcaption></figure>"
            for path, caption in (
                (f"{pair}/reference.png", "reference"),
                (f"{pair}/design.png", "its design, as found"),
            )
            if (store.folder / path).is_file()
        )
        yield (
            f"<section><h2>{_text(reference['title'])}</h2><p class=note>{known}</p>"
            f"<div class=known>{figures}</div>{_grid(columns, rows)}</section>\n"
        )


def _word_grids(report: Report) -> Iterable[str]:
    pictures = {
        (each["reference"], each["method"], each["prompt"]): each["picture"]
        for each in report["drawn"]
    }
    methods = [each for each in report["methods"] if each["text"]]
    drawn = {reference for reference, *_ in pictures}
    for reference in report["references"]:
        if reference["name"] not in drawn:
            continue
        rows = [
            (prompt, [pictures[reference["name"], each["name"], prompt] for each in methods])
            for prompt in report["prompts"]
        ]
        title = f"From words: {reference['title']}"
        grid = _grid([each["title"] for each in methods], rows)
        yield f"<section><h2>{_text(title)}</h2><p class=note></p>{grid}</section>\n"


def _grid(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th scope=col>{_text(each)}</th>" for each in columns)
    body = "".join(
        f"<tr><th scope=row>{_text(title)}</th>"
        + "".join(f"<td>{_image(file, title)}</td>" for file in files)
        + "</tr>\n"
        for title, files in rows
    )
    return (
        f"<div class=scroll><table class=grid><thead><tr><th></th>{head}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>"
    )


def _methods(report: Report) -> str:
    entries = ""
    for each in report["methods"]:
        trained = each.get("training_seconds")
        took = "" if trained is None else f" Training: {duration(trained)} on average."
        entries += f"<dt>{_text(each['title'])}</dt><dd>{_text(each['meaning'])}.{took}</dd>\n"
    return f"<section><h2>Methods</h2><dl class=meanings>{entries}</dl></section>\n"


def _measured(report: Report, group: str) -> str:
    note = (
        "Mean over references, and its 95% bootstrap interval. ▼ marks a method that ours is "
        "better than, ▲ one that ours is worse than, ≈ neither beyond chance (pairs of the same "
        "reference and design). Without a mark there are too few pairs to tell."
    )
    table = _numbers(report, report["summary"], report["against_ours"], group)
    return f"<section><h2>{_TITLES[group]}</h2><p class=note>{note}</p>{table}</section>\n"


def _words(report: Report) -> str:
    if not report["words"]:
        return ""
    parts = [
        _numbers(report, report["words"], report["words_against_ours"], group)
        for group in ("style", "colour", "words")
    ]
    note = (
        "Pictures drawn from words, measured as above; from the reference's colours they should "
        "keep their distance."
    )
    return f"<section><h2>From words</h2><p class=note>{note}</p>{''.join(parts)}</section>\n"


def _numbers(
    report: Report, table: Mapping[str, Any], against: Mapping[str, Any], group: str
) -> str:
    methods = [each for each in report["methods"] if each["name"] in table]
    rows = ""
    for measure in report["measures"]:
        name = measure["name"]
        if measure["group"] != group or not any(name in table[each["name"]] for each in methods):
            continue
        arrow = "↓" if measure["better"] == "lower" else "↑"
        cells = ""
        for each in methods:
            verdict = against.get(each["name"], {}).get(name, {}).get("ours_is", "")
            cells += _number(table[each["name"]].get(name), verdict)
        rows += (
            f"<tr><th scope=row>{_text(measure['title'])} {arrow}"
            f"<small>{_text(measure['unit'])}</small></th>{cells}</tr>\n"
        )
    if not rows:
        return ""
    head = "".join(f"<th scope=col>{_text(each['title'])}</th>" for each in methods)
    return (
        f"<div class=scroll><table class=numbers><thead><tr><th></th>{head}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _number(value: Mapping[str, float] | None, verdict: str) -> str:
    if value is None:
        return "<td class=number>–</td>"
    sign = f" <i class={verdict}>{_SIGNS[verdict]}</i>" if verdict else ""
    return (
        f"<td class=number>{value['mean']:.2f}{sign}"
        f"<small>{value['low']:.2f} to {value['high']:.2f}</small></td>"
    )


def _bands(report: Report) -> str:
    titles = {each["name"]: each["title"] for each in report["methods"]}
    bands = report["bands"]
    first = [each for each in ("reference", "true answer") if each in bands]
    columns = [*first, *(each for each in titles if each in bands)]
    if not columns:
        return ""
    head = "".join(f"<th scope=col>{_text(titles.get(each, each))}</th>" for each in columns)
    rows = "".join(
        f"<tr><th scope=row>{_text(band)}</th>"
        + "".join(f"<td class=number>{bands[each][band]:.2f}</td>" for each in columns)
        + "</tr>\n"
        for band in bands[columns[0]]
    )
    return (
        "<section><h2>Absolute band energies</h2><p class=note>Contrast of lightness (RMS, CIELAB "
        "L) by period, mean over references and designs; true answers are known for rendered "
        "references only. HFRD alone deceives: a picture that loses its light and shade gains "
        f"share without a stitch.</p><div class=scroll><table class=numbers><thead><tr><th></th>"
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></section>\n"
    )


def _verdicts(report: Report) -> str:
    titles = {each["name"]: each["title"] for each in report["methods"]}
    measures = {each["name"]: each["title"] for each in report["measures"]}
    items = []
    for each in report["targets"]:
        worse = "; ".join(
            f"worse than {titles[case['than']]} in {measures[case['measure']]}"
            for case in each["ours_is_worse"]
        )
        says = "ours is best or tied among the learned methods" if each["holds"] else worse
        if each["holds"] is None:
            says = "too few pairs to tell"
        items.append(f"{_TITLES[each['group']]}: {says}.")
    items += [
        f"Against “{titles[each['method']]}”, in {measures[each['measure']]}, which its missing "
        f"part is for: ours is {each['ours_is']}."
        for each in report["ablations"]
    ]
    listed = "".join(f"<li>{_text(each)}</li>" for each in items)
    return f"<section><h2>Targets</h2><ul>{listed}</ul></section>\n"


def _definitions(report: Report) -> str:
    entries = "".join(
        f"<dt>{_text(each['title'])}</dt><dd>{_text(each['meaning'])} "
        f"({_text(each['source'])}).</dd>\n"
        for each in report["measures"]
    )
    notes = [
        f"{each} is not installed, so it was not measured; nothing is downloaded for it."
        for each in report["not_installed"]
    ]
    notes += [f"Left out: {name}. {why}" for name, why in report["left_out"].items()]
    paragraphs = "".join(f"<p>{_text(each)}</p>" for each in notes)
    return (
        "<section><h2>What is measured</h2><p class=note>Style is measured on the artwork alone. "
        "Intervals: percentile bootstrap over references and the designs of each.</p>"
        f"<dl class=meanings>{entries}</dl>{paragraphs}</section>\n"
    )


def _image(file: str, shows: str) -> str:
    address = html.escape(quote(file))
    return f'<a href="{address}"><img src="{address}" alt="{_text(shows)}" loading="lazy"></a>'


def _text(value: object) -> str:
    return html.escape(str(value))
