"""Baking: the garment's base colour in a rectangle of a UV layer, as a picture file.

All work is done on a temporary mesh in a temporary scene with temporary materials, so the user's
scene, selection, mode, render settings and data are never touched.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..wording import do
from . import detail, pixels, region, uv
from .emission import base_colour_material, shading_material
from .errors import GarmentError
from .raster import dilate

__all__ = ["BakedPatch", "bake_colour", "bake_normals", "bake_patch"]

_LAYER = "stitchwork bake"
_LAYER_LIMIT = 8
_MaterialMaker = Callable[[bpy.types.Material | None, list[bpy.types.NodeTree]], bpy.types.Material]
# One sample hits the pixel's centre exactly; several keep finer print from aliasing.
_SAMPLES_FINE_PRINT = 4
_MEASURED_SIDE = 2048


@dataclass(frozen=True, slots=True)
class BakedPatch:
    """What `bake_patch` wrote.

    Attributes:
        image_path: RGBA PNG; colour is continued beyond the islands, alpha is their coverage.
        mask_path: grey PNG, white where to embroider.
        size: (width, height) in pixels.
        px_per_mm: density.
        warnings: what is unusual about the UVs.
    """

    image_path: Path
    mask_path: Path
    size: tuple[int, int]
    px_per_mm: float
    warnings: tuple[str, ...]


def bake_patch(
    obj: bpy.types.Object, patch: Any, folder: Path, *, max_side: int | None = None
) -> BakedPatch:
    """Bake a patch into `folder` and note the paths in the patch.

    Args:
        max_side: largest image side in pixels; the scene's setting if absent.

    Raises:
        GarmentError: no mesh, faces, UV layer or artwork; too large; a missing image; a folder
            that cannot be written. Nothing has changed then.
    """
    limit = bpy.context.scene.stitchwork.max_side if max_side is None else max_side
    plan = uv.plan(obj, patch, limit)
    layer = uv.require_layer(obj, patch.uv_layer).name
    notes = tuple(uv.warnings(obj, layer))
    rect = tuple(patch.rect)
    rgba = bake_colour(obj, layer, rect, plan.width, plan.height)
    survey = None
    if region.where(patch) == "AUTO":
        side = region.SURVEY_SIDE
        survey = bake_colour(obj, layer, region.tile(rect), side, side)[..., :3]
    mask = region.region_mask(obj, patch, rgba[..., :3], survey) & (rgba[..., 3] > 0)
    if not mask.any():
        raise GarmentError(
            f"The region of patch '{patch.name}' lies beside the UV islands.",
            do("everything", "rect"),
        )
    shape = 0.0 if region.words(patch) else _shape_width(rgba, mask, patch.thread_px)
    patch.shape_mm = shape / plan.px_per_mm
    stem = f"{_file_name(obj.name)}-{_file_name(patch.name)}-{patch_id(patch)}"
    image_path, mask_path = folder / f"{stem}-bake.png", folder / f"{stem}-mask.png"
    pixels.write_png(image_path, rgba)
    pixels.write_png(mask_path, mask.astype(np.uint8) * 255)
    patch.bake_path, patch.mask_path = str(image_path), str(mask_path)
    return BakedPatch(image_path, mask_path, (plan.width, plan.height), plan.px_per_mm, notes)


def _shape_width(rgba: np.ndarray, mask: np.ndarray, thread_px: float) -> float:
    """Width in pixels of the artwork's finer shapes."""
    every = max(1, math.ceil(max(mask.shape) / _MEASURED_SIDE))
    rgb, mask = rgba[::every, ::every, :3], mask[::every, ::every]
    # A mask reaches half a thread onto the cloth around artwork.
    inner = dilate(mask, -thread_px / every / 2)
    return detail.shape_width(rgb, inner if inner.any() else mask) * every


def patch_id(patch: Any) -> str:
    """The patch's lasting identifier, given on first use."""
    if not patch.uid:
        patch.uid = secrets.token_hex(4)
    return str(patch.uid)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text).strip("_")[:40] or "patch"


