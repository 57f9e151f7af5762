"""Pictures of a garment: whole from the front, or close to a patch so that its threads show.

Everything is set up in a scene of its own, on a copy of the evaluated mesh, and taken away again;
the user's scene, camera, lights and world are never touched. Lights are suns and all distances
follow the garment's size, so that units do not matter. Light comes low from one side: thread
relief shows by its shadows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import uv
from .emission import new_material
from .errors import GarmentError

__all__ = ["CLOSE_UP", "Patch", "render_garment"]

View = Literal["front", "closeup"]

CLOSE_UP = 0.34
"""Share of the patch's shorter side that a close-up shows: 8 cm of a 24 cm print."""
_NAME = "Stitchwork render"
_LENS, _SENSOR = 85.0, 36.0
_MARGIN = 0.92
_SEED = 1


@dataclass(frozen=True)
class _Frame:
    """Where the camera is and looks; `right`, `up`, `back` are its axes (back: to the viewer)."""

    eye: np.ndarray
    right: np.ndarray
    up: np.ndarray
    back: np.ndarray
    depth: float
    """How far behind the garment's middle a backdrop stands."""
    middle: np.ndarray


@dataclass(frozen=True)
class _Sun:
    """A light: where it comes from in the camera's axes, irradiance, softness in degrees."""

    towards: tuple[float, float, float]
    strength: float
    softness: float


_LIGHTS: dict[str, tuple[_Sun, ...]] = {
    "front": (_Sun((-0.80, 0.45, 0.50), 3.3, 14.0), _Sun((0.85, 0.35, -0.25), 1.6, 20.0)),
    "closeup": (_Sun((-0.72, 0.52, 0.40), 4.6, 9.0), _Sun((0.80, -0.30, 0.45), 0.7, 30.0)),
}
_FILL = {"front": 0.42, "closeup": 0.30}


class Patch(Protocol):
    """What a render needs to know of a patch."""

    rect: Any
    """UV rectangle (u0, v0, u1, v1)."""
    uv_layer: str
    """The layer it lies in; "" is the one used for rendering."""


def render_garment(
    obj: bpy.types.Object,
    path: Path | str,
    *,
    view: View | None = None,
    patch: Patch | None = None,
    size: int | tuple[int, int] = 1024,
    samples: int = 64,
    zoom: float = CLOSE_UP,
    threads: int = 0,
) -> Path:
    """Render a garment with Cycles on the CPU and write a PNG; the same call, the same picture.

    Args:
        obj: a mesh with faces.
        path: PNG file to write; its folder is made.
        view: "front": all of it, from the side of -y or, when the patch clearly faces another way,
            from there; "closeup": the middle of the patch, seen along its normal, the print
            upright. Left out: a close-up when a patch is given, else the front.
        patch: left out, the object's active patch.
        size: side, or width and height, in pixels.
        samples: per pixel, denoised; twice as many where Blender was built without a denoiser.
        zoom: share of the patch's shorter side that a close-up shows.
        threads: processor threads; 0 takes all.

    Raises:
        GarmentError: not a mesh, no patch for a close-up, no Cycles, or the file cannot be written.
    """
    uv.require_mesh(obj)
    target = Path(path).absolute()
    if view is None:
        view = "front" if patch is None else "closeup"
    patch = patch or _active_patch(obj)
    pixels = (size, size) if isinstance(size, int) else size
    with _studio(obj) as (scene, model, made):
        if view == "front":
            frame = _front(model, patch, pixels)
        elif patch is not None:
            frame = _close(model, patch, pixels, zoom)
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


def _active_patch(obj: bpy.types.Object) -> Patch | None:
    garment: Any = getattr(obj, "stitchwork", None)
    if garment is None or not 0 <= garment.active_patch < len(garment.patches):
        return None
    active: Patch = garment.patches[garment.active_patch]
    return active


@contextmanager
def _studio(
    obj: bpy.types.Object,
) -> Iterator[tuple[bpy.types.Scene, bpy.types.Object, list[tuple[Any, Any]]]]:
    """A scene with a copy of the garment; all that `made` lists goes away at the end."""
    made: list[tuple[Any, Any]] = []
    try:
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
        scene = bpy.data.scenes.new(_NAME)
        made.append((bpy.data.scenes, scene))
        scene.collection.objects.link(model)
        yield scene, model, made
    finally:
        for collection, data in reversed(made):
            collection.remove(data)


