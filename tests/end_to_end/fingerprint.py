"""Prints, as JSON, what a .blend file holds of its owner's: run by the interpreter that has bpy."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import bpy
import numpy as np


def _digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _read(collection: Any, attribute: str, width: int) -> str:
    values = np.empty(len(collection) * width, np.float32)
    collection.foreach_get(attribute, values)
    return _digest(values)


def _material(material: bpy.types.Material) -> dict[str, Any]:
    tree = material.node_tree
    return {
        "nodes": sorted((node.name, node.bl_idname) for node in tree.nodes),
        "links": sorted(
            (link.from_node.name, link.from_socket.name, link.to_node.name, link.to_socket.name)
            for link in tree.links
        ),
    }


def fingerprint(path: str) -> dict[str, Any]:
    bpy.ops.wm.open_mainfile(filepath=path)
    meshes = {
        each.name: {
            "vertices": _read(each.data.vertices, "co", 3),
            "loops": len(each.data.loops),
            "uv": {layer.name: _read(layer.uv, "vector", 2) for layer in each.data.uv_layers},
            "materials": [slot.material and slot.material.name for slot in each.material_slots],
        }
        for each in bpy.data.objects
        if each.type == "MESH"
    }
    images = {
        each.name: _digest(np.array(each.pixels[:], np.float32))
        for each in bpy.data.images
        if each.size[0] and each.source == "FILE"
    }
    used = [each for each in bpy.data.materials if each.users and each.node_tree]
    return {
        "meshes": meshes,
        "images": images,
        "materials": {each.name: _material(each) for each in used},
        "node groups": sorted(each.name for each in bpy.data.node_groups if each.users),
    }


if __name__ == "__main__":
    print("FINGERPRINT " + json.dumps(fingerprint(sys.argv[1]), sort_keys=True))
