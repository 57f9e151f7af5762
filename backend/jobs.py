"""The one typed definition of a job, its progress and its result.

Shared by the command line, the HTTP service and the Blender add-on (which links to this very
file), so it uses the standard library only. Paths are strings; a door makes them absolute.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any, ClassVar, Self

__all__ = [
    "JOB_TYPES",
    "NOTE",
    "PROTOCOL_VERSION",
    "SCHEMA_VERSION",
    "TASKS",
    "AnalyseJob",
    "GenerateJob",
    "Job",
    "JobError",
    "JobState",
    "JobStatus",
    "ModelJob",
    "PreviewJob",
    "Progress",
    "RestyleJob",
    "Result",
    "TrainJob",
    "job_from_dict",
    "job_to_dict",
]

SCHEMA_VERSION = 1
PROTOCOL_VERSION = 1
# The stage of a progress that only says something worth keeping.
NOTE = "note"
# What a style may be of; `backend.tasks` says what each means.
TASKS = ("embroidery", "painting", "sketch", "appearance")


class JobError(ValueError):
    """A job's fields are unknown, missing, of the wrong type or out of range."""


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    path: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A job field; its help is the command line's help and the panel's tooltip.

    Args:
        path: "read" or "write" where the field is a path, so that doors can check it.
    """
    limits = {"minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata={"help": help, "path": path, **limits})


def _accepts(annotation: Any, value: Any) -> bool:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return any(_accepts(each, value) for each in typing.get_args(annotation))
    if annotation is float:
        # JSON as Python reads it knows NaN, which would slip through every range.
        return _accepts(int, value) or (isinstance(value, float) and isfinite(value))
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


class _Checked:
    """Checks types, ranges and choices of a dataclass made of `option` fields."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if not _accepts(hints[each.name], value):
                raise JobError(f"{each.name}: {value!r} is not of type {each.type}.")
            if value is None:
                continue
            low, high = each.metadata.get("minimum"), each.metadata.get("maximum")
            if low is not None and value < low:
                raise JobError(f"{each.name}: {value} is below the minimum {low}.")
            if high is not None and value > high:
                raise JobError(f"{each.name}: {value} is above the maximum {high}.")
            choices = each.metadata.get("choices")
            if choices and value not in choices:
                raise JobError(f"{each.name}: {value!r} is none of {', '.join(choices)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJob(_Checked):
    """What all jobs that compute on a base model have in common."""

    base: str | None = option(
        None, help="hub id, folder or .safetensors file in place of the profile's base model"
    )
    base_config: str | None = option(
        None,
        help="folder with configuration and tokenizers for a .safetensors base; "
        "the hub's if absent",
        path="read",
    )
    offline: bool = option(False, help="never ask the network")
    precision: str = option(
        "auto",
        help="arithmetic of the networks; the profile's own if auto",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    memory: str = option(
        "auto",
        help="GB of the GPU to get by with; the fastest that fits if auto",
        choices=("auto", "full", "24", "12", "8"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReferenceJob(ModelJob):
    """What every job has that looks at one reference and its design."""

    reference: str = option(
        help="photo of an embroidery, or the picture to learn from", path="read"
    )
    design: str | None = option(None, help="the photo's flat artwork, if owned", path="read")
    mask: str | None = option(
        None, help="white where the photo shows embroidery; found by itself if absent", path="read"
    )
    subject: str | None = option(None, help='what the photo shows, such as "red heart"')
    task: str = option(
        "embroidery",
        help="what is learnt: how a design is sewn, how a scene is painted, how a sketch is "
        "coloured, or how a thing looks",
        choices=TASKS,
    )
    profile: str = option("starter", help="base model: starter or sdxl")
    designer: str | None = option(
        None,
        help="folder of Stable Diffusion 3 and its ControlNets, which draw the photo's design for "
        "profile sdxl; the hub's cache if absent, never downloaded",
        path="read",
    )
    seed: int = option(42, help="seed of all randomness", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob(_ReferenceJob):
    """Learn a style from one photo of an embroidery, or another task from its reference."""

    kind: ClassVar[str] = "train"

    out: str = option(help="folder of the style to make", path="write")
    steps_one: int | None = option(
        None, help="stage-one steps; the profile's own if absent", minimum=1, maximum=100_000
    )
    steps_two: int | None = option(
        None, help="stage-two steps; the profile's own if absent", minimum=0, maximum=100_000
    )
    blocks: str = option(
        "auto",
        help="style blocks: auto (measured on the photo), paper, all, or names joined by commas",
    )
    soft: bool = option(
        False, help="scale each style block's LoRA by how clearly it tells style from content"
    )
    prompt: str | None = option(
        None, help="what the style will draw; refused at once if the base does not know the words"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _StyleJob(ModelJob):
    """What every job has that makes a picture in a trained style."""

    style: str = option(help="folder of a trained style", path="read")
    style_strength: float = option(1.0, help="LoRA scale", minimum=0.0, maximum=2.0)
    steps: int | None = option(None, help="denoising steps", minimum=1, maximum=1000)
    sampler: str = option(
        "auto",
        help="how the noise is taken off; the profile's own way if auto",
        choices=("auto", "ddim", "dpm++"),
    )
    guidance: float | None = option(
        None, help="classifier-free guidance scale", minimum=0.0, maximum=30.0
    )
    seed: int = option(42, help="seed of all randomness", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestyleJob(_StyleJob):
    """Embroider an image in a trained style."""

    kind: ClassVar[str] = "restyle"

    input: str = option(help="image to embroider", path="read")
    out: str = option(help="image to write (PNG)", path="write")
    mask: str | None = option(None, help="white where to embroider", path="read")
    task: str | None = option(
        None, help="what the style must have been trained for; any if absent", choices=TASKS
    )
    strength: float | None = option(
        None, help="share of the noise schedule that is redone", minimum=0.05, maximum=1.0
    )
    embroidery: str = option(
        "auto", help="kind of the embroidery", choices=("auto", "flat", "relief")
    )
    start: str = option(
        "auto",
        help="what denoising starts from: the bare design, or the instant preview",
        choices=("auto", "design", "preview"),
    )
    colours: str = option(
        "auto",
        help="what the result takes of the artwork's colours: nothing, hue and chroma (the "
        "paper's way), also the lightness of whole areas, or the colours of whole areas only",
        choices=("auto", "none", "paper", "shade", "coarse"),
    )
    max_minutes: float | None = option(
        None, help="most minutes it may take; refused before work starts", minimum=0.0
    )
    max_memory_gib: float | None = option(
        None, help="most memory it may take, GiB; what is available if absent", minimum=0.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateJob(_StyleJob):
    """Embroider a motif from words, in a trained style."""

    kind: ClassVar[str] = "generate"

    prompt: str = option(help='what to show, such as "a yellow dog"')
    out: str = option(help="image to write (PNG)", path="write")
    width: int | None = option(None, help="pixels; the profile's window", minimum=64, maximum=8192)
    height: int | None = option(None, help="pixels; the profile's window", minimum=64, maximum=8192)
    ground: str = option("cloth", help="around the motif; none: clear", choices=("cloth", "none"))
    mask: str | None = option(
        None, help="white where the motif may lie, and as large as the picture", path="read"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewJob(_Checked):
    """A first look within seconds, by patch synthesis from the reference pair; no training."""

    kind: ClassVar[str] = "preview"

    reference: str = option(help="photo of an embroidery", path="read")
    input: str = option(help="image to embroider", path="read")
    out: str = option(help="image to write (PNG)", path="write")
    design: str | None = option(None, help="the photo's flat artwork, if owned", path="read")
    mask: str | None = option(None, help="white where to embroider", path="read")
    seed: int = option(42, help="seed of all randomness", minimum=0, maximum=2**31 - 1)
    max_memory_gib: float | None = option(
        None, help="most memory it may take, GiB; what is available if absent", minimum=0.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyseJob(_ReferenceJob):
    """Measure which blocks of the base model carry a photo's style, and say why; no training."""

    kind: ClassVar[str] = "analyse"

    out: str = option(help="folder for the plot, the figures and the pair", path="write")
    inversion: str | None = option(
        None,
        help="how both images are inverted; the profile's own way if absent",
        choices=("renoise", "ddim"),
    )


Job = TrainJob | RestyleJob | GenerateJob | PreviewJob | AnalyseJob
JOB_TYPES: dict[str, type[Job]] = {
    each.kind: each for each in (TrainJob, RestyleJob, GenerateJob, PreviewJob, AnalyseJob)
}


def _from_dict(cls: type[Any], data: dict[str, Any]) -> Any:
    known = {each.name: each for each in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise JobError(f"Unknown fields for {cls.__name__}: {', '.join(unknown)}.")
    missing = [
        name
        for name, each in known.items()
        if name not in data
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise JobError(f"Missing fields for {cls.__name__}: {', '.join(missing)}.")
    return cls(**data)


def job_from_dict(data: dict[str, Any]) -> Job:
    """A job from its JSON form, `{"schema": 1, "kind": "train", ...fields}`.

    Raises:
        JobError: unknown kind or schema, unknown or missing fields, values out of range.
    """
    fields = dict(data)
    schema = fields.pop("schema", SCHEMA_VERSION)
    if isinstance(schema, bool) or schema != SCHEMA_VERSION:
        raise JobError(f"Job schema {schema!r} is not {SCHEMA_VERSION}; update the older side.")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in JOB_TYPES:
        raise JobError(f"Job kind {kind!r} is none of {', '.join(JOB_TYPES)}.")
    job: Job = _from_dict(JOB_TYPES[kind], fields)
    return job


def job_to_dict(job: Job) -> dict[str, Any]:
    """The JSON form that `job_from_dict` reads."""
    return {"schema": SCHEMA_VERSION, "kind": job.kind, **dataclasses.asdict(job)}


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a running job.

    Attributes:
        stage: name of the stage, such as "stage one"; `NOTE`: no work, only the message.
        step: steps done in this stage, 0..steps.
        steps: steps of this stage.
        seconds_left: estimate for the whole job; None while unknown.
        preview: path of the newest preview picture, if any.
    """

    stage: str
    step: int
    steps: int
    seconds_left: float | None = None
    message: str = ""
    preview: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a finished job left behind.

    Attributes:
        outputs: role → absolute path, such as {"image": "/…/out.png"} or {"style": "/…/style"}.
        measures: name → value, as recorded in the style or report.
        seconds: stage → wall seconds.
    """

    outputs: dict[str, str] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job as the service shows it."""

    id: str
    kind: str
    state: JobState
    progress: Progress | None = None
    result: Result | None = None
    error: str = ""
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        fields = dict(data)
        fields["state"] = JobState(fields["state"])
        if fields.get("progress") is not None:
            fields["progress"] = _from_dict(Progress, fields["progress"])
        if fields.get("result") is not None:
            fields["result"] = _from_dict(Result, fields["result"])
        status: Self = _from_dict(cls, fields)
        return status
