"""One row of a batch's manifest: what it asks for, or all that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from backend import tasks
from backend.batch.columns import COLUMNS, GENERATE, RESTYLE, TRAIN
from backend.errors import StitchworkError, StyleError
from backend.imaging.files import picture_size
from backend.jobs import GenerateJob, Job, JobError, RestyleJob, TrainJob
from backend.models import profiles
from backend.models.motif_words import check_words
from backend.styles import is_style, read_description

__all__ = ["Row", "absolute", "check_row"]

_PICTURES = ("input", "mask", "reference", "design", "reference_mask")
J = TypeVar("J", bound=Job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture to make.

    Attributes:
        label: where it stands in the manifest, such as "row 2" (a spreadsheet's numbers).
        job: what makes it.
        fields: of that job but style and out; paths are absolute.
        style: folder of a trained style; None where one is to be trained.
        train: fields of the TrainJob but out; None where a style is given.
        profile: of the style.
    """

    label: str
    job: type[RestyleJob] | type[GenerateJob]
    fields: dict[str, Any]
    style: str | None
    train: dict[str, Any] | None
    profile: str


def check_row(label: str, cells: Mapping[str, Any], folder: Path, wrong: list[str]) -> Row | None:
    """A row, or None and what is wrong with it."""
    cells = dict(cells)
    wrong += [f"there is no column {name!r}." for name in cells if name not in COLUMNS]
    for name in ("style", *_PICTURES):
        if name in cells:
            cells[name] = _path(name, cells[name], folder, wrong)
    wrong += _misplaced(cells)
    if wrong:
        return None
    for name in ("base", "base_config", "designer"):
        place = cells.get(name)
        if isinstance(place, str) and os.path.exists(absolute(place, folder)):
            cells[name] = absolute(place, folder)
    job, columns = _making(cells)
    fields = {field: cells[name] for name, field in columns.items() if name in cells}
    train = {field: cells[name] for name, field in TRAIN.items() if name in cells}
    style = cells.get("style")
    picture = _accepted(job, {**fields, "style": style or "", "out": ""}, columns, wrong)
    training = None
    if style is None:
        training = _accepted(TrainJob, {**train, "out": ""}, TRAIN, wrong)
    if picture is None or (style is None and training is None):
        return None
    try:
        if training is not None:
            tasks.check_reference(training)
            known = {"name": "to be trained", "task": training.task, "profile": training.profile}
        else:
            known = read_description(str(style))
        tasks.check_style(picture, known["name"], known["task"])
    except StitchworkError as error:
        wrong.append(error.message)
        return None
    profile = known["profile"]
    if profile not in profiles.names():
        wrong.append(f"profile: {profile!r} is none of {', '.join(profiles.names())}.")
    elif isinstance(picture, GenerateJob):
        wrong += _unknown_words(picture, profile)
    if wrong:
        return None
    return Row(
        label=label,
        job=job,
        fields=fields,
        style=style,
        train=None if style else train,
        profile=profile,
    )


def _making(
    cells: Mapping[str, Any],
) -> tuple[type[RestyleJob] | type[GenerateJob], Mapping[str, str]]:
    """The job that makes a row's picture, and its columns."""
    return (GenerateJob, GENERATE) if "prompt" in cells else (RestyleJob, RESTYLE)


def _misplaced(cells: Mapping[str, Any]) -> list[str]:
    """What of a row does not go together, whatever its values."""
    wrong = []
    words, (_, columns) = "prompt" in cells, _making(cells)
    if ("input" in cells) == words:
        wrong.append("give either an input (a picture) or a prompt (words).")
    else:
        others = RESTYLE if words else GENERATE
        strange = [name for name in cells if name in others and name not in {*columns, *TRAIN}]
        if strange:
            only = "an input, not for a prompt" if words else "a prompt, not for an input"
            wrong.append(f"{', '.join(strange)}: only for {only}.")
    if ("style" in cells) == ("reference" in cells):
        wrong.append("give either a style (a trained style's folder) or a reference (a photo).")
    own = [name for name in cells if name in TRAIN and name not in columns and name != "reference"]
    if own and "style" in cells:
        wrong.append(f"{', '.join(own)}: only a reference is trained, a style is trained already.")
    return wrong


def _unknown_words(job: GenerateJob, profile: str) -> list[str]:
    """Why a base that knows its motifs by name cannot draw a prompt; others draw any."""
    try:
        check_words(job.prompt, job.base or profiles.get(profile).folder)
    except StitchworkError as error:
        return [f"prompt: {error}"]
    return []


def _path(name: str, value: Any, folder: Path, wrong: list[str]) -> Any:
    if not isinstance(value, str) or "\0" in value:
        wrong.append(f"{name}: {value!r} is no path.")
        return value
    path = Path(absolute(value, folder))
    if name == "style":
        try:
            if not is_style(path):
                wrong.append(f"style: {value}: there is no trained style.")
            else:
                read_description(path)
        except StyleError as error:
            wrong.append(f"style: {error.message}")
    elif not os.path.isfile(path):
        wrong.append(f"{name}: {value}: there is no such file.")
    elif picture_size(path) is None:
        wrong.append(f"{name}: {value}: this is not a picture that can be read.")
    return str(path)


def absolute(path: str, folder: Path) -> str:
    """A path as seen from the manifest's folder."""
    # Not of pathlib, which has errors for unknown users and names that are too long.
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))


def _accepted(
    job: type[J], fields: dict[str, Any], columns: Mapping[str, str], wrong: list[str]
) -> J | None:
    try:
        return job(**fields)
    except JobError as error:
        field, _, rest = str(error).partition(":")
        names = {field: name for name, field in columns.items()}
        wrong.append(f"{names.get(field, field)}:{rest}")
        return None
