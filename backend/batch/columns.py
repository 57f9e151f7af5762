"""The columns of a batch's manifest: the fields of its jobs, under names of their own."""

from __future__ import annotations

import dataclasses

from backend.jobs import RestyleJob, TrainJob

__all__ = ["COLUMNS", "RESTYLE", "TRAIN"]

# Columns by the job fields they fill. `base` serves both jobs.
RESTYLE = {
    "kind" if each.name == "embroidery" else each.name: each.name
    for each in dataclasses.fields(RestyleJob)
    if each.name not in ("style", "out")
}
TRAIN = {
    {"mask": "reference_mask", "seed": "train_seed"}.get(each.name, each.name): each.name
    for each in dataclasses.fields(TrainJob)
    if each.name != "out"
}
COLUMNS = tuple(dict.fromkeys(["input", "style", "reference", *RESTYLE, *TRAIN]))
