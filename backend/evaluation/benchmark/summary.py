"""From all cells to a report: means with intervals, ours against each method, the targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import backend
from backend.evaluation.benchmark.methods import OURS, Method
from backend.evaluation.benchmark.scoring import MEASURES, Score
from backend.evaluation.benchmark.sets import Reference
from backend.evaluation.benchmark.settings import QUICK, Settings
from backend.evaluation.benchmark.statistics import bootstrap
from backend.models.profiles import Profile
from backend.starter.designs import Design
from backend.styles import read_description

__all__ = ["compare", "means", "summarise", "targets"]

SCHEMA = 1
# Resampling two or three pairs that happen to agree would pass for certainty.
LEAST_PAIRS = 6
Cells = Sequence[Mapping[str, Any]]


def summarise(
    *,
    settings: Settings,
    profile: Profile,
    fingerprint: str,
    methods: Sequence[Method],
    references: Sequence[Reference],
    designs: Sequence[Design],
    prompts: Sequence[str],
    blocks: Mapping[str, Mapping[str, str]],
    cells: Cells,
    drawn: Cells,
    missing: Sequence[str],
    failed: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:
    """The whole report as report.json holds it."""
    return {
        "schema": SCHEMA,
        "version": backend.__version__,
        "profile": profile.name,
        "base": {"id": settings.base or profile.name, "hash": fingerprint},
        "quick": settings.extent == QUICK,
        "extent": asdict(settings.extent),
        "seed": settings.seed,
        "methods": [_described(each, references, folder) for each in methods],
        "references": [
            {
                "name": each.name,
                "title": each.title,
                "known": each.look is not None,
                "look": None if each.look is None else asdict(each.look),
                "blocks": blocks[each.name],
            }
            for each in references
        ],
        "designs": [{"name": each.name, "subject": each.subject} for each in designs],
        "prompts": list(prompts),
        "measures": [
            {**asdict(each.measure), "group": each.group, "target": each.target}
            for each in MEASURES
        ],
        "not_installed": list(missing),
        "left_out": dict(failed),
        "cells": list(cells),
        "drawn": list(drawn),
        "summary": means(cells, settings.seed),
        "words": means(drawn, settings.seed),
        "bands": _bands(cells),
        "against_ours": (against := compare(cells, settings.seed)),
        "words_against_ours": compare(drawn, settings.seed),
        "targets": targets(against, methods),
        "ablations": _ablations(against, methods),
    }


def _described(method: Method, references: Sequence[Reference], folder: Path) -> dict[str, Any]:
    data = {key: value for key, value in asdict(method).items() if key != "adjust"}
    if method.style is None:
        times = [
            sum(read_description(folder / "styles" / each.name / method.name)["seconds"].values())
            for each in references
        ]
        data["training_seconds"] = round(float(np.mean(times)), 1) if times else 0.0
    return data


def _grouped(cells: Cells, method: str, measure: str) -> dict[str, dict[str, float]]:
    """Reference → design or prompt → value."""
    found: dict[str, dict[str, float]] = {}
    for each in cells:
        if each["method"] == method and measure in each["measures"]:
            what = each.get("design") or each["prompt"]
            found.setdefault(each["reference"], {})[what] = each["measures"][measure]
    return found


def _methods_of(cells: Cells) -> list[str]:
    return list(dict.fromkeys(each["method"] for each in cells))


def means(cells: Cells, seed: int) -> dict[str, dict[str, Any]]:
    """Method → measure → mean with its interval."""
    table: dict[str, dict[str, Any]] = {}
    for method in _methods_of(cells):
        table[method] = {}
        for score in MEASURES:
            groups = _grouped(cells, method, score.measure.name)
            if groups:
                values = [list(each.values()) for each in groups.values()]
                table[method][score.measure.name] = asdict(bootstrap(values, seed))
    return table


def compare(cells: Cells, seed: int) -> dict[str, dict[str, Any]]:
    """Method → measure → ours less the method's in pairs, and who is better beyond chance."""
    table: dict[str, dict[str, Any]] = {}
    for method in _methods_of(cells):
        if method == OURS:
            continue
        table[method] = {}
        for score in MEASURES:
            name = score.measure.name
            ours, theirs = (_grouped(cells, each, name) for each in (OURS, method))
            if not theirs:
                continue
            pairs = [
                [ours[reference][what] - value for what, value in values.items()]
                for reference, values in theirs.items()
            ]
            interval = bootstrap(pairs, seed)
            enough = sum(len(each) for each in pairs) >= LEAST_PAIRS
            verdict = _verdict(score, interval) if enough else "unknown"
            table[method][name] = {**asdict(interval), "ours_is": verdict}
    return table


def _verdict(score: Score, interval: Any) -> str:
    low, high = interval.low, interval.high
    if score.measure.better == "higher":
        low, high = -high, -low
    if high < 0.0:
        return "better"
    return "worse" if low > 0.0 else "tied"


def _bands(cells: Cells) -> dict[str, dict[str, float]]:
    """Absolute contrast by band, mean over cells: each method's, the references', the truth's."""
    found: dict[str, dict[str, list[float]]] = {}
    for each in cells:
        for source, bands in each["bands"].items():
            column = each["method"] if source == "result" else source
            for band, value in bands.items():
                found.setdefault(column, {}).setdefault(band, []).append(value)
    return {
        column: {band: float(np.mean(values)) for band, values in bands.items()}
        for column, bands in found.items()
    }


def targets(
    against: Mapping[str, Mapping[str, Any]], methods: Iterable[Method]
) -> list[dict[str, Any]]:
    """Per group of measures: whether ours is best or tied among what learns; None if unknown."""
    rivals = [each.name for each in methods if each.learned and each.name != OURS]
    found_out = {
        each["ours_is"] for rival in rivals for each in against.get(rival, {}).values()
    } - {"unknown"}
    found = []
    for group in ("style", "colour", "content"):
        worse = [
            {"measure": score.measure.name, "than": rival}
            for score in MEASURES
            if score.group == group and score.target
            for rival in rivals
            if against.get(rival, {}).get(score.measure.name, {}).get("ours_is") == "worse"
        ]
        holds = not worse if found_out else None
        found.append({"group": group, "holds": holds, "ours_is_worse": worse})
    return found


def _ablations(
    against: Mapping[str, Mapping[str, Any]], methods: Iterable[Method]
) -> list[dict[str, Any]]:
    """Per ablation: whether ours is better in what its missing part is for."""
    return [
        {"method": each.name, "measure": name, "ours_is": against[each.name][name]["ours_is"]}
        for each in methods
        for name in each.lacks
        if name in against.get(each.name, {})
    ]