def bake_colour(
    obj: bpy.types.Object,
    layer: str,
    rect: uv.Rect,
    width: int,
    height: int,
    *,
    original: bool = True,
) -> np.ndarray:
    """Base colour of all materials in a rectangle of a UV layer.

    Args:
        original: as the garment was before any patch was applied.

    Returns:
        (H, W, 4) uint8 sRGB, straight alpha: 255 on UV islands, 0 beside them, where the colour
        of the nearest island is continued.

    Raises:
        GarmentError: the layer or an image of a material is missing, or Cycles is not enabled.
    """
    replaced = _originals(obj) if original else {}
    with _stage(obj, layer, rect, replaced) as (scene, target, materials):
        # Materials without images may draw detail of any size.
        finest = max(
            (image.size[0] for each in materials for image in _images(each.node_tree)),
            default=np.inf,
        )
        scene.cycles.samples = 1 if finest <= width / (rect[2] - rect[0]) else _SAMPLES_FINE_PRINT
        return _run_bake(scene, target, materials, width, height)


def bake_normals(obj: bpy.types.Object, layer: str, width: int, height: int) -> np.ndarray:
    """Normals of all materials as they are now, over the UV square.

    Returns:
        (H, W, 4) uint8 tangent-space normals, green up, as glTF and Blender's Normal Map node read
        them; alpha as of `bake_colour`.

    Raises:
        GarmentError: as `bake_colour`.
    """
    whole = (0.0, 0.0, 1.0, 1.0)
    with _stage(obj, layer, whole, {}, lambda each, _: shading_material(each)) as staged:
        scene, target, materials = staged
        # Normals of threads finer than the texture average out instead of aliasing.
        scene.cycles.samples = _SAMPLES_FINE_PRINT
        return _run_bake(scene, target, materials, width, height, normals=True)


def _run_bake(
    scene: bpy.types.Scene,
    target: bpy.types.Object,
    materials: list[bpy.types.Material],
    width: int,
    height: int,
    *,
    normals: bool = False,
) -> np.ndarray:
    """The staged bake as (H, W, 4) uint8, continued beyond the islands."""
    image = bpy.data.images.new(_LAYER, width, height, alpha=True, is_data=normals)
    try:
        # Clearing by the bake itself would leave alpha at one everywhere.
        image.generated_color = (0.0, 0.0, 0.0, 0.0)
        for material in materials:
            node = material.node_tree.nodes.new("ShaderNodeTexImage")
            node.image = image
            material.node_tree.nodes.active = node
        _bake_into_images(scene, target, "NORMAL" if normals else "EMIT")
        rgba = pixels.from_image(image)
    finally:
        bpy.data.images.remove(image)
    covered = rgba[..., 3] > 127
    rgba[..., 3] = np.where(covered, 255, 0)
    if covered.any():
        rgba[..., :3] = pixels.fill(rgba[..., :3], covered)
    return rgba


def _bake_into_images(scene: bpy.types.Scene, target: bpy.types.Object, kind: str) -> None:
    view_layer = scene.view_layers[0]
    view_layer.objects.active = target
    target.select_set(True, view_layer=view_layer)
    with bpy.context.temp_override(
        scene=scene,
        view_layer=view_layer,
        object=target,
        active_object=target,
        selected_objects=[target],
        selected_editable_objects=[target],
        edit_object=None,
    ):
        try:
            bpy.ops.object.bake(
                type=kind,
                target="IMAGE_TEXTURES",
                save_mode="INTERNAL",
                margin=0,
                use_clear=False,
                use_selected_to_active=False,
                normal_space="TANGENT",
                normal_r="POS_X",
                normal_g="POS_Y",
                normal_b="POS_Z",
            )
        except RuntimeError as error:
            raise GarmentError(f"Blender could not bake: {error}".strip()) from error


@contextmanager
def _stage(
    obj: bpy.types.Object,
    layer: str,
    rect: uv.Rect,
    replaced: dict[bpy.types.Material, bpy.types.Material | None],
    make: _MaterialMaker = base_colour_material,
) -> Iterator[tuple[bpy.types.Scene, bpy.types.Object, list[bpy.types.Material]]]:
    """A scene with a copy of the garment whose active UV layer maps the rectangle to 0..1."""
    made: list[tuple[Any, Any]] = []
    try:
        mesh = _evaluated_mesh(obj)
        made.append((bpy.data.meshes, mesh))
        _map_rect(mesh, obj.name, layer, rect)
        shown = _shown_materials(obj, mesh)
        materials = _swap_materials(mesh, [replaced.get(each, each) for each in shown], made, make)
        target = bpy.data.objects.new(_LAYER, mesh)
        made.append((bpy.data.objects, target))
        target.matrix_world = obj.matrix_world
        scene = bpy.data.scenes.new(_LAYER)
        made.append((bpy.data.scenes, scene))
        _set_up(scene)
        scene.collection.objects.link(target)
        yield scene, target, materials
    finally:
        for collection, data in reversed(made):
            collection.remove(data)


