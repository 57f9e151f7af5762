"""The three jobs of the panel, made from what the scene says, and what follows each.

Every function returns a `Task` and changes nothing before its `finish` is called, except that the
patch is baked first where a job needs the bake.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..garment import patches
from ..garment.apply import apply_patch
from ..garment.bake import BakedPatch, bake_patch, patch_id
from ..garment.errors import GarmentError
from ..garment.region import words
from ..wording import do
from .client import LinkError
from .folders import data_folder, import_file, import_folder, local_path
from .jobs import GenerateJob, JobError, PreviewJob, RestyleJob, Result, TrainJob
from .polling import session
from .session import Task

__all__ = [
    "active_patch",
    "bake",
    "preview_task",
    "read_style",
    "restyle_task",
    "train_task",
    "use_style",
]


def active_patch(obj: bpy.types.Object | None) -> Any:
    """The chosen patch of a garment, or None."""
    if obj is None or obj.type != "MESH":
        return None
    patches, index = obj.stitchwork.patches, obj.stitchwork.active_patch
    return patches[index] if 0 <= index < len(patches) else None


def read_style(folder: Path) -> dict[str, Any]:
    """A trained style's `style.json`.

    Raises:
        LinkError: the folder is no style of embroidery, or its description is damaged.
    """
    try:
        data = json.loads((folder / "style.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LinkError(
            f"{folder} is not a trained style.", "Train one, or choose another folder."
        ) from error
    if not isinstance(data, dict):
        raise LinkError(f"{folder} is a damaged style.", "Train it again.")
    task = data.get("task", "embroidery")  # older styles know no other
    if task != "embroidery":
        raise LinkError(
            f"{folder.name} is a style of {task}.", "Garments take styles of embroidery."
        )
    return data


def use_style(patch: Any, folder: Path) -> None:
    """Give a patch a trained style; with it the patch takes the style's thread width in pixels.

    A style from elsewhere is copied into the library, where the backend may read it.

    Raises:
        LinkError: the folder is no style, or cannot be copied.
    """
    read_style(folder)
    patch.style = str(import_folder(folder, session.roots))


def train_task(
    scene: bpy.types.Scene,
    patch: Any = None,
    *,
    obj: bpy.types.Object | None = None,
    out: Path | None = None,
    prompt: str = "",
    then: Callable[[bpy.types.Object, Any], None] | None = None,
    **options: Any,
) -> Task:
    """Learn the scene's reference photo; afterwards `patch` of `obj` uses the new style.

    Args:
        out: folder of the style; a new one in the add-on's library if absent.
        prompt: what the style will draw; the patch's words if absent.
        then: called with `obj` and `patch` after success.
        options: further fields of `TrainJob` (seed, steps_one, …); None stands for its default.

    Raises:
        LinkError: the photo is missing or unreadable, or an option is out of range.
    """
    shown = scene.stitchwork
    reference = import_file(shown.reference, "reference photo")
    design = import_file(shown.design, "design image") if shown.design else None
    folder = out or _new_style_folder(local_path(shown.reference).stem)
    job = _checked(
        TrainJob,
        reference=str(reference),
        design=str(design) if design else None,
        out=str(folder),
        profile=shown.profile,
        # What cannot be drawn is refused now, not after the training.
        prompt=prompt or (words(patch) if patch is not None else "") or None,
        **options,
    )
    target = _Target(obj, patch)
    scene_name = scene.name

    def finish(result: Result) -> str:
        style = Path(result.outputs.get("style", folder))
        if scene_name in bpy.data.scenes:
            bpy.data.scenes[scene_name].stitchwork.style = str(style)
        if target.chosen:
            found, its_patch = target.find(f"The style is in {style}.")
            use_style(its_patch, style)
            if then is not None:
                then(found, its_patch)
        return f"The style “{style.name}” is trained ({_minutes(result)})."

    return Task("Training", job, finish)


def restyle_task(
    scene: bpy.types.Scene,
    obj: bpy.types.Object,
    patch: Any,
    *,
    out: Path | None = None,
    **options: Any,
) -> Task:
    """Bake a patch at its density and embroider it in its style; afterwards it is applied.

    Args:
        out: picture to write; beside the bake if absent.
        options: further fields of `RestyleJob`; None stands for its default. A patch with words
            takes those that `GenerateJob` has, too.

    Raises:
        LinkError: the patch has no usable style, cannot be baked, or an option is out of range.
    """
    chosen = patch.style or scene.stitchwork.style
    if not chosen:
        raise LinkError("The patch has no style.", "Train one, or choose a trained style.")
    use_style(patch, local_path(chosen))
    baked = bake(obj, patch)
    options |= {
        "style": patch.style,
        "mask": str(import_file(patch.mask_path, "coverage mask")),
        "out": str(out or _result_path(patch, "embroidered")),
    }
    job = _from_words(words(patch), options) if words(patch) else _from_bake(patch, options)
    return Task(
        "Embroidering",
        job,
        _apply_to(_Target(obj, patch), "is embroidered", job.out, baked.warnings),
        caution=patches.caution(patch, scene.stitchwork.max_side),
    )


def _from_bake(patch: Any, options: dict[str, Any]) -> RestyleJob:
    job: RestyleJob = _checked(
        RestyleJob, input=str(import_file(patch.bake_path, "bake")), **options
    )
    return job


def _from_words(prompt: str, options: dict[str, Any]) -> GenerateJob:
    """A motif somewhere in the mask, with nothing around it; only artwork has a strength."""
    known = {each.name for each in dataclasses.fields(GenerateJob)}
    taken = {name: value for name, value in options.items() if name in known}
    job: GenerateJob = _checked(GenerateJob, prompt=prompt, ground="none", **taken)
    return job


def preview_task(
    scene: bpy.types.Scene,
    obj: bpy.types.Object,
    patch: Any,
    *,
    out: Path | None = None,
    **options: Any,
) -> Task:
    """Bake a patch and give it a first look from the reference photo, without training.

    Raises:
        LinkError: the photo is missing, the patch has words or cannot be baked, or an option is out
            of range.
    """
    if words(patch):
        raise LinkError("A first look cannot draw words.", do("train", "no_words"))
    shown = scene.stitchwork
    reference = import_file(shown.reference, "reference photo")
    design = import_file(shown.design, "design image") if shown.design else None
    baked = bake(obj, patch)
    job = _checked(
        PreviewJob,
        reference=str(reference),
        design=str(design) if design else None,
        input=str(import_file(patch.bake_path, "bake")),
        mask=str(import_file(patch.mask_path, "coverage mask")),
        out=str(out or _result_path(patch, "preview")),
        **options,
    )
    return Task(
        "First look",
        job,
        _apply_to(_Target(obj, patch), "shows a first look", job.out, baked.warnings),
        caution=patches.caution(patch, scene.stitchwork.max_side),
    )


def bake(obj: bpy.types.Object, patch: Any) -> BakedPatch:
    """Bake a patch into the add-on's folder; a garment's refusal becomes a LinkError."""
    try:
        return bake_patch(obj, patch, data_folder("bakes", patch_id(patch)))
    except GarmentError as error:
        raise LinkError(error.message, error.remedy) from error


class _Target:
    """Finds a patch again minutes later: undo and file loading replace Blender's objects."""

    def __init__(self, obj: bpy.types.Object | None, patch: Any) -> None:
        self._object = obj.session_uid if obj is not None else 0
        self._patch = patch_id(patch) if patch is not None else ""
        self._name = f"{patch.name} of {obj.name}" if obj is not None and patch is not None else ""

    @property
    def chosen(self) -> bool:
        return bool(self._name)

    def find(self, kept: str) -> tuple[bpy.types.Object, Any]:
        """The object and patch; raises a LinkError that says where the result was kept."""
        for obj in bpy.data.objects:
            if obj.session_uid == self._object:
                for patch in obj.stitchwork.patches:
                    if patch.uid == self._patch:
                        return obj, patch
        raise LinkError(f"{self._name} is no longer there.", kept)


