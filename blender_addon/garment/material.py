"""The node group that lays a patch's embroidery over a material, and where it is put in.

All of it is done to copies of materials that only this garment uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import bpy

from .emission import COLOUR_INPUTS, constant_colour, new_material, uses_nodes

__all__ = ["Look", "build_group", "copy_material", "images", "insert", "remove", "show"]

_SHOWN = "Shown"
_HELPER = "Stitchwork"
# Rayon and polyester thread: no metal; its gloss is spread out by its roundness, and colours stay.
_ROUGHNESS = 0.55
_SPECULAR = 0.2
# Thread has no fuzz, which would turn dark colours grey.
_SHEEN = 0.0
# A fifth is left, since normal maps hold folds beside the weave.
_WEAVE_HIDDEN = 0.8
# Group sockets: name, type, and the value of thread (None: made from the picture).
_SOCKETS = (
    ("Base Color", "NodeSocketColor", None),
    ("Metallic", "NodeSocketFloat", 0.0),
    ("Roughness", "NodeSocketFloat", _ROUGHNESS),
    ("Specular IOR Level", "NodeSocketFloat", _SPECULAR),
    ("Coat Weight", "NodeSocketFloat", 0.0),
    ("Sheen Weight", "NodeSocketFloat", _SHEEN),
    ("Normal", "NodeSocketVector", None),
)
_COVERAGE = "Coverage"


@dataclass(frozen=True, slots=True)
class Look:
    """How a patch lies on the cloth.

    Attributes:
        layer: UV layer.
        rect: left, bottom, right, top in UV units.
        relief: 0..1, strength of the bump.
        height: thickness of the thread in Blender units.
        heights: grey picture of the thread's relief; None for none.
    """

    layer: str
    rect: tuple[float, float, float, float]
    relief: float
    height: float
    heights: bpy.types.Image | None = None


def _link(tree: bpy.types.NodeTree, source: bpy.types.NodeSocket, target: object) -> None:
    tree.links.new(source, target)


def build_group(name: str, image: bpy.types.Image, look: Look) -> bpy.types.NodeTree:
    """A node group: shader inputs in, the same with embroidery laid over by its alpha out."""
    tree = bpy.data.node_groups.new(name, "ShaderNodeTree")
    for socket, kind, _ in _SOCKETS:
        tree.interface.new_socket(socket, in_out="INPUT", socket_type=kind)
        tree.interface.new_socket(socket, in_out="OUTPUT", socket_type=kind)
    tree.interface.new_socket(_COVERAGE, in_out="OUTPUT", socket_type="NodeSocketFloat")
    nodes = tree.nodes
    given, result = nodes.new("NodeGroupInput"), nodes.new("NodeGroupOutput")
    mapping = _mapping(tree, look)
    texture = _texture(tree, image, mapping)

    shown = nodes.new("ShaderNodeValue")
    shown.name = shown.label = _SHOWN
    shown.outputs[0].default_value = 1.0
    coverage = nodes.new("ShaderNodeMath")
    coverage.operation = "MULTIPLY"
    _link(tree, texture.outputs["Alpha"], coverage.inputs[0])
    _link(tree, shown.outputs[0], coverage.inputs[1])
    _link(tree, coverage.outputs[0], result.inputs[_COVERAGE])

    colour = nodes.new("ShaderNodeMix")
    colour.data_type = "RGBA"
    # ShaderNodeMix keeps sockets of every type: 0 factor, 6 and 7 colours, output 2 colour.
    _link(tree, coverage.outputs[0], colour.inputs[0])
    _link(tree, given.outputs["Base Color"], colour.inputs[6])
    _link(tree, texture.outputs["Color"], colour.inputs[7])
    _link(tree, colour.outputs[2], result.inputs["Base Color"])

    for socket, _, value in _SOCKETS:
        if value is not None:
            mix = nodes.new("ShaderNodeMix")
            _link(tree, coverage.outputs[0], mix.inputs[0])
            _link(tree, given.outputs[socket], mix.inputs[2])
            mix.inputs[3].default_value = value
            _link(tree, mix.outputs[0], result.inputs[socket])
    _relief(tree, given, result, mapping, coverage, look)
    for index, node in enumerate(nodes):
        node.location = (220.0 * (index % 4), -240.0 * (index // 4))
    given.location, result.location = (-260.0, 0.0), (1100.0, 0.0)
    return tree


def _mapping(tree: bpy.types.NodeTree, look: Look) -> bpy.types.Node:
    uv = tree.nodes.new("ShaderNodeUVMap")
    uv.uv_map = look.layer
    left, bottom, right, top = look.rect
    scale = (1.0 / (right - left), 1.0 / (top - bottom), 1.0)
    mapping = tree.nodes.new("ShaderNodeMapping")
    mapping.inputs["Scale"].default_value = scale
    mapping.inputs["Location"].default_value = (-left * scale[0], -bottom * scale[1], 0.0)
    _link(tree, uv.outputs[0], mapping.inputs["Vector"])
    return mapping


def _texture(
    tree: bpy.types.NodeTree, image: bpy.types.Image, mapping: bpy.types.Node
) -> bpy.types.Node:
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    texture.extension = "CLIP"
    _link(tree, mapping.outputs[0], texture.inputs["Vector"])
    return texture


def _relief(
    tree: bpy.types.NodeTree,
    given: bpy.types.Node,
    result: bpy.types.Node,
    mapping: bpy.types.Node,
    coverage: bpy.types.Node,
    look: Look,
) -> None:
    """A bump from the thread's heights; thread also lies a step above the cloth."""
    if look.relief <= 0 or look.heights is None:
        _link(tree, given.outputs["Normal"], result.inputs["Normal"])
        return
    heights = _texture(tree, look.heights, mapping)
    # Straight slopes between pixels would show as facets.
    heights.interpolation = "Cubic"
    step = tree.nodes.new("ShaderNodeMath")
    step.operation = "MULTIPLY_ADD"
    step.inputs[1].default_value, step.inputs[2].default_value = 0.7, 0.3
    _link(tree, heights.outputs["Color"], step.inputs[0])
    height = tree.nodes.new("ShaderNodeMath")
    height.operation = "MULTIPLY"
    _link(tree, step.outputs[0], height.inputs[0])
    _link(tree, coverage.outputs[0], height.inputs[1])
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = look.relief
    bump.inputs["Distance"].default_value = look.height
    _link(tree, height.outputs[0], bump.inputs["Height"])
    _link(tree, _under_thread(tree, given, coverage), bump.inputs["Normal"])
    _link(tree, bump.outputs[0], result.inputs["Normal"])


