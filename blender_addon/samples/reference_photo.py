"""Makes the reference photo: `python -m blender_addon.samples.reference_photo [FOLDER]`.

With `--materials`, the same embroidery in other thread: further references for the benchmark.

Embroidery on woven cloth as real thread geometry, seen straight from above through a lens, in soft
window light, rendered in Cycles. Beside it are written the flat design, aligned to the pixel, and
the mask of thread against cloth. One Blender unit is one millimetre.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from ..garment.emission import new_material
from . import REFERENCE_DESIGN, REFERENCE_MASK, REFERENCE_PHOTO
from .drawing import Canvas, Floats, hex_colour
from .reference_motif import REGIONS, SIDE, stitches, underlay
from .threads import Tubes, sew_thread, weave

__all__ = ["MATERIALS", "SIZE", "Fibres", "design", "make", "make_material"]

Pixels = NDArray[np.float32]

SIZE = 1024
"""Side of the picture, px."""
SEED = 7
THREADS = {
    "petal": "#d8344f",
    "heart": "#f2b233",
    "leaf": "#2f7d4b",
    "lime": "#7fb23f",
    "stem": "#2f7d4b",
}
CLOTH = "#e2d8c6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fibres:
    """How thread takes the light.

    Attributes:
        metallic: share of the light that is mirrored in the thread's own colour.
        filaments: fibres counted round the thread.
        lay: how many of them turn past per mm of length.
        depth: of the furrows between them, mm.
    """

    metallic: float
    roughness: float
    filaments: float
    lay: float
    depth: float


MATERIALS = {
    "rayon": Fibres(metallic=0.35, roughness=0.40, filaments=18.0, lay=11.0, depth=0.06),
    "cotton": Fibres(metallic=0.0, roughness=0.75, filaments=11.0, lay=6.0, depth=0.07),
    "metallic": Fibres(metallic=1.0, roughness=0.22, filaments=6.0, lay=16.0, depth=0.09),
}
"""Of threads; the sample photo's is rayon."""
_CLOTH_FIBRES = Fibres(metallic=0.0, roughness=0.85, filaments=12.0, lay=9.0, depth=0.05)


def _linear(colour: Floats) -> Floats:
    return np.asarray(
        np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    )


