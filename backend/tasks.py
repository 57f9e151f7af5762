"""What a style is of: embroidery, or one of the paper's three other tasks.

A task is a pair and what follows from it: which picture is the design and which the reference, the
words, the blocks, and what image input starts from. It changes settings of a profile, and nothing
else anywhere asks for a task's name.

    task        design                      reference           image input
    embroidery  flat artwork                photo of it, sewn   flat artwork
    painting    photo, or a smooth picture  painting            photo
    sketch      the reference's Canny map   coloured picture    sketch
    appearance  the reference's Canny map   picture of a thing  picture whose outlines are kept
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from backend.errors import InputError, StyleError
from backend.jobs import AnalyseJob, GenerateJob, RestyleJob, TrainJob
from backend.models.profiles import Profile
from backend.models.settings import ATTENTION_BLOCKS, KindSettings

__all__ = ["Task", "check_reference", "check_style", "get", "names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: as in `backend.jobs.TASKS`.
        design: what the pair's design is; see `PairSettings`.
        reads: what image input becomes first; see `InferenceSettings`.
        conditions: of image input; None: the profile's own, by the kind of the embroidery.
        subject, word: in the prompts "a {subject}" and "a {subject} in [{word}] style".
        added, negative: to the subject when the models draw a design.
    """

    name: str
    design: Literal["artwork", "smooth", "lines"] = "artwork"
    reads: Literal["picture", "drawing", "edges"] = "picture"
    conditions: KindSettings | None = None
    subject: str = ""
    word: str = ""
    added: str = ""
    negative: str = ""

    @property
    def fills_lines(self) -> bool:
        """Whether the style colours lines: its design is never given, and words are no input."""
        return self.design == "lines"

    def settings(self, profile: Profile) -> Profile:
        """The profile for this task; that of embroidery as it is. Once more changes no more."""
        if self.conditions is None:
            return profile
        trigger = f"in [{self.word}] style"
        pair = replace(
            profile.pair,
            design=self.design,
            prompt=self.added or profile.pair.prompt,
            negative=self.negative or profile.pair.negative,
            # No motif on cloth and no thread to go by: the picture as a whole, in one window.
            located=False,
            thread_px=0.0,
            whole=True,
            largest=1.0,
            # Here a reference's colours belong to its style.
            recoloured=1,
        )
        training, inference = profile.training, replace(profile.inference, reads=self.reads)
        complementary = profile.complementary
        if self.fills_lines:
            training = replace(
                training,
                canny_scale=self.conditions.canny_scale,
                tile_scale=self.conditions.tile_scale,
            )
            # The noise that SDEdit starts from shows its picture's colour: black, of lines.
            inference = replace(inference, start="colour")
            # Nor can the preview sew lines.
            source = "drawn" if complementary.source == "sewn" else complementary.source
            complementary = replace(complementary, source=source, strength=self.conditions.strength)
        return replace(
            profile,
            subject=self.subject,
            embroidery_prompt=f"a {{subject}} {trigger}",
            trigger=trigger,
            pair=pair,
            training=training,
            complementary=complementary,
            flat=self.conditions,
            relief=self.conditions,
            inference=inference,
        )


# Lines alone lead: they have no colours that Tile or a start could keep.
_LINES = KindSettings(canny_scale=1.0, tile_scale=0.0, strength=1.0, colour_correction="none")
_TASKS = {
    each.name: each
    for each in (
        Task(name="embroidery"),
        Task(
            name="painting",
            design="smooth",
            conditions=KindSettings(colour_correction="none"),
            subject="scene",
            word="paint",
            added="photo, realistic photograph, natural light, smooth surfaces, high quality",
            negative="painting, brush strokes, canvas, lowres, bad anatomy, cropped, "
            "worst quality, low quality",
        ),
        Task(
            name="sketch",
            design="lines",
            reads="drawing",
            conditions=_LINES,
            subject="drawing",
            word="colour",
        ),
        Task(
            name="appearance",
            design="lines",
            reads="edges",
            conditions=_LINES,
            subject="thing",
            word="look",
        ),
    )
}


def names() -> tuple[str, ...]:
    """Names of all tasks."""
    return tuple(_TASKS)


def get(name: str) -> Task:
    """The task called `name`, one of `names()`."""
    return _TASKS[name]


def check_reference(job: TrainJob | AnalyseJob) -> None:
    """Refuse what does not go together, before any work.

    Raises:
        InputError: a design is given where the task draws it from the reference, or a block is
            named that no base model has.
    """
    if isinstance(job, TrainJob) and job.blocks not in ("auto", "paper", "all"):
        wanted = [name.strip() for name in job.blocks.split(",") if name.strip()]
        unknown = [name for name in wanted if name not in ATTENTION_BLOCKS]
        if unknown or not wanted:
            raise InputError(
                f"blocks: there is no block {', '.join(unknown) or 'without a name'}.",
                f"Use auto, paper, all, or names out of: {', '.join(ATTENTION_BLOCKS)}.",
            )
    if get(job.task).fills_lines and job.design is not None:
        raise InputError(
            f"design: {job.task} takes the lines of its pair from the reference itself.",
            "Leave the design out.",
        )


def check_style(job: RestyleJob | GenerateJob, name: str, task: str) -> None:
    """Refuse a style that was trained for another task than the job is.

    Args:
        name, task: of the style.

    Raises:
        StyleError: the style is of another task.
        InputError: an option means nothing for a style of this task.
    """
    if isinstance(job, GenerateJob):
        if get(task).fills_lines:
            raise StyleError(
                f"The style {name!r} is of {task}: it fills given lines, and words give none.",
                "Use restyle with an image, or a style of embroidery or painting.",
            )
        return
    if job.task is not None and job.task != task:
        raise StyleError(
            f"The style {name!r} is of {task}, not of {job.task}.",
            f"Leave the task out, or choose a style trained with task {job.task}.",
        )
    if task != "embroidery" and job.embroidery != "auto":
        raise InputError(
            f"kind: {job.embroidery} is a kind of embroidery; the style {name!r} is of {task}.",
            "Leave the kind out.",
        )
    if get(task).fills_lines and job.start == "preview":
        raise InputError(
            f"start: the preview sews artwork; the style {name!r} is of {task} and fills lines.",
            "Leave the start out.",
        )