def _under_thread(
    tree: bpy.types.NodeTree, given: bpy.types.Node, coverage: bpy.types.Node
) -> bpy.types.NodeSocket:
    """The cloth's normal with its weave smoothed away where thread covers it."""
    share = tree.nodes.new("ShaderNodeMath")
    share.operation = "MULTIPLY"
    share.inputs[1].default_value = _WEAVE_HIDDEN
    _link(tree, coverage.outputs[0], share.inputs[0])
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "VECTOR"
    geometry = tree.nodes.new("ShaderNodeNewGeometry")
    # Of ShaderNodeMix: 0 factor, 4 and 5 vectors, output 1 vector.
    _link(tree, share.outputs[0], mix.inputs[0])
    _link(tree, given.outputs["Normal"], mix.inputs[4])
    _link(tree, geometry.outputs["Normal"], mix.inputs[5])
    return mix.outputs[1]


def copy_material(material: bpy.types.Material | None, name: str) -> bpy.types.Material:
    """A copy that only this garment uses; with nodes, whatever the original was."""
    if material is not None and uses_nodes(material):
        copy = material.copy()
        copy.name = name
        copy.use_fake_user = False
        return copy
    copy = new_material(name)
    tree = copy.node_tree
    tree.nodes.clear()
    shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    _link(tree, shader.outputs[0], output.inputs["Surface"])
    output.location = (300.0, 0.0)
    if material is not None:
        shader.inputs["Base Color"].default_value = constant_colour(material)
        shader.inputs["Metallic"].default_value = material.metallic
        shader.inputs["Roughness"].default_value = material.roughness
    return copy


def _shaders(tree: bpy.types.NodeTree) -> Iterator[bpy.types.Node]:
    """Surface shader nodes that reach an output of the tree, mixing nodes left out."""
    waiting = [
        node.inputs["Surface"].links[0].from_node
        for node in tree.nodes
        if node.type == "OUTPUT_MATERIAL" and node.inputs["Surface"].is_linked
    ]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        below = [
            link.from_node for each in node.inputs if each.type == "SHADER" for link in each.links
        ]
        if not below:
            yield node
        waiting.extend(below)


def insert(material: bpy.types.Material, group: bpy.types.NodeTree) -> None:
    """Put the group before the base colour of every surface shader of the material.

    Where the surface is made by something else (a node group, say), thread is mixed over the
    whole surface instead.
    """
    tree = material.node_tree
    shaders = list(_shaders(tree))
    opaque = [each for each in shaders if each.type not in ("BSDF_TRANSPARENT", "HOLDOUT")]
    if opaque and all(each.type in COLOUR_INPUTS for each in opaque):
        for shader in opaque:
            _before(tree, shader, group)
    else:
        for output in [each for each in tree.nodes if each.type == "OUTPUT_MATERIAL"]:
            _over(tree, output, group)