def _object(name: str, tubes: Tubes, colours: Floats, material: bpy.types.Material) -> None:
    """A mesh of tubes whose faces carry their tube's colour (linear, (tubes, 3))."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(tubes.points))
    mesh.vertices.foreach_set("co", tubes.points.astype(np.float32).reshape(-1))
    mesh.loops.add(tubes.quads.size)
    mesh.loops.foreach_set("vertex_index", tubes.quads.astype(np.int32).reshape(-1))
    mesh.polygons.add(len(tubes.quads))
    mesh.polygons.foreach_set("loop_start", np.arange(0, tubes.quads.size, 4, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(tubes.quads), dtype=bool))
    mesh.uv_layers.new(name="UVMap").uv.foreach_set(
        "vector", tubes.uvs.astype(np.float32).reshape(-1)
    )
    rgba = np.ones((len(tubes.quads), 4), dtype=np.float32)
    rgba[:, :3] = colours[tubes.tube]
    attribute = mesh.attributes.new("thread", "FLOAT_COLOR", "CORNER")
    attribute.data.foreach_set("color", np.repeat(rgba, 4, axis=0).reshape(-1))
    mesh.update(calc_edges=True)
    mesh.materials.append(material)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new(name, mesh))


def _fibre_material(name: str, fibres: Fibres) -> bpy.types.Material:
    """Fibres side by side: colour per thread, sheen along it, filaments as bump."""
    material = new_material(name)
    tree = material.node_tree
    nodes, links = tree.nodes, tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = fibres.roughness
    # Light is mirrored within the fibre too, so that part of the gloss has the thread's colour.
    shader.inputs["Metallic"].default_value = fibres.metallic
    colour = nodes.new("ShaderNodeAttribute")
    colour.attribute_name = "thread"
    coordinates = nodes.new("ShaderNodeUVMap")
    coordinates.uv_map = "UVMap"
    product = nodes.new("ShaderNodeVectorMath")
    product.operation = "DOT_PRODUCT"
    product.inputs[1].default_value = (fibres.filaments, fibres.lay, 0.0)
    links.new(coordinates.outputs["UV"], product.inputs[0])
    noise = nodes.new("ShaderNodeTexNoise")
    noise.noise_dimensions = "1D"
    noise.inputs["Scale"].default_value = 1.0
    noise.inputs["Detail"].default_value = 1.0
    links.new(product.outputs["Value"], noise.inputs["W"])
    streak = nodes.new("ShaderNodeMapRange")
    streak.inputs["From Min"].default_value, streak.inputs["From Max"].default_value = 0.3, 0.7
    streak.inputs["To Min"].default_value, streak.inputs["To Max"].default_value = 0.70, 1.12
    links.new(noise.outputs["Fac"], streak.inputs["Value"])
    shaded = nodes.new("ShaderNodeVectorMath")
    shaded.operation = "SCALE"
    links.new(colour.outputs["Color"], shaded.inputs["Vector"])
    links.new(streak.outputs["Result"], shaded.inputs["Scale"])
    links.new(shaded.outputs["Vector"], shader.inputs["Base Color"])
    bump = nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.6
    bump.inputs["Distance"].default_value = fibres.depth
    links.new(noise.outputs["Fac"], bump.inputs["Height"])
    links.new(bump.outputs["Normal"], shader.inputs["Normal"])
    return material


def _light(where: tuple[float, float, float], size: tuple[float, float], power: float) -> None:
    light = bpy.data.lights.new("window", "AREA")
    light.shape = "RECTANGLE"
    light.size, light.size_y = size
    light.energy = power
    lamp = bpy.data.objects.new("window", light)
    lamp.location = where
    aim = Vector((SIDE / 2, SIDE / 2, 0)) - Vector(where)
    lamp.rotation_euler = aim.to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(lamp)


def _camera() -> None:
    """Straight from above through a long lens: next to no parallax, a little blur by depth."""
    camera = bpy.data.cameras.new("macro")
    camera.lens, camera.sensor_width = 300.0, 36.0
    distance = SIDE * camera.lens / camera.sensor_width
    camera.clip_end = distance * 2
    camera.dof.use_dof = True
    camera.dof.focus_distance = distance - 0.5
    camera.dof.aperture_fstop = 0.018
    holder = bpy.data.objects.new("macro", camera)
    holder.location = (SIDE / 2, SIDE / 2, distance)
    bpy.context.scene.collection.objects.link(holder)
    bpy.context.scene.camera = holder


def _scene(random: np.random.Generator, fibres: Fibres) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    top, bottom = stitches(random), underlay()
    everything = bottom + top
    base = {name: _linear(hex_colour(value)) for name, value in THREADS.items()}
    shade = random.normal(1.0, 0.05, (len(everything), 1))
    colours = np.array([base[s.colour] for s in everything]) * shade
    thread = _fibre_material("thread", fibres)
    _object("embroidery", sew_thread(everything, random), colours, thread)
    cloth = weave(random)
    count = int(cloth.tube.max()) + 1
    yarn = _linear(hex_colour(CLOTH)) * random.normal(1.0, 0.05, (count, 1))
    _object("cloth", cloth, yarn, _fibre_material("cotton", _CLOTH_FIBRES))
    _camera()
    _light((-34.0, 62.0, 44.0), (26.0, 18.0), 62000.0)
    _light((80.0, -20.0, 50.0), (60.0, 60.0), 5000.0)
    world = bpy.data.worlds.new("room")
    if bpy.app.version < (5, 0):
        world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.92, 0.96, 1.0, 1.0)
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.28
    bpy.context.scene.world = world


def _render(size: int, samples: int, threads: int) -> Pixels:
    """The scene as sRGB values (size, size, 3), first row on top."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.seed = SEED
    scene.cycles.max_bounces = 4
    scene.cycles.use_denoising = True
    scene.render.threads_mode = "FIXED" if threads else "AUTO"
    scene.render.threads = max(threads, 1)
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "photo.png")
        bpy.ops.render.render(write_still=True)
        return _read(scene.render.filepath)