def _apply_to(
    target: _Target, did: str, out: str, warnings: tuple[str, ...]
) -> Callable[[Result], str]:
    def finish(result: Result) -> str:
        image = result.outputs.get("image", out)
        obj, patch = target.find(f"The picture is {image}.")
        try:
            apply_patch(obj, patch, image)
        except GarmentError as error:
            raise LinkError(error.message, error.remedy) from error
        said = f"{patch.name} of {obj.name} {did} ({_minutes(result)})."
        return " ".join([said, *(f"Note: {each}" for each in warnings)])

    return finish


def _checked(kind: type[Any], **fields: Any) -> Any:
    try:
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except JobError as error:
        raise LinkError(f"This cannot be done: {error}") from error


def _minutes(result: Result) -> str:
    seconds = sum(result.seconds.values())
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _new_style_folder(stem: str) -> Path:
    base = re.sub(r"[^\w-]+", "-", stem).strip("-").lower() or "style"
    library, name, count = data_folder("styles"), base, 1
    while (library / name).exists():
        count += 1
        name = f"{base}-{count}"
    return library / name


def _result_path(patch: Any, what: str) -> Path:
    """A fresh name each time, so that Undo finds the earlier picture still there."""
    folder, count = data_folder("results", patch_id(patch)), 1
    while (folder / f"{what}-{count:03}.png").exists():
        count += 1
    return folder / f"{what}-{count:03}.png"
