"""Sample garment and reference photo that ship with the extension, and the scripts that made them.

The generated files lie beside the scripts; only the scripts need numpy and Blender.
"""

from pathlib import Path

__all__ = ["REFERENCE_DESIGN", "REFERENCE_MASK", "REFERENCE_PHOTO", "TSHIRT_BLEND", "TSHIRT_NAME"]

_FOLDER = Path(__file__).resolve().parent

TSHIRT_BLEND = _FOLDER / "tshirt.blend"
"""A T-shirt of 70 cm, packed textures; holds the object `TSHIRT_NAME`."""
TSHIRT_NAME = "T-shirt"
REFERENCE_PHOTO = _FOLDER / "reference.png"
"""Photo-like picture of embroidery, 1024 px, a thread of 0.4 mm is about 12 px wide."""
REFERENCE_DESIGN = _FOLDER / "reference_design.png"
"""The flat artwork of `REFERENCE_PHOTO`, aligned to the pixel."""
REFERENCE_MASK = _FOLDER / "reference_mask.png"
"""White where `REFERENCE_PHOTO` shows thread, black where it shows cloth."""