def _group_node(
    tree: bpy.types.NodeTree, group: bpy.types.NodeTree, beside: bpy.types.Node
) -> bpy.types.Node:
    node = tree.nodes.new("ShaderNodeGroup")
    node.node_tree = group
    node.label = group.name
    node.location = (beside.location.x - 200.0, beside.location.y - 60.0)
    node.width = 180.0
    return node


def _before(tree: bpy.types.NodeTree, shader: bpy.types.Node, group: bpy.types.NodeTree) -> None:
    node = _group_node(tree, group, shader)
    for name, _, _ in _SOCKETS:
        target_name = COLOUR_INPUTS[shader.type] if name == "Base Color" else name
        target = shader.inputs.get(target_name)
        if target is None:
            continue
        if target.is_linked:
            _link(tree, target.links[0].from_socket, node.inputs[name])
        elif name == "Normal":
            _link(tree, _surface_normal(tree, node), node.inputs[name])
        else:
            node.inputs[name].default_value = target.default_value
        _link(tree, node.outputs[name], target)


def _surface_normal(tree: bpy.types.NodeTree, beside: bpy.types.Node) -> bpy.types.NodeSocket:
    """An unlinked normal input of a group would be zero; this is the surface's own."""
    geometry = tree.nodes.new("ShaderNodeNewGeometry")
    geometry.name = geometry.label = f"{_HELPER} Normal"
    geometry.hide = True
    geometry.location = (beside.location.x - 200.0, beside.location.y - 160.0)
    return geometry.outputs["Normal"]


def _over(tree: bpy.types.NodeTree, output: bpy.types.Node, group: bpy.types.NodeTree) -> None:
    node = _group_node(tree, group, output)
    thread = tree.nodes.new("ShaderNodeBsdfPrincipled")
    thread.name = thread.label = f"{_HELPER} Thread"
    mix = tree.nodes.new("ShaderNodeMixShader")
    mix.name = mix.label = f"{_HELPER} Mix"
    for name, _, _ in _SOCKETS:
        _link(tree, node.outputs[name], thread.inputs[name])
    _link(tree, _surface_normal(tree, node), node.inputs["Normal"])
    _link(tree, node.outputs[_COVERAGE], mix.inputs[0])
    surface = output.inputs["Surface"]
    if surface.is_linked:
        _link(tree, surface.links[0].from_socket, mix.inputs[1])
    _link(tree, thread.outputs[0], mix.inputs[2])
    _link(tree, mix.outputs[0], surface)


def remove(material: bpy.types.Material, group: bpy.types.NodeTree) -> None:
    """Take the group out of a material; what it was put between is joined again."""
    tree = material.node_tree
    for node in [each for each in tree.nodes if each.type == "GROUP" and each.node_tree == group]:
        mixes = [link.to_node for link in node.outputs[_COVERAGE].links]
        for mix in mixes:
            thread = mix.inputs[2].links[0].from_node
            _bypass(tree, mix.inputs[1], mix.outputs[0])
            tree.nodes.remove(thread)
            tree.nodes.remove(mix)
        helpers = [
            link.from_node
            for link in node.inputs["Normal"].links
            if link.from_node.name.startswith(f"{_HELPER} Normal")
        ]
        if not mixes:
            # The node's own sockets: an older version's group has fewer.
            for given in node.inputs:
                _bypass(tree, given, node.outputs[given.name])
        tree.nodes.remove(node)
        for helper in helpers:
            if not any(_feeds_group(link) for link in helper.outputs["Normal"].links):
                tree.nodes.remove(helper)


def _feeds_group(link: bpy.types.NodeLink) -> bool:
    return bool(link.to_node.type == "GROUP" and _COVERAGE in link.to_node.outputs)


def _bypass(
    tree: bpy.types.NodeTree, given: bpy.types.NodeSocket, result: bpy.types.NodeSocket
) -> None:
    for link in list(result.links):
        target = link.to_socket
        if given.is_linked:
            _link(tree, given.links[0].from_socket, target)
        else:
            if _feeds_group(link):
                target.default_value = given.default_value
            tree.links.remove(link)


def images(group: bpy.types.NodeTree) -> list[bpy.types.Image]:
    """The pictures that a group reads."""
    return [each.image for each in group.nodes if each.type == "TEX_IMAGE" and each.image]


def show(group: bpy.types.NodeTree, shown: bool) -> None:
    """Show or hide the embroidery of a group."""
    group.nodes[_SHOWN].outputs[0].default_value = 1.0 if shown else 0.0
