"""The whole job without an interface, step by step, and the smaller commands beside it.

Uses the same functions as the panel's operators; only the waiting differs.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy

from .garment import apply, export, patches, report, scale
from .garment.errors import GarmentError
from .garment.region import faces_rect, used_rect, words
from .garment.render import View, render_garment
from .link import polling
from .link.client import LinkError
from .link.session import Task
from .link.tasks import (
    bake,
    preview_task,
    read_style,
    restyle_task,
    train_task,
    use_style,
)
from .link.terminal import Terminal
from .preferences import settings
from .record import Record
from .scenes import choose_object, open_garment, picture, print_on, save
from .wording import do

__all__ = ["COMMANDS"]

RENDERS: tuple[tuple[str, bool, View], ...] = (
    ("before", False, "front"),
    ("after", True, "front"),
    ("closeup", True, "closeup"),
)


def _run(options: argparse.Namespace, terminal: Terminal) -> None:
    if not (options.style or options.reference):
        raise LinkError("There is nothing to learn from.", "Give --reference PHOTO or --style DIR.")
    if options.instant and not options.reference:
        raise LinkError("--instant works from a photo.", "Give --reference PHOTO as well.")
    if options.style:
        read_style(options.style.absolute())
    out = _writable(options.out)
    record = Record(out)
    obj = _open(options)
    chosen = _patches(options, obj, terminal)
    scene = bpy.context.scene
    _describe(scene, options)
    _connect(options, out)
    if not options.instant:
        style = _style(options, scene, chosen, out, record, terminal)
        for patch in chosen:
            use_style(patch, style)
    for number, patch in enumerate(chosen):
        suffix = f"-{number + 1}" if number else ""
        _embroider(options, obj, patch, suffix, record, terminal)
    if options.render:
        _render(options, obj, chosen, record, terminal)
    terminal.say("Saving the garment")
    with record.timing("Blender", "save"):
        save(record.file("garment", "garment.blend"))
    _write_manifest(options, obj, chosen, record)
    terminal.done(record.outputs)


def _style(
    options: argparse.Namespace,
    scene: bpy.types.Scene,
    chosen: Sequence[Any],
    out: Path,
    record: Record,
    terminal: Terminal,
) -> Path:
    """The folder of the given style, or of the one trained now."""
    if options.style:
        folder: Path = options.style.absolute()
    else:
        task = train_task(
            scene,
            out=out / "style",
            prompt=next(filter(None, map(words, chosen)), ""),
            subject=options.subject,
            seed=options.seed,
            base=options.base,
            steps_one=options.steps_one,
            steps_two=options.steps_two,
        )
        _finish(task, record, terminal)
        folder = Path(scene.stitchwork.style)
    record.outputs["style"] = str(folder)
    return folder


def _embroider(
    options: argparse.Namespace,
    obj: bpy.types.Object,
    patch: Any,
    suffix: str,
    record: Record,
    terminal: Terminal,
) -> None:
    scene = bpy.context.scene
    after = record.file(f"texture_after{suffix}", f"texture_after{suffix}.png")
    compared = options.reference and not options.no_preview and not words(patch)
    if options.instant or compared:
        role = f"texture_preview{suffix}"
        out = after if options.instant else record.file(role, f"{role}.png")
        with record.timing("Blender", "bake"):
            task = preview_task(scene, obj, patch, out=out, seed=options.seed)
        _finish(task, record, terminal)
    if not options.instant:
        with record.timing("Blender", "bake"):
            task = restyle_task(
                scene,
                obj,
                patch,
                out=after,
                strength=options.strength,
                steps=options.steps,
                guidance=options.guidance,
                embroidery=options.kind,
                style_strength=options.style_strength,
                start=options.start,
                seed=options.seed,
                base=options.base,
            )
        _finish(task, record, terminal)
    before = "texture_cloth" if words(patch) else "texture_before"
    for role, path in ((before, patch.bake_path), ("mask", patch.mask_path)):
        shutil.copyfile(path, record.file(f"{role}{suffix}", f"{role}{suffix}.png"))


def _finish(task: Task, record: Record, terminal: Terminal) -> None:
    terminal.say(polling.wait(task, terminal))
    record.take(task.job.kind, task.status.result if task.status else None)


def _render(
    options: argparse.Namespace,
    obj: bpy.types.Object,
    chosen: list[Any],
    record: Record,
    terminal: Terminal,
) -> None:
    with record.timing("Blender", "render"):
        for role, shown, view in RENDERS:
            terminal.say(f"Rendering {role}.png")
            apply.show(obj, shown)
            render_garment(
                obj,
                record.file(role, f"{role}.png"),
                patches=chosen,
                view=view,
                size=options.size,
                samples=options.samples,
            )


def _write_manifest(
    options: argparse.Namespace, obj: bpy.types.Object, chosen: list[Any], record: Record
) -> None:
    run = {
        "garment": str(options.garment.absolute()),
        "object": obj.name,
        "reference": str(options.reference.absolute()) if options.reference else None,
        "design": str(options.design.absolute()) if options.design else None,
        "profile": options.profile,
        "seed": options.seed,
        "patches": [
            {
                "name": patch.name,
                "uv_layer": patch.uv_layer,
                "rect": [round(each, 6) for each in patch.rect],
                "words": words(patch),
                "region": patch.region,
                "thread_mm": patch.thread_mm,
                "exaggeration": patch.exaggeration,
                "px_per_mm": patch.density,
            }
            for patch in chosen
        ],
    }
    thread = chosen[0].thread_mm * chosen[0].exaggeration
    facts = {
        "garment": options.garment.name,
        "reference": options.reference.name if options.reference else options.style.name,
        "profile": options.profile,
        "patches": "; ".join(f"{each.name} {patches.size_text(each)}" for each in chosen),
        "thread": f"{thread:.2f} mm (real 0.4 mm, drawn {chosen[0].exaggeration:g} times as wide)"
        if chosen[0].exaggeration != 1
        else f"{thread:.2f} mm",
        "seed": str(options.seed),
    }
    record.write(f"{obj.name}, embroidered", run, facts)


def _bake(options: argparse.Namespace, terminal: Terminal) -> None:
    out = _writable(options.out)
    obj = _open(options)
    for number, patch in enumerate(_patches(options, obj, terminal)):
        suffix = f"-{number + 1}" if number else ""
        baked = bake(obj, patch)
        limit = bpy.context.scene.stitchwork.max_side
        for note in filter(None, (*baked.warnings, patches.caution(patch, limit))):
            terminal.say(f"warning: {note}")
        _copy(baked.image_path, out / f"bake{suffix}.png")
        _copy(baked.mask_path, out / f"mask{suffix}.png")
        terminal.say(f"{patch.name}: {patches.size_text(patch)}")


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _apply(options: argparse.Namespace, terminal: Terminal) -> None:
    obj = _open(options)
    (patch, *_) = _patches(options, obj, terminal)
    apply.apply_patch(obj, patch, options.image.absolute())
    save(options.save.absolute())
    terminal.say(f"{patch.name} of {obj.name} is embroidered: {options.save}")


def _revert(options: argparse.Namespace, terminal: Terminal) -> None:
    obj = _open(options)
    patch = _named(obj, options.patch) if options.patch else None
    if not apply.revert(obj, patch):
        raise GarmentError(f"Nothing is applied to '{obj.name}'.", "Choose another object.")
    save(options.save.absolute())
    terminal.say(f"{obj.name} is as it was: {options.save}")


def _bake_down(options: argparse.Namespace, terminal: Terminal) -> None:
    obj = _open(options)
    path, layer = options.texture.absolute(), options.uv_layer
    terminal.say(export.bake_down(obj, path, options.size, layer).words)


def _open(options: argparse.Namespace) -> bpy.types.Object:
    open_garment(options.garment.absolute())
    obj = choose_object(options.object)
    if options.print is not None:
        print_on(obj, options.print.absolute())
    if options.height_cm is not None:
        obj.stitchwork.real_height_cm = options.height_cm
    return obj


def _patches(options: argparse.Namespace, obj: bpy.types.Object, terminal: Terminal) -> list[Any]:
    """The patches to work on: the named one, those the file holds, or new ones."""
    garment = obj.stitchwork
    if others := report.other_parts(obj):
        terminal.say(others)
    if unit := scale.assumed(obj):
        terminal.say(unit)
    if options.max_side is not None:
        bpy.context.scene.stitchwork.max_side = options.max_side
    if options.patch:
        chosen = [_named(obj, options.patch)]
    elif options.rect or options.region not in (None, "auto"):
        region = (options.region or "auto").upper()
        patch = patches.add_patch(obj, layer=options.uv_layer or "", chosen=region)
        if options.rect:
            patch.rect = options.rect
        elif region == "FACES":
            patch.rect = faces_rect(obj, patch)
        elif region == "ALL":
            patch.rect = used_rect(obj, patch.uv_layer)
        chosen = [patch]
    elif garment.patches:
        chosen = list(garment.patches)
    elif options.words:
        raise GarmentError("Nothing says where the words go.", do("add", "faces"))
    else:
        found = patches.patches_from_artwork(obj, options.uv_layer or "")
        chosen = [garment.patches[index] for index in found]
        terminal.say(report.found_artwork(obj, chosen))
    for patch in chosen:
        if options.words is not None:
            patch.words = options.words
        if options.vertex_group:
            patch.vertex_group = options.vertex_group
        if options.mask_image:
            patch.mask_image = picture(options.mask_image.absolute())
        if options.thread_mm is not None:
            patch.thread_mm = options.thread_mm
        if options.exaggeration is not None:
            patch.exaggeration = options.exaggeration
    names = ", ".join(f"{patch.name} ({patches.size_text(patch)})" for patch in chosen)
    terminal.say(f"Garment {obj.name}; patches: {names}")
    return chosen


def _named(obj: bpy.types.Object, name: str) -> Any:
    for patch in obj.stitchwork.patches:
        if patch.name == name:
            return patch
    there = ", ".join(patch.name for patch in obj.stitchwork.patches) or "none"
    raise GarmentError(f"'{obj.name}' has no patch “{name}”.", f"It has: {there}.")


def _describe(scene: bpy.types.Scene, options: argparse.Namespace) -> None:
    shown = scene.stitchwork
    shown.profile = options.profile
    shown.reference = str(options.reference.absolute()) if options.reference else ""
    shown.design = str(options.design.absolute()) if options.design else ""


def _connect(options: argparse.Namespace, out: Path) -> None:
    chosen = settings()
    roots = [str(out), *([str(options.style.absolute())] if options.style else [])]
    if options.base and Path(options.base).is_dir():
        options.base = str(Path(options.base).absolute())
        roots.append(options.base)
    polling.connect(
        python=options.backend_python or chosen.backend_python,
        url=options.backend_url or chosen.attach_url,
        token=options.backend_token or chosen.attach_token,
        roots=tuple(roots),
    )


def _writable(folder: Path) -> Path:
    """The absolute folder for results, made if absent; an OSError names what is wrong."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".stitchwork"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LinkError(
            f"{folder} cannot be written to ({error.strerror}).", "Choose another --out."
        ) from error
    return folder


COMMANDS: dict[str, Callable[[argparse.Namespace, Terminal], None]] = {
    "run": _run,
    "bake": _bake,
    "apply": _apply,
    "revert": _revert,
    "bake-down": _bake_down,
}
