"""Materials that shine with their base colour, so that a bake reads colour without any light.

Cycles' DIFFUSE bake is black where a material is metallic; an emission of the base colour is not.
"""

from __future__ import annotations

import bpy

__all__ = [
    "COLOUR_INPUTS",
    "base_colour_material",
    "constant_colour",
    "new_material",
    "shading_material",
    "uses_nodes",
]

# Shader nodes and the input that is their base colour.
COLOUR_INPUTS = {
    "BSDF_PRINCIPLED": "Base Color",
    "BSDF_DIFFUSE": "Color",
    "BSDF_GLOSSY": "Color",
    "BSDF_METALLIC": "Base Color",
    "BSDF_TOON": "Color",
    "BSDF_SHEEN": "Color",
    "BSDF_TRANSLUCENT": "Color",
    "BSDF_REFRACTION": "Color",
    "BSDF_GLASS": "Color",
    "BSDF_HAIR": "Color",
    "SUBSURFACE_SCATTERING": "Color",
    "EEVEE_SPECULAR": "Base Color",
    "EMISSION": "Color",
}
_EMPTY = {"BSDF_TRANSPARENT", "HOLDOUT"}


def constant_colour(material: bpy.types.Material) -> tuple[float, float, float, float]:
    """The colour of a material without nodes."""
    return tuple(material.diffuse_color)


def uses_nodes(material: bpy.types.Material) -> bool:
    """Whether nodes make the material; from Blender 5.0 on they always do."""
    if material.node_tree is None:
        return False
    return bpy.app.version >= (5, 0) or bool(material.use_nodes)


def new_material(name: str) -> bpy.types.Material:
    """A material with a node tree."""
    material = bpy.data.materials.new(name)
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    return material


def base_colour_material(
    material: bpy.types.Material | None, trees: list[bpy.types.NodeTree]
) -> bpy.types.Material:
    """A copy of a material that emits its base colour.

    Args:
        trees: copies of node groups are appended here; the caller removes them.
    """
    copy = shading_material(material)
    _emit(copy.node_tree, trees)
    output = copy.node_tree.get_output_node("CYCLES")
    if output is not None:
        for name in ("Volume", "Displacement"):
            for link in list(output.inputs[name].links):
                copy.node_tree.links.remove(link)
    return copy


def shading_material(material: bpy.types.Material | None) -> bpy.types.Material:
    """A copy of a material, with nodes whatever it was, to bake from."""
    if material is None:
        return _constant((0.8, 0.8, 0.8, 1.0))
    if not uses_nodes(material):
        return _constant(constant_colour(material))
    copy = material.copy()
    # A copied fake user would survive the clean-up.
    copy.use_fake_user = False
    return copy


def _constant(colour: tuple[float, float, float, float]) -> bpy.types.Material:
    material = new_material("stitchwork bake")
    tree = material.node_tree
    tree.nodes.clear()
    emission = tree.nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = colour
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material


def _emit(tree: bpy.types.NodeTree, trees: list[bpy.types.NodeTree]) -> None:
    """Replace every surface shader of a tree, and of the groups in it, by its colour."""
    for node in list(tree.nodes):
        if node.type == "GROUP" and node.node_tree is not None:
            if any(socket.type == "SHADER" for socket in node.outputs):
                node.node_tree = node.node_tree.copy()
                trees.append(node.node_tree)
                _emit(node.node_tree, trees)
        elif node.type in COLOUR_INPUTS:
            _replace(tree, node)
    for node in list(tree.nodes):
        if node.type in ("MIX_SHADER", "ADD_SHADER"):
            _pass_opaque(tree, node)


def _replace(tree: bpy.types.NodeTree, node: bpy.types.Node) -> None:
    colour = node.inputs[COLOUR_INPUTS[node.type]]
    emission = tree.nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = colour.default_value
    if colour.is_linked:
        tree.links.new(colour.links[0].from_socket, emission.inputs["Color"])
    shader = next(each for each in node.outputs if each.type == "SHADER")
    targets = [link.to_socket for link in shader.links]
    for target in targets:
        tree.links.new(emission.outputs[0], target)


def _opaque(socket: bpy.types.NodeSocket) -> bpy.types.NodeSocket | None:
    """Where a shader input's colour comes from; None if from nothing or transparency."""
    if not socket.is_linked:
        return None
    source = socket.links[0].from_socket
    return None if source.node.type in _EMPTY else source


def _pass_opaque(tree: bpy.types.NodeTree, node: bpy.types.Node) -> None:
    """A mix with transparency, or a sum, has the colour of its one opaque part."""
    first, second = (_opaque(each) for each in node.inputs if each.type == "SHADER")
    if node.type == "MIX_SHADER" and first is not None and second is not None:
        return
    source = first or second
    for link in list(node.outputs[0].links):
        target = link.to_socket
        if source is None:
            tree.links.remove(link)
        else:
            tree.links.new(source, target)
