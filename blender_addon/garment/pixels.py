"""Pixels in and out of Blender: numpy arrays, PNG files and image data-blocks.

Arrays are (H, W) or (H, W, C), uint8, top row first, sRGB values, straight alpha.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from .errors import GarmentError

__all__ = ["fill", "from_image", "read", "read_small", "to_image", "write_png"]

_PNG_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path, array: np.ndarray, *, colour: bool = True) -> None:
    """Write an 8-bit PNG aside and rename it, so that a reader never sees half a file.

    Blender's own saving goes through the scene's view settings; this stores the bytes as they are.

    Args:
        array: (H, W), (H, W, 3) or (H, W, 4) uint8.
        colour: sRGB colours; else plain numbers.

    Raises:
        GarmentError: the folder cannot be written or the disk is full.
    """
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    rows = np.ascontiguousarray(array, dtype=np.uint8).reshape(height, width * channels)
    # Filter 2 ("up") stores the difference to the row above: small files at little cost.
    filtered = np.empty((height, width * channels + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR_TYPE[channels], 0, 0, 0)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(_SIGNATURE + _chunk(b"IHDR", header))
            if colour:
                # Says that values are sRGB, so that no reader applies a gamma of its own.
                file.write(_chunk(b"sRGB", b"\0"))
            file.write(_chunk(b"IDAT", zlib.compress(filtered.data, 4)))
            file.write(_chunk(b"IEND", b""))
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise GarmentError(
            f"{path} cannot be written: {error.strerror}.",
            "Choose another work folder or free disk space.",
        ) from error


def from_image(image: bpy.types.Image) -> np.ndarray:
    """The stored values of an image data-block as (H, W, 4) uint8, without colour conversion.

    Raises:
        GarmentError: the image has no pixels (its file is missing or damaged).
    """
    width, height = image.size
    if width == 0 or height == 0 or not image.has_data:
        # Reading a pixel loads a file that was not needed before; a missing one stays empty.
        _ = len(image.pixels)
        width, height = image.size
    if width == 0 or height == 0:
        raise GarmentError(
            f"Image '{image.name}' has no pixels.", "Its file is missing or damaged; reload it."
        )
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(height, width, image.channels)[::-1]
    np.clip(values, 0.0, 1.0, out=values)
    bytes_ = (values * 255.0 + 0.5).astype(np.uint8)
    if image.channels == 4:
        return bytes_
    whole = np.full((height, width, 4), 255, np.uint8)
    whole[..., :3] = bytes_[..., :3] if image.channels == 3 else bytes_[..., :1]
    return whole


def read(path: Path) -> np.ndarray:
    """An image file as (H, W, 4) uint8.

    Raises:
        GarmentError: the file is missing or Blender cannot read it.
    """
    with _opened(path) as image:
        return from_image(image)


def read_small(path: Path, width: int, height: int) -> np.ndarray:
    """An image file sampled at that size, as (H, W, 4) uint8; a large one costs little memory.

    Raises:
        GarmentError: as `read`.
    """
    with _opened(path) as image:
        if 0 not in tuple(image.size):
            image.scale(width, height)
        return from_image(image)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[bpy.types.Image]:
    if not path.is_file():
        raise GarmentError(f"{path} does not exist.", "Bake or restyle the patch again.")
    try:
        image = bpy.data.images.load(str(path))
    except RuntimeError as error:
        raise GarmentError(f"{path} is not an image.", "Bake or restyle again.") from error
    try:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "CHANNEL_PACKED"
        yield image
    finally:
        bpy.data.images.remove(image)


def to_image(name: str, array: np.ndarray, *, colour: bool = True) -> bpy.types.Image:
    """A packed image data-block of a (H, W, 4) uint8 array; the .blend file carries it.

    Args:
        colour: sRGB colours; else plain numbers.
    """
    height, width = array.shape[:2]
    image = bpy.data.images.new(name, width, height, alpha=True, is_data=not colour)
    image.alpha_mode = "STRAIGHT"
    values = array[::-1].astype(np.float32)
    values /= 255.0
    image.pixels.foreach_set(values.ravel())
    image.update()
    image.pack()
    return image


def fill(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Continue known pixels into the unknown ones, by averages of ever coarser grids.

    Args:
        values: (H, W, C) uint8 or float.
        known: (H, W) bool; at least one is True.

    Returns:
        Array like `values`; known pixels are unchanged.
    """
    filled = values.copy()
    if known.all():
        return filled
    weight = known.astype(np.float32)[..., None]
    levels: list[tuple[np.ndarray, ...]] = [(values * weight, weight)]
    while max(levels[-1][0].shape[:2]) > 1:
        levels.append(tuple(_halve(each) for each in levels[-1]))
    coarse = levels[-1][0] / np.maximum(levels[-1][1], 1e-12)
    for total, share in reversed(levels[:-1]):
        height, width = total.shape[:2]
        coarse = _smooth(coarse.repeat(2, 0)[:height].repeat(2, 1)[:, :width])
        here = share[..., 0] > 0
        coarse[here] = total[here] / share[here]
    unknown = ~known
    filled[unknown] = coarse[unknown] + (0.5 if values.dtype == np.uint8 else 0.0)
    return filled


def _halve(values: np.ndarray) -> np.ndarray:
    """Sums over 2×2 pixels; odd sides are padded with zeros."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


def _smooth(values: np.ndarray) -> np.ndarray:
    """A 1-2-1 average along both axes: doubled pixels become straight slopes."""
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (1, 1)
        wide = np.pad(values, padding, mode="edge")
        size = values.shape[axis]
        low, high = (np.take(wide, range(at, at + size), axis) for at in (0, 2))
        values = (low + high + 2 * values) / 4
    return values
