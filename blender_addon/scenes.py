"""Opening and saving garments without an interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy

from .garment.emission import new_material
from .garment.errors import GarmentError
from .garment.parts import cut_from_same_cloth

__all__ = ["choose_object", "open_garment", "picture", "print_on", "save"]

IMPORTERS: dict[str, Callable[[str], object]] = {
    ".glb": lambda path: bpy.ops.import_scene.gltf(filepath=path),
    ".gltf": lambda path: bpy.ops.import_scene.gltf(filepath=path),
    ".obj": lambda path: bpy.ops.wm.obj_import(filepath=path),
    ".fbx": lambda path: bpy.ops.import_scene.fbx(filepath=path),
}


def open_garment(path: Path) -> None:
    """Open a .blend file, or import a .glb, .gltf, .obj or .fbx file into an empty scene.

    Raises:
        GarmentError: the file is missing, damaged or of another kind.
    """
    kind = path.suffix.lower()
    if kind != ".blend" and kind not in IMPORTERS:
        known = ", ".join([".blend", *IMPORTERS])
        raise GarmentError(f"{path} is of no known kind.", f"Give one of {known}.")
    if not path.is_file():
        raise GarmentError(f"The garment {path} is not there.", "Check the path.")
    try:
        if kind == ".blend":
            bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False)
        else:
            # Not the factory settings: those would disable this add-on.
            bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
            IMPORTERS[kind](str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise GarmentError(f"The garment {path} cannot be opened: {reason}") from error


def choose_object(name: str | None) -> bpy.types.Object:
    """The garment in the open file, made the active object.

    Without a name: the object that carries patches, else the only mesh, else the one with most
    faces among those with UVs.

    Raises:
        GarmentError: there is none, or none of that name; the message lists what is there.
    """
    meshes = [obj for obj in bpy.context.scene.objects if obj.type == "MESH"]
    meshes = [obj for obj in meshes if len(obj.data.polygons)]
    if name is not None:
        chosen = next((obj for obj in meshes if obj.name == name), None)
        if chosen is None:
            there = ", ".join(f"“{obj.name}”" for obj in meshes) or "none"
            raise GarmentError(f"No mesh is named “{name}”.", f"The file has: {there}.")
    elif meshes:
        chosen = max(meshes, key=_likely)
    else:
        raise GarmentError("The file has no mesh with faces.", "Give a garment's file.")
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj == chosen)
    bpy.context.view_layer.objects.active = chosen
    return chosen


def picture(path: Path) -> bpy.types.Image:
    """The image data-block of a file.

    Raises:
        GarmentError: the file is missing or no picture.
    """
    try:
        image = bpy.data.images.load(str(path))
    except RuntimeError as error:
        raise GarmentError(f"The picture {path} cannot be opened.", "Check the path.") from error
    if 0 in tuple(image.size):
        bpy.data.images.remove(image)
        raise GarmentError(f"{path} is no picture.", "Give a PNG or JPEG file.")
    return image


def print_on(obj: bpy.types.Object, path: Path) -> None:
    """Give a garment, and what is cut from the same cloth, a printed texture as its colour.

    Raises:
        GarmentError: as `picture`.
    """
    image = picture(path)
    material = new_material(path.stem)
    tree = material.node_tree
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 0.9
    tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    for each in cut_from_same_cloth(obj):
        if not each.material_slots:
            each.data.materials.append(material)
        for slot in each.material_slots:
            slot.material = material


def _likely(obj: bpy.types.Object) -> tuple[bool, bool, bool, int]:
    return (
        bool(obj.stitchwork.patches),
        not obj.hide_render,
        bool(obj.data.uv_layers),
        len(obj.data.polygons),
    )


def _on_disk(image: bpy.types.Image) -> bool:
    return Path(bpy.path.abspath(image.filepath, library=image.library)).is_file()


def save(path: Path) -> None:
    """Save a copy of the open file with all its images packed, so that it opens anywhere.

    Raises:
        GarmentError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for image in bpy.data.images:
            if image.source == "FILE" and image.packed_file is None and _on_disk(image):
                image.pack()
        bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True, compress=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise GarmentError(
            f"{path} cannot be written: {reason}", "Choose another place."
        ) from error
