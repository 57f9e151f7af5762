"""What Stitchwork stores in a .blend file: garments with their patches, and the scene's job."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .garment import patches

__all__ = ["GarmentProperties", "OriginalSlot", "PatchProperties", "SceneProperties"]

REGIONS = (
    ("AUTO", "Artwork", "What differs from the cloth's ground colour, found by itself"),
    ("FACES", "Faces", "The faces that were selected when the patch was made or last updated"),
    ("GROUP", "Vertex Group", "Faces in a vertex group"),
    ("MASK", "Mask Image", "An image in the patch's UV layout, white where to embroider"),
    ("ALL", "Everything", "The whole rectangle"),
)
PROFILES = (
    ("starter", "Starter", "Shipped small model; minutes on a processor"),
    ("sdxl", "SDXL", "The paper's models; needs a GPU and downloaded weights"),
)


# Property callbacks are named functions: Blender evaluates annotations where a lambda's body would
# not see this module's names.


def _patch_moved(patch: Any, _context: bpy.types.Context) -> None:
    patches.refresh_size(patch)


def _style_chosen(patch: Any, _context: bpy.types.Context) -> None:
    patches.refresh_thread(patch)


def _words_typed(patch: Any, _context: bpy.types.Context) -> None:
    patch.shape_mm = 0.0  # what was measured was the artwork


def _height_typed(garment: Any, _context: bpy.types.Context) -> None:
    for patch in garment.patches:
        patches.refresh_size(patch)


class OriginalSlot(bpy.types.PropertyGroup):
    """A material slot as it was before the first patch was applied."""

    index: IntProperty(name="Slot")
    link: StringProperty(name="Link")
    material: PointerProperty(type=bpy.types.Material, name="Object Material")
    copy: PointerProperty(type=bpy.types.Material, name="Embroidered Material")
    added: BoolProperty(name="Slot Was Added")


class PatchProperties(bpy.types.PropertyGroup):
    """A rectangle of one UV layer with its own image, density, coverage mask, style and thread."""

    name: StringProperty(name="Name", default="Patch")
    uid: StringProperty(name="Identifier", options={"HIDDEN"})
    uv_layer: StringProperty(
        name="UV Layer",
        description="UV layer that the rectangle lies in; empty: the one used for rendering",
        update=_patch_moved,
    )
    rect: FloatVectorProperty(
        name="Rectangle",
        description="Left, bottom, right and top of the patch in UV units",
        size=4,
        default=(0.0, 0.0, 1.0, 1.0),
        precision=4,
        update=_patch_moved,
    )
    words: StringProperty(
        name="Words",
        description='Embroider a motif from these words, such as "a red heart", in place of the '
        "artwork (the region Artwork is then the whole rectangle); empty: the garment's artwork",
        update=_words_typed,
    )
    region: EnumProperty(name="Region", description="What is embroidered", items=REGIONS)
    faces: StringProperty(name="Faces", description="Stored face indices", options={"HIDDEN"})
    vertex_group: StringProperty(name="Vertex Group")
    mask_image: PointerProperty(type=bpy.types.Image, name="Mask Image")
    thread_mm: FloatProperty(
        name="Thread Width",
        description="Width of the thread in millimetres on the real garment",
        default=0.4,
        min=0.05,
        max=20.0,
        precision=2,
    )
    exaggeration: FloatProperty(
        name="Exaggeration",
        description="Makes the thread this many times wider than real, and the image smaller",
        default=1.0,
        min=0.1,
        max=50.0,
        precision=2,
    )
    style: StringProperty(
        name="Style",
        description="Folder of a trained style",
        subtype="DIR_PATH",
        update=_style_chosen,
    )
    thread_px: FloatProperty(
        name="Thread in Style",
        description="Thread width in pixels that the style measured in its reference",
        default=patches.DEFAULT_THREAD_PX,
        options={"HIDDEN"},
    )
    mm_per_uv: FloatVectorProperty(
        name="Millimetres per UV Unit", size=2, default=(0.0, 0.0), options={"HIDDEN"}
    )
    shape_mm: FloatProperty(
        name="Shape Width",
        description="A quarter of the artwork lies in shapes narrower than this; 0: not measured",
        default=0.0,
        options={"HIDDEN"},
    )
    relief: FloatProperty(
        name="Relief",
        description="How much the thread stands out in a render; 0 is flat",
        default=0.3,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    density: FloatProperty(
        name="Density",
        description="Pixels per millimetre of the patch's image",
        get=patches.density,
    )
    size_text: StringProperty(
        name="Size",
        description="Real size of the patch and of its image",
        get=patches.size_text,
    )
    image: PointerProperty(type=bpy.types.Image, name="Embroidery")
    group: PointerProperty(type=bpy.types.NodeTree, name="Node Group")
    bake_path: StringProperty(name="Bake", subtype="FILE_PATH")
    mask_path: StringProperty(name="Coverage", subtype="FILE_PATH")
    result_path: StringProperty(name="Result", subtype="FILE_PATH")
    applied: BoolProperty(name="Applied", default=False)


class GarmentProperties(bpy.types.PropertyGroup):
    """A mesh object that carries patches."""

    real_height_cm: FloatProperty(
        name="Real Height",
        description="Height of the garment in centimetres; 0: as the file says, in the unit that "
        "fits where that cannot be",
        default=0.0,
        min=0.0,
        max=1000.0,
        precision=1,
        update=_height_typed,
    )
    patches: CollectionProperty(type=PatchProperties)
    active_patch: IntProperty(name="Active Patch", default=0, min=0)
    originals: CollectionProperty(type=OriginalSlot)
    shown: BoolProperty(name="Show Embroidery", default=True)


class SceneProperties(bpy.types.PropertyGroup):
    """What the panel trains on, and the job that runs."""

    reference: StringProperty(
        name="Reference", description="Photo of one embroidery", subtype="FILE_PATH"
    )
    design: StringProperty(
        name="Design",
        description="The photo's flat artwork, if you own it; otherwise made from the photo",
        subtype="FILE_PATH",
    )
    profile: EnumProperty(name="Profile", description="Base model", items=PROFILES)
    style: StringProperty(name="Style", description="Folder of a trained style", subtype="DIR_PATH")
    max_side: IntProperty(
        name="Largest Image",
        description="Largest side of a patch's image in pixels",
        default=8192,
        min=64,
        max=8192,
    )
    job_id: StringProperty(options={"SKIP_SAVE"})
    job_stage: StringProperty(name="Stage", options={"SKIP_SAVE"})
    job_progress: FloatProperty(
        name="Progress", min=0.0, max=1.0, subtype="FACTOR", options={"SKIP_SAVE"}
    )
    seconds_left: FloatProperty(name="Seconds Left", default=-1.0, options={"SKIP_SAVE"})
    status: StringProperty(name="Status", options={"SKIP_SAVE"})


CLASSES = (OriginalSlot, PatchProperties, GarmentProperties, SceneProperties)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Object.stitchwork = PointerProperty(type=GarmentProperties, name="Stitchwork")
    bpy.types.Scene.stitchwork = PointerProperty(type=SceneProperties, name="Stitchwork")


def unregister() -> None:
    del bpy.types.Scene.stitchwork
    del bpy.types.Object.stitchwork
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
