"""Pictures of a garment: whole from the front, or close to a patch so that its threads show.

Everything is set up in a scene of its own, on copies of the evaluated meshes, and taken away again;
the user's scene, camera, lights and world are never touched. Lights are suns and all distances
follow the garment's size, so that units do not matter. Light comes low from one side: thread
relief shows by its shadows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..wording import do
from . import uv
from .emission import new_material
from .errors import GarmentError
from .parts import garment_parts
from .scale import millimetres
from .surface import Patch, find_surfels, mesh_corners
from .view import LENS, SENSOR, Frame, Scenery, close_frame, front_frame, unit

__all__ = ["View", "render_garment"]

View = Literal["front", "closeup"]

_NAME = "Stitchwork render"
_SEED = 1


@dataclass(frozen=True)
class _Sun:
    """A light: where it comes from in the camera's axes, irradiance, softness in degrees."""

    towards: tuple[float, float, float]
    strength: float
    softness: float


_LIGHTS: dict[str, tuple[_Sun, ...]] = {
    "front": (_Sun((-0.80, 0.45, 0.50), 3.3, 14.0), _Sun((0.85, 0.35, -0.25), 1.6, 20.0)),
    "closeup": (_Sun((-0.72, 0.52, 0.40), 3.7, 9.0), _Sun((0.80, -0.30, 0.45), 0.7, 30.0)),
}
_FILL = {"front": 0.42, "closeup": 0.30}


def render_garment(
    obj: bpy.types.Object,
    path: Path | str,
    *,
    view: View | None = None,
    patches: Sequence[Patch] | None = None,
    size: int | tuple[int, int] = 1024,
    samples: int = 64,
    threads: int = 0,
) -> Path:
    """Render a garment with Cycles on the CPU and write a PNG; the same call, the same picture.

    Args:
        obj: a mesh with faces; the garment's other parts are shown with it.
        path: PNG file to write; its folder is made.
        view: "front": all of it, from its own front or from where its embroidery shows better;
            "closeup": where the embroidery is densest, along the cloth's normal, near enough to
            see threads. Left out: a close-up when patches are given, else the front.
        patches: what to look at; left out, those applied, or all if none is.
        size: side, or width and height, in pixels.
        samples: per pixel, denoised; twice as many where Blender was built without a denoiser.
        threads: processor threads; 0 takes all.

    Raises:
        GarmentError: not a mesh, no patch for a close-up, no Cycles, or the file cannot be written.
    """
    uv.require_mesh(obj)
    target = Path(path).absolute()
    if view is None:
        view = "front" if patches is None else "closeup"
    shown = _own_patches(obj) if patches is None else list(patches)
    pixels = (size, size) if isinstance(size, int) else size
    with _studio(garment_parts(obj)) as (scene, models, made):
        scenery = Scenery(np.concatenate([mesh_corners(each) for each in models]))
        seen = find_surfels(models[0], shown)
        if view == "front":
            frame = front_frame(scenery, seen, pixels)
        elif seen is not None:
            frame = close_frame(scenery, seen, pixels, _thread(obj, shown))
        else:
            raise GarmentError(
                f"'{obj.name}' has no patch to look at.",
                "Add a patch first, or render the front.",
            )
        _add_camera(scene, frame, made)
        _add_lights(scene, frame, view, made)
        if view == "front":
            _add_backdrop(scene, frame, made)
        _set_up(scene, pixels, samples, threads)
        _render(scene, target)
    return target


def _own_patches(obj: bpy.types.Object) -> list[Patch]:
    garment: Any = getattr(obj, "stitchwork", None)
    every = list(garment.patches) if garment is not None else []
    return [each for each in every if each.applied] or every


def _thread(obj: bpy.types.Object, patches: Sequence[Any]) -> float | None:
    """Width of the patches' thread in Blender units, the widest; None if they do not say."""
    if not all(hasattr(each, "thread_mm") for each in patches):
        return None
    widest = max(each.thread_mm * each.exaggeration for each in patches)
    return float(widest / millimetres(obj))


@contextmanager
def _studio(
    parts: list[bpy.types.Object],
) -> Iterator[tuple[bpy.types.Scene, list[bpy.types.Object], list[tuple[Any, Any]]]]:
    """A scene with copies of the garment's parts; all that `made` lists goes away at the end."""
    made: list[tuple[Any, Any]] = []
    try:
        models = [_copy(each, made) for each in parts]
        scene = bpy.data.scenes.new(_NAME)
        made.append((bpy.data.scenes, scene))
        for model in models:
            scene.collection.objects.link(model)
        yield scene, models, made
    finally:
        for collection, data in reversed(made):
            collection.remove(data)


