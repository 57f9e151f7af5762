"""Small garments for tests, and fingerprints of all that a user owns in a .blend file."""

from __future__ import annotations

import hashlib
from typing import Any

import bpy
import numpy as np

from blender_addon.garment import pixels

Square = tuple[float, float, float, float]
WHOLE: Square = (0.0, 0.0, 1.0, 1.0)


def apply_and_undo() -> None:
    """Apply the active patch by its operator: that changes the file, and one undo changes it back.

    Outside an interface operators push no undo step by themselves.
    """
    bpy.ops.ed.undo_push(message="ready")
    before = fingerprint()
    assert bpy.ops.stitchwork.apply() == {"FINISHED"}
    bpy.ops.ed.undo_push(message="apply")
    assert fingerprint() != before
    bpy.ops.ed.undo()
    assert fingerprint() == before


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(H, W, 4) uint8 random opaque picture."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    picture[..., 3] = 255
    return picture


def print_on_cloth(side: int = 256) -> np.ndarray:
    """White cloth with a red square at columns and rows 25–50% of the picture."""
    picture = np.full((side, side, 4), 255, np.uint8)
    picture[..., :3] = 235
    picture[side // 4 : side // 2, side // 4 : side // 2, :3] = (200, 30, 40)
    return picture


def material(
    name: str, picture: np.ndarray | None = None, colour: Any = None, metallic: float = 0.0
) -> bpy.types.Material:
    """A Principled material with a texture or a constant colour."""
    made = bpy.data.materials.new(name)
    if bpy.app.version < (5, 0):
        made.use_nodes = True
    tree = made.node_tree
    shader = next(each for each in tree.nodes if each.type == "BSDF_PRINCIPLED")
    shader.inputs["Metallic"].default_value = metallic
    if colour is not None:
        shader.inputs["Base Color"].default_value = colour
    if picture is not None:
        texture = tree.nodes.new("ShaderNodeTexImage")
        texture.image = pixels.to_image(f"{name} print", picture)
        texture.interpolation = "Closest"
        tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    return made


def cloth(
    materials: list[bpy.types.Material | None],
    *,
    name: str = "Cloth",
    size: float = 0.1,
    squares: list[Square] | None = None,
    uv: bool = True,
) -> bpy.types.Object:
    """Upright square pieces of `size` units, one per UV square; piece i has material slot i."""
    squares = squares or [WHOLE]
    vertices, faces = [], []
    for index, _ in enumerate(squares):
        x = index * size * 1.5
        vertices += [(x, 0, 0), (x + size, 0, 0), (x + size, 0, size), (x, 0, size)]
        faces.append(tuple(range(4 * index, 4 * index + 4)))
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    if uv:
        layer = mesh.uv_layers.new(name="UVMap")
        corners = [
            corner
            for left, bottom, right, top in squares
            for corner in ((left, bottom), (right, bottom), (right, top), (left, top))
        ]
        layer.uv.foreach_set("vector", np.array(corners, np.float32).ravel())
    for each in materials:
        mesh.materials.append(each)
    for index, face in enumerate(mesh.polygons):
        face.material_index = min(index, max(0, len(materials) - 1))
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    bpy.context.view_layer.update()
    return obj


def _hash(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]


def _value(socket: Any) -> Any:
    value = getattr(socket, "default_value", None)
    return tuple(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


def _tree(tree: bpy.types.NodeTree) -> dict[str, Any]:
    return {
        "nodes": {
            node.name: (
                node.bl_idname,
                tuple(node.location),
                [_value(each) for each in node.inputs if each.type != "SHADER"],
                getattr(getattr(node, "image", None), "name", None),
            )
            for node in tree.nodes
        },
        "links": sorted(
            (
                link.from_node.name,
                link.from_socket.identifier,
                link.to_node.name,
                link.to_socket.identifier,
            )
            for link in tree.links
        ),
        "active": tree.nodes.active.name if tree.nodes.active else None,
    }


def _mesh(mesh: bpy.types.Mesh) -> dict[str, Any]:
    found: dict[str, Any] = {
        "materials": [each.name if each else None for each in mesh.materials],
        "active": (mesh.uv_layers.active.name if mesh.uv_layers.active else None),
        "rendered": [each.name for each in mesh.uv_layers if each.active_render],
        "properties": {key: str(mesh[key]) for key in mesh.keys()},  # noqa: SIM118
    }
    for attribute in mesh.attributes:
        if not attribute.data:
            continue
        name = next(
            each for each in ("vector", "value", "color") if hasattr(attribute.data[0], each)
        )
        values = [getattr(each, name) for each in attribute.data]
        flat = [tuple(each) if hasattr(each, "__len__") else each for each in values]
        found[f"attribute {attribute.name}"] = _hash(np.array(flat, np.float64))
    return found


def fingerprint(*, settings: bool = True) -> dict[str, Any]:
    """All meshes, objects, materials, images, node groups and, if asked, the scene's settings."""
    found: dict[str, Any] = {
        "meshes": {each.name: _mesh(each) for each in bpy.data.meshes},
        "objects": {
            each.name: (
                each.data.name if each.data else None,
                [(slot.link, slot.material.name if slot.material else None)
                 for slot in each.material_slots],
                tuple(tuple(row) for row in each.matrix_world),
                each.select_get(),
                {
                    key: str(each[key])
                    for key in each.keys()  # noqa: SIM118
                    if key != "stitchwork"
                },
            )
            for each in bpy.data.objects
        },
        "materials": {
            each.name: (
                _tree(each.node_tree) if each.node_tree else None,
                tuple(each.diffuse_color),
                each.metallic,
                each.users,
                each.use_fake_user,
            )
            for each in bpy.data.materials
        },
        "images": {
            each.name: (tuple(each.size), each.filepath, _hash(np.array(each.pixels[:])))
            for each in bpy.data.images
        },
        "groups": {each.name: _tree(each) for each in bpy.data.node_groups},
        "scenes": [each.name for each in bpy.data.scenes],
    }  # fmt: skip
    if settings:
        scene = bpy.context.scene
        found["settings"] = (
            scene.render.engine,
            scene.cycles.samples,
            scene.cycles.device,
            scene.cycles.bake_type,
            scene.render.bake.margin,
            scene.render.bake.use_clear,
            scene.render.resolution_x,
            scene.view_settings.view_transform,
            bpy.context.mode,
            bpy.context.view_layer.objects.active.name
            if bpy.context.view_layer.objects.active
            else None,
        )
    return found