def _set_up(scene: bpy.types.Scene) -> None:
    try:
        scene.render.engine = "CYCLES"
    except TypeError as error:
        raise GarmentError(
            "Baking needs the Cycles engine.",
            do("cycles"),
        ) from error
    scene.cycles.device = "CPU"
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False


def _evaluated_mesh(obj: bpy.types.Object) -> bpy.types.Mesh:
    depsgraph = bpy.context.evaluated_depsgraph_get()
    evaluated = obj.evaluated_get(depsgraph)
    return bpy.data.meshes.new_from_object(
        evaluated, preserve_all_data_layers=True, depsgraph=depsgraph
    )


def _map_rect(mesh: bpy.types.Mesh, name: str, layer: str, rect: uv.Rect) -> None:
    layers = mesh.uv_layers
    if layer not in layers:
        raise GarmentError(
            f"The modifiers of '{name}' drop the UV layer '{layer}'.",
            "Choose another UV layer, or apply the modifiers.",
        )
    source = np.empty(len(mesh.loops) * 2, np.float32)
    layers[layer].uv.foreach_get("vector", source)
    if len(layers) >= _LAYER_LIMIT:
        spare = [each for each in layers if each.name != layer and not each.active_render]
        layers.remove(spare[-1])
    made = layers.new(name=_LAYER, do_init=False)
    size = np.array([rect[2] - rect[0], rect[3] - rect[1]])
    mapped = (source.reshape(-1, 2).astype(np.float64) - rect[:2]) / size
    made.uv.foreach_set("vector", mapped.astype(np.float32).ravel())
    layers.active = layers[made.name]


def _originals(
    obj: bpy.types.Object,
) -> dict[bpy.types.Material, bpy.types.Material | None]:
    """What each embroidered material of the garment was made from."""
    found = {}
    for note in obj.stitchwork.originals:
        if note.copy is not None:
            below = obj.data.materials[note.index] if not note.added else None
            found[note.copy] = note.material if note.link == "OBJECT" else below
    return found


def _shown_materials(
    obj: bpy.types.Object, mesh: bpy.types.Mesh
) -> list[bpy.types.Material | None]:
    """Materials by index: the object's slots, which may overrule its mesh, then modifiers' own."""
    slots = [each.material for each in obj.material_slots]
    return [*slots, *list(mesh.materials)[len(slots) :]] or [None]


def _swap_materials(
    mesh: bpy.types.Mesh,
    originals: list[bpy.types.Material | None],
    made: list[tuple[Any, Any]],
    make: _MaterialMaker,
) -> list[bpy.types.Material]:
    """Exchange the mesh's materials for copies that `make` made for baking."""
    used = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("material_index", used)
    visible = set(used.clip(0, len(originals) - 1).tolist())
    materials = []
    mesh.materials.clear()
    for index, original in enumerate(originals):
        trees: list[bpy.types.NodeTree] = []
        # Empty slots that no face uses stay grey; their missing images do not matter.
        copy = make(original if index in visible else None, trees)
        made.extend((bpy.data.node_groups, tree) for tree in trees)
        made.append((bpy.data.materials, copy))
        _require_images(copy, original)
        mesh.materials.append(copy)
        materials.append(copy)
    mesh.polygons.foreach_set("material_index", used)
    return materials


def _require_images(copy: bpy.types.Material, original: bpy.types.Material | None) -> None:
    """Raise a GarmentError if an image that colours the material has no pixels."""
    for image in _images(copy.node_tree):
        if image.source == "FILE" and not image.has_data:
            # Reading a pixel loads the file if it is there.
            _ = len(image.pixels)
        if image.source == "FILE" and 0 in tuple(image.size):
            name = original.name if original else copy.name
            raise GarmentError(
                f"Image '{image.name}' of material '{name}' is missing or damaged: "
                f"{bpy.path.abspath(image.filepath)}.",
                "Use File ▸ External Data ▸ Find Missing Files, or choose another image.",
            )


def _images(tree: bpy.types.NodeTree) -> Iterator[bpy.types.Image]:
    """Images of the nodes that reach the tree's output."""
    waiting = [each for each in tree.nodes if each.type in ("OUTPUT_MATERIAL", "GROUP_OUTPUT")]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.type == "TEX_IMAGE" and node.image is not None:
            yield node.image
        if node.type == "GROUP" and node.node_tree is not None:
            yield from _images(node.node_tree)
        waiting.extend(link.from_node for socket in node.inputs for link in socket.links)