def _copy(obj: bpy.types.Object, made: list[tuple[Any, Any]]) -> bpy.types.Object:
    """The evaluated mesh as an object of its own, with the materials that the object shows."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(
        obj.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
    )
    made.append((bpy.data.meshes, mesh))
    # What the object's own slots hold, embroidered materials among it, is not in the mesh.
    for index, slot in enumerate(obj.material_slots):
        if index < len(mesh.materials):
            mesh.materials[index] = slot.material
        else:
            mesh.materials.append(slot.material)
    model = bpy.data.objects.new(_NAME, mesh)
    made.append((bpy.data.objects, model))
    for own, slot in zip(model.material_slots, obj.material_slots):
        # Embroidery hangs on the object's slots; the mesh keeps the owner's materials.
        own.link, own.material = "OBJECT", slot.material
    model.matrix_world = obj.matrix_world
    return model


def _add(
    scene: bpy.types.Scene, data: Any, collection: Any, made: list[tuple[Any, Any]]
) -> bpy.types.Object:
    made.append((collection, data))
    holder = bpy.data.objects.new(_NAME, data)
    made.append((bpy.data.objects, holder))
    scene.collection.objects.link(holder)
    return holder


def _pose(frame: Frame, back: np.ndarray, at: np.ndarray) -> Matrix:
    """A transform whose z axis is `back` and whose y axis is nearly the frame's up."""
    right = unit(np.cross(frame.up, back))
    turn = Matrix(np.stack([right, np.cross(back, right), back], axis=1).tolist()).to_4x4()
    return Matrix.Translation(Vector(at.tolist())) @ turn


def _add_camera(scene: bpy.types.Scene, frame: Frame, made: list[tuple[Any, Any]]) -> None:
    camera = bpy.data.cameras.new(_NAME)
    camera.lens, camera.sensor_width = LENS, SENSOR
    distance = float(np.linalg.norm(frame.eye - frame.middle))
    camera.clip_start, camera.clip_end = distance / 100, distance * 100
    holder = _add(scene, camera, bpy.data.cameras, made)
    holder.matrix_world = _pose(frame, frame.back, frame.eye)
    scene.camera = holder


def _add_lights(
    scene: bpy.types.Scene, frame: Frame, view: View, made: list[tuple[Any, Any]]
) -> None:
    axes = np.stack([frame.right, frame.up, frame.back])
    for sun in _LIGHTS[view]:
        light = bpy.data.lights.new(_NAME, "SUN")
        light.energy = sun.strength
        light.angle = float(np.radians(sun.softness))
        holder = _add(scene, light, bpy.data.lights, made)
        holder.matrix_world = _pose(frame, unit(np.array(sun.towards) @ axes), frame.middle)
    world = bpy.data.worlds.new(_NAME)
    made.append((bpy.data.worlds, world))
    if bpy.app.version < (5, 0):
        world.use_nodes = True
    sky = world.node_tree.nodes["Background"]
    sky.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    sky.inputs["Strength"].default_value = _FILL[view]
    scene.world = world


def _add_backdrop(scene: bpy.types.Scene, frame: Frame, made: list[tuple[Any, Any]]) -> None:
    """A plain wall that takes the garment's soft shadow."""
    half = frame.depth * 40
    mesh = bpy.data.meshes.new(_NAME)
    mesh.from_pydata(
        [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)], [], [(0, 1, 2, 3)]
    )
    material = new_material(_NAME)
    made.append((bpy.data.materials, material))
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (0.62, 0.60, 0.57, 1.0)
    shader.inputs["Roughness"].default_value = 1.0
    mesh.materials.append(material)
    wall = _add(scene, mesh, bpy.data.meshes, made)
    wall.matrix_world = _pose(frame, frame.back, frame.middle - frame.back * frame.depth)


def _set_up(scene: bpy.types.Scene, size: tuple[int, int], samples: int, threads: int) -> None:
    try:
        scene.render.engine = "CYCLES"
    except TypeError as error:
        raise GarmentError(
            "Rendering needs the Cycles engine.",
            do("cycles"),
        ) from error
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.seed = _SEED
    cycles.use_adaptive_sampling = True
    # The denoiser evens out the rest; cloth needs one bounce of its own colour into its folds.
    cycles.adaptive_threshold = 0.06
    cycles.adaptive_min_samples = 8
    cycles.max_bounces = 2
    cycles.diffuse_bounces = 1
    cycles.samples = samples
    try:
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.use_denoising = True
    except TypeError:
        # This Blender was built without the denoiser.
        cycles.use_denoising = False
        cycles.samples = samples * 2
    render = scene.render
    render.resolution_x, render.resolution_y = size
    render.resolution_percentage = 100
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        render.threads = threads
    # Colours as they are in the texture, not as a film would show them.
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"


def _render(scene: bpy.types.Scene, target: Path) -> None:
    """Render aside and rename, so that a reader never sees half a picture."""
    aside = target.with_name(f".{target.stem}.part.png")
    scene.render.filepath = str(aside)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            bpy.ops.render.render(scene=scene.name, write_still=True)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip()
        raise GarmentError(
            f"{target} cannot be written: {reason}.", "Choose another folder or free disk space."
        ) from error
