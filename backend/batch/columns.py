"""The columns of a batch's manifest: the fields of its jobs, under names of their own."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from backend.jobs import GenerateJob, Job, RestyleJob, TrainJob

__all__ = ["COLUMNS", "GENERATE", "RESTYLE", "TRAIN", "TYPES"]

# Columns by the job fields they fill. Some, such as `base`, serve several jobs.
RESTYLE = {
    "kind" if each.name == "embroidery" else each.name: each.name
    for each in dataclasses.fields(RestyleJob)
    if each.name not in ("style", "out")
}
GENERATE = {
    each.name: each.name
    for each in dataclasses.fields(GenerateJob)
    if each.name not in ("style", "out")
}
TRAIN = {
    {"mask": "reference_mask", "seed": "train_seed"}.get(each.name, each.name): each.name
    for each in dataclasses.fields(TrainJob)
    if each.name not in ("out", "prompt")  # one style draws many rows' prompts
}
COLUMNS = tuple(
    dict.fromkeys(["input", "prompt", "style", "reference", *RESTYLE, *GENERATE, *TRAIN])
)


def _types(job: type[Job], columns: Mapping[str, str]) -> dict[str, Any]:
    hints = typing.get_type_hints(job)
    return {column: hints[field] for column, field in columns.items()}


# What the cells of a column hold; of other columns text.
TYPES = _types(TrainJob, TRAIN) | _types(GenerateJob, GENERATE) | _types(RestyleJob, RESTYLE)