def _read(file: str) -> Pixels:
    image = bpy.data.images.load(file)
    values: Pixels = np.empty(image.size[0] * image.size[1] * 4, dtype=np.float32)
    image.pixels.foreach_get(values)
    pixels = values.reshape(image.size[1], image.size[0], 4)[::-1, :, :3].copy()
    bpy.data.images.remove(image)
    return pixels


def _write(file: Path, pixels: Pixels) -> None:
    height, width = pixels.shape[:2]
    image = bpy.data.images.new(file.stem, width, height, alpha=False)
    rgba: Pixels = np.ones((height, width, 4), dtype=np.float32)
    rgba[..., :3] = pixels[::-1]
    image.pixels.foreach_set(rgba.reshape(-1))
    image.filepath_raw = str(file)
    image.file_format = "PNG"
    image.save()
    bpy.data.images.remove(image)


def _develop(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """What a camera adds: the lens's fall-off towards the corners and a little sensor noise."""
    size = len(pixels)
    place = np.linspace(-1, 1, size)
    fall = 1.0 - 0.05 * (place[:, None] ** 2 + place[None, :] ** 2)
    noise = random.normal(0.0, 0.006, (size, size, 1)) + random.normal(0.0, 0.002, pixels.shape)
    return np.clip(pixels * fall[..., None] + noise, 0.0, 1.0).astype(np.float32)


def design(size: int, colours: dict[str, Floats], ground: Floats) -> tuple[Pixels, Pixels]:
    """Flat artwork (size, size, 3) and the mask of what is sewn (size, size, 1)."""
    canvas = Canvas(size, size, ground)
    for region in REGIONS:
        canvas.fill([region.outline], colours[region.colour], size / SIDE)
    return canvas.picture(), canvas.mask()


def _seen_colours(photo: Pixels) -> tuple[dict[str, Floats], Floats]:
    """The colours a designer would pick from the photo: each region's median."""
    size = len(photo)
    plain = {name: np.full(3, index / 8.0) for index, name in enumerate(THREADS)}
    flat, mask = design(size, plain, np.ones(3))
    picked = {
        name: np.median(photo[np.abs(flat - value).max(axis=2) < 1e-3], axis=0).astype(float)
        for name, value in plain.items()
    }
    return picked, np.median(photo[mask[..., 0] == 0], axis=0).astype(float)


def make(folder: Path, *, size: int = SIZE, samples: int = 20, threads: int = 0) -> None:
    """Write photo, design and mask to `folder`; replaces what is open in Blender.

    `threads` 0 uses every core.
    """
    photo = _take(MATERIALS["rayon"], size, samples, threads)
    flat, mask = design(size, *_seen_colours(photo))
    _write(folder / REFERENCE_PHOTO.name, photo)
    _write(folder / REFERENCE_DESIGN.name, flat)
    _write(folder / REFERENCE_MASK.name, _whole(mask))


def make_material(
    folder: Path, name: str, *, size: int = SIZE, samples: int = 20, threads: int = 0
) -> None:
    """Write NAME.png and NAME_mask.png: the photo in another of `MATERIALS`."""
    photo = _take(MATERIALS[name], size, samples, threads)
    _write(folder / f"{name}.png", photo)
    _write(folder / f"{name}_mask.png", _whole(design(size, *_seen_colours(photo))[1]))


def _take(fibres: Fibres, size: int, samples: int, threads: int) -> Pixels:
    random = np.random.default_rng(SEED)
    _scene(random, fibres)
    return _develop(_render(size, samples, threads), random)


def _whole(mask: Pixels) -> Pixels:
    return np.repeat((mask > 0.5).astype(np.float32), 3, axis=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", nargs="?", type=Path, default=REFERENCE_PHOTO.parent)
    parser.add_argument("--materials", nargs="+", choices=MATERIALS, metavar="NAME")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    how = {"size": options.size, "samples": options.samples, "threads": options.threads}
    if options.materials is None:
        make(folder, **how)
    for name in options.materials or ():
        make_material(folder, name, **how)


if __name__ == "__main__":
    main()