def _points(model: bpy.types.Object) -> np.ndarray:
    """World coordinates of the vertices, (N, 3)."""
    mesh = model.data
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    matrix = np.array(model.matrix_world, np.float64)
    return np.asarray(flat.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3])


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def _front(model: bpy.types.Object, patch: Patch | None, size: tuple[int, int]) -> _Frame:
    """The whole garment, as near as it fits, a little from above; z is up."""
    points = _points(model)
    facing = np.array([0.0, -1.0, 0.0])
    if patch is not None:
        level = _surface(model, patch)[1] * [1.0, 1.0, 0.0]
        # The usual front wins unless the patch clearly faces elsewhere: from there, then.
        if np.linalg.norm(level) > 0.3 and -_unit(level)[1] < 0.8:
            facing = _unit(level)
    back = _unit(facing + np.array([0.0, 0.0, 0.08]))
    right = _unit(np.cross([0.0, 0.0, 1.0], back))
    up = np.cross(back, right)
    local = points @ np.stack([right, up, back], axis=1)
    middle = (local.min(axis=0) + local.max(axis=0)) / 2
    local = local - middle
    reach = _reach(size)
    distance = float((np.abs(local[:, :2]) / (reach * _MARGIN) + local[:, 2:]).max())
    centre = middle @ np.stack([right, up, back])
    extent = float(np.ptp(local, axis=0).max())
    return _Frame(centre + back * distance, right, up, back, 0.45 * extent, centre)


def _reach(size: tuple[int, int]) -> np.ndarray:
    """Half of what the lens sees, across and up, at distance 1."""
    return np.array(size) / max(size) * _SENSOR / _LENS / 2


def _triangles(model: bpy.types.Object, uv_layer: str) -> tuple[np.ndarray, np.ndarray]:
    """World corners (T, 3, 3) and UVs (T, 3, 2) of the model."""
    mesh = model.data
    layer = uv.require_layer(model, uv_layer)
    mesh.calc_loop_triangles()
    count = len(mesh.loop_triangles)
    vertices, loops = np.empty(count * 3, np.int32), np.empty(count * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", vertices)
    mesh.loop_triangles.foreach_get("loops", loops)
    flat = np.empty(len(mesh.loops) * 2, np.float32)
    layer.uv.foreach_get("vector", flat)
    corners = _points(model)[vertices].reshape(-1, 3, 3)
    return corners, flat.reshape(-1, 2)[loops].reshape(-1, 3, 2).astype(np.float64)


def _surface(model: bpy.types.Object, patch: Patch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The point under the patch's middle, the patch's normal there, and the (3, 2) derivative
    of the surface by u and v, both averaged over the part that a close-up shows."""
    corners, coordinates = _triangles(model, patch.uv_layer)
    low, high = np.array(patch.rect).reshape(2, 2)
    middle = (low + high) / 2
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d1, d2 = coordinates[:, 1] - coordinates[:, 0], coordinates[:, 2] - coordinates[:, 0]
    twice = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    sound = np.abs(twice) > 1e-14
    if not sound.any():
        raise GarmentError(f"The UV layer of '{model.name}' is empty.", "Press Unwrap.")
    safe = np.where(sound, twice, 1.0)
    offset = middle - coordinates[:, 0]
    b = (offset[:, 0] * d2[:, 1] - offset[:, 1] * d2[:, 0]) / safe
    c = (d1[:, 0] * offset[:, 1] - d1[:, 1] * offset[:, 0]) / safe
    outside = np.where(sound, np.maximum.reduce([-b, -c, b + c - 1.0]), np.inf)
    centroid = np.linalg.norm(coordinates.mean(axis=1) - middle, axis=1)
    inside = np.flatnonzero(outside <= 1e-6)
    if len(inside):
        hit = int(inside[0])
        point = corners[hit, 0] + b[hit] * e1[hit] + c[hit] * e2[hit]
    else:
        hit = int(np.argmin(np.where(sound, centroid, np.inf)))
        point = corners[hit].mean(axis=0)
    radius = float((high - low).min()) * CLOSE_UP / 2
    near = sound & ((centroid < radius) | (np.arange(len(corners)) == hit))
    # Faces over the same UVs elsewhere (mirrored halves) must not turn the view.
    scale = np.linalg.norm(e1, axis=1) / np.maximum(np.linalg.norm(d1, axis=1), 1e-12)
    near &= np.linalg.norm(corners.mean(axis=1) - point, axis=1) < 4 * radius * scale[hit] + 1e-9
    near[hit] = True
    normal = _unit(np.cross(e1[near], e2[near]).sum(axis=0)) * _outwards(corners)
    weight = np.abs(twice[near])[:, None]
    along_u = (e1 * d2[:, 1:] - e2 * d1[:, 1:])[near] / twice[near, None]
    along_v = (e2 * d1[:, :1] - e1 * d2[:, :1])[near] / twice[near, None]
    slope = np.stack([(along * weight).sum(axis=0) for along in (along_u, along_v)], axis=1)
    return point, normal, slope / weight.sum()


def _outwards(corners: np.ndarray) -> float:
    """1, or -1 where the faces are wound so that their normals point into the garment."""
    centred = corners - corners.mean(axis=(0, 1))
    volume = np.einsum("ti,ti->", centred[:, 0], np.cross(centred[:, 1], centred[:, 2]))
    scale = float(np.abs(centred).max()) ** 3
    return -1.0 if volume < -1e-3 * scale else 1.0


def _close(model: bpy.types.Object, patch: Patch, size: tuple[int, int], zoom: float) -> _Frame:
    point, back, slope = _surface(model, patch)
    up = _unit(slope[:, 1] - back * (slope[:, 1] @ back))
    right = np.cross(up, back)
    low, high = np.array(patch.rect).reshape(2, 2)
    spans = np.linalg.norm(slope, axis=0) * (high - low)
    distance = float(spans.min()) * zoom / 2 / float(_reach(size).min())
    return _Frame(point + back * distance, right, up, back, 0.0, point)


def _add(
    scene: bpy.types.Scene, data: Any, collection: Any, made: list[tuple[Any, Any]]
) -> bpy.types.Object:
    made.append((collection, data))
    holder = bpy.data.objects.new(_NAME, data)
    made.append((bpy.data.objects, holder))
    scene.collection.objects.link(holder)
    return holder


def _pose(frame: _Frame, back: np.ndarray, at: np.ndarray) -> Matrix:
    """A transform whose z axis is `back` and whose y axis is nearly the frame's up."""
    right = _unit(np.cross(frame.up, back))
    turn = Matrix(np.stack([right, np.cross(back, right), back], axis=1).tolist()).to_4x4()
    return Matrix.Translation(Vector(at.tolist())) @ turn


def _add_camera(scene: bpy.types.Scene, frame: _Frame, made: list[tuple[Any, Any]]) -> None:
    camera = bpy.data.cameras.new(_NAME)
    camera.lens, camera.sensor_width = _LENS, _SENSOR
    distance = float(np.linalg.norm(frame.eye - frame.middle))
    camera.clip_start, camera.clip_end = distance / 100, distance * 100
    holder = _add(scene, camera, bpy.data.cameras, made)
    holder.matrix_world = _pose(frame, frame.back, frame.eye)
    scene.camera = holder


def _add_lights(
    scene: bpy.types.Scene, frame: _Frame, view: View, made: list[tuple[Any, Any]]
) -> None:
    axes = np.stack([frame.right, frame.up, frame.back])
    for sun in _LIGHTS[view]:
        light = bpy.data.lights.new(_NAME, "SUN")
        light.energy = sun.strength
        light.angle = float(np.radians(sun.softness))
        holder = _add(scene, light, bpy.data.lights, made)
        holder.matrix_world = _pose(frame, _unit(np.array(sun.towards) @ axes), frame.middle)
    world = bpy.data.worlds.new(_NAME)
    made.append((bpy.data.worlds, world))
    if bpy.app.version < (5, 0):
        world.use_nodes = True
    sky = world.node_tree.nodes["Background"]
    sky.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    sky.inputs["Strength"].default_value = _FILL[view]
    scene.world = world


def _add_backdrop(scene: bpy.types.Scene, frame: _Frame, made: list[tuple[Any, Any]]) -> None:
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
            "Enable the add-on “Cycles Render Engine” in the preferences.",
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
