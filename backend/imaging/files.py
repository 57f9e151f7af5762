"""Reads any image a user may give, safely, and writes PNG files atomically."""

from __future__ import annotations

import os
import re
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from backend.errors import InputError, ResourceError

__all__ = [
    "MAX_SIDE",
    "MIN_REFERENCE_SIDE",
    "picture_size",
    "read_art",
    "read_mask",
    "read_reference",
    "read_rgba",
    "write_png",
]

MAX_SIDE = 16_384
MIN_REFERENCE_SIDE = 128
# Sides of what a mask must select to be learnt from, pixels: a few threads.
MIN_ART_SIDE = 32
# A photo whose lightness and colour vary less than this (in [0, 1]) shows nothing but sensor noise.
MIN_CONTRAST = 0.02

# Of Pillow's own some start other programs (EPS), and many are read by next to nobody.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "PSD")
# Programs save a dozen at most; each costs as much time as the whole picture saved plainly.
_MAX_SCANS = 200
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # what is left out are pixels
# Pillow's decoders are of many hands, and each fails on damaged files in its own way.
_DECODING_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, RuntimeError, struct.error, zlib.error),
)


def _shrink_remedy() -> str:
    return f"Shrink it to at most {MAX_SIDE} pixels a side and {_max_pixels() // 10**6} megapixels."


def _max_pixels() -> int:
    return Image.MAX_IMAGE_PIXELS or 89_478_485


def _open(path: Path) -> Image.Image:
    """The first frame, decoded, upright and in sRGB; still in the file's own mode."""
    if not os.path.exists(path):
        raise InputError(f"{path}: there is no such file.", "Check the path.")
    if not os.path.isfile(path):
        raise InputError(f"{path}: this is not a file.", "Give the path of an image file.")
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Damaged metadata is the file's problem, not the reader's.
            warnings.filterwarnings("ignore", category=UserWarning)
            image: Image.Image = Image.open(stream, formats=_FORMATS)
            if max(image.size) > MAX_SIDE or image.width * image.height > _max_pixels():
                raise InputError(
                    f"{path}: {image.width} × {image.height} pixels are too many.", _shrink_remedy()
                )
            if min(image.size) < 1:
                raise InputError(f"{path}: the image has no pixels.", "Save it again.")
            if image.format in ("JPEG", "MPO") and _scans(path.read_bytes()) > _MAX_SCANS:
                raise InputError(
                    f"{path}: the image takes more than {_MAX_SCANS} passes to decode.",
                    "Save it again as PNG.",
                )
            image.load()
            image = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: the image has too many pixels.", _shrink_remedy()) from error
    except PermissionError as error:
        raise InputError(f"{path}: the file may not be read.", "Allow reading it.") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: this is not an image that can be read.",
            "Save it as PNG or JPEG.",
        ) from error
    except _DECODING_ERRORS as error:
        raise InputError(
            f"{path}: the image is damaged or cut off.",
            "Copy it again from its source, or save it again as PNG.",
        ) from error
    return _to_srgb(image)


def _scans(jpeg: bytes) -> int:
    """How often a JPEG goes over its pixels: a hundred bytes more cost a pass over all of them."""
    count, place = 0, 0
    while (marker := _MARKER.search(jpeg, place)) and marker[1] != b"\xd9":  # the end
        count += marker[1] == b"\xda"
        start = marker.end()
        # The first marker has no segment, the others say how long theirs is.
        place = start + (0 if marker[1] == b"\xd8" else int.from_bytes(jpeg[start : start + 2]))
    return count


def _to_srgb(image: Image.Image) -> Image.Image:
    """Phones embed wide-gamut profiles; a profile that cannot be applied is left aside."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "RGBA"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode=mode
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image


def _as_float(image: Image.Image) -> NDArray[np.float32]:
    """Float RGBA of any Pillow mode, (H, W, 4) in [0, 1]."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float32)
        peak = float(np.max(grey, initial=0.0, where=np.isfinite(grey)))
        if image.mode.startswith("I;16"):
            scale = 65535.0
        else:
            scale = next((s for s in (1.0, 255.0, 65535.0) if peak <= s), max(peak, 1.0))
        grey = np.clip(np.nan_to_num(grey) / scale, 0.0, 1.0)
        return np.dstack([grey, grey, grey, np.ones_like(grey)]).astype(np.float32)
    values = np.array(image.convert("RGBA"), dtype=np.float32)
    values /= np.float32(255.0)  # in place: large pictures take no second copy
    return values


def _reduced(image: Image.Image, max_side: int | None) -> Image.Image:
    if max_side is None or max(image.size) <= max_side:
        return image
    if image.mode in ("P", "1"):
        image = image.convert("RGBA")
    scale = max_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX if image.mode.startswith("I;") else 1)


def read_rgba(path: str | Path, *, max_side: int | None = None) -> NDArray[np.float32]:
    """Read an image upright as sRGB with alpha.

    Handles EXIF rotation, CMYK, palettes, 16 bits, alpha, embedded colour profiles, animations
    (first frame).

    Args:
        max_side: shrink so that the longer side has at most this many pixels.

    Returns:
        (H, W, 4) float32 in [0, 1]; alpha is 1 where the file has none.

    Raises:
        InputError: missing, not an image, damaged, without pixels or too large.
    """
    return _as_float(_reduced(_open(Path(path)), max_side))


def picture_size(path: str | Path) -> tuple[int, int] | None:
    """(height, width) by the file's header, before rotation; None where it cannot be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                return image.height, image.width
    except (Image.DecompressionBombError, *_DECODING_ERRORS):
        return None


def read_reference(path: str | Path, *, max_side: int = 2048) -> NDArray[np.float32]:
    """Read a photo of an embroidery over white, and refuse one that can show none.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: as `read_rgba`; under 128 pixels a side; or all of one colour.
    """
    rgba = read_rgba(path, max_side=max_side)
    height, width = rgba.shape[:2]
    if min(height, width) < MIN_REFERENCE_SIDE:
        raise InputError(
            f"{path}: {width} × {height} pixels are too few to show stitches.",
            f"Give a photo of at least {MIN_REFERENCE_SIDE} pixels a side.",
        )
    rgb = rgba[..., :3] * rgba[..., 3:] + (1.0 - rgba[..., 3:])
    low, high = np.percentile(rgb, (0.5, 99.5), axis=(0, 1))
    if float((high - low).max()) < MIN_CONTRAST:
        raise InputError(
            f"{path}: the photo is all of one colour and shows no embroidery.",
            "Give a sharp photo that shows the stitches.",
        )
    return rgb.astype(np.float32)


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have one aspect ratio, up to the pixel that scaling rounds away."""
    small, large = sorted((one, other), key=lambda size: size[0] * size[1])
    return abs(small[0] * large[1] - small[1] * large[0]) <= max(large)


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Read a mask: its alpha where that varies, else its lightness.

    Args:
        size: (height, width) the mask must have; another size of the same shape is scaled to it.

    Returns:
        (H, W) float32 in [0, 1], 1 where selected.

    Raises:
        InputError: as `read_rgba`, or the mask is of another shape than the picture.
    """
    image = _open(Path(path))
    if size is not None and (image.height, image.width) != size:
        if not _same_shape((image.height, image.width), size):
            raise InputError(
                f"{path}: the mask is {image.width} × {image.height} pixels, the picture "
                f"{size[1]} × {size[0]}: stretched to fit, it would mark the wrong places.",
                "Give a mask of the picture's own size, or of the same proportions.",
            )
        if image.mode in ("P", "1"):
            image = image.convert("RGBA")
        image = image.resize((size[1], size[0]), Image.Resampling.BOX)
    if image.mode == "L" and "transparency" not in image.info:
        grey = np.array(image, dtype=np.float32)
        grey /= np.float32(255.0)
        return grey
    rgba = _as_float(image)
    if float(rgba[..., 3].min()) < 1.0:
        return np.ascontiguousarray(rgba[..., 3])
    mask: NDArray[np.float32] = rgba[..., :3].mean(axis=-1, dtype=np.float32)
    return mask


def read_art(path: str | Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask of where a photo is embroidered, 0 and 1, (H, W) = `size`.

    Raises:
        InputError: it cannot be used, or selects next to nothing.
    """
    from backend.imaging.masks import bounding_box  # OpenCV: lists of styles do without

    art = (read_mask(path, size) > 0.5).astype(np.float32)
    x0, y0, x1, y1 = bounding_box(art > 0.5)
    if min(x1 - x0, y1 - y0) < MIN_ART_SIDE:
        what = f"{x1 - x0} × {y1 - y0} pixels of the photo" if x1 else "nothing of the photo"
        raise InputError(
            f"{path}: this mask selects {what}.",
            f"Give one that is white where the photo is embroidered, at least {MIN_ART_SIDE} "
            "pixels a side, or leave it out.",
        )
    return art


def to_bytes(image: NDArray[np.floating] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Eight-bit values of an image in [0, 1]; exact inverse of reading eight bits."""
    if image.dtype == np.uint8:
        return image  # type: ignore[return-value]
    whole = np.empty(image.shape, dtype=np.uint8)
    for top in range(0, len(image), 512):  # strips, so that memory holds no float copies
        strip = np.clip(image[top : top + 512], 0.0, 1.0) * 255.0
        whole[top : top + 512] = np.round(strip)
    return whole


def write_png(
    path: str | Path,
    image: NDArray[np.floating] | NDArray[np.uint8],
    before: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write an 8-bit PNG in one step: readers see the old file or the whole new one.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4), float in [0, 1] or uint8.
        before: called with the place of the whole file aside, before it takes the place of `path`.

    Raises:
        ResourceError: the folder is missing or read-only, or the disk is full.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            Image.fromarray(to_bytes(image)).save(stream, format="PNG", compress_level=4)
        os.chmod(temporary, 0o644)
        before(Path(temporary))
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise ResourceError(
            f"{path}: the image cannot be written ({error.strerror or error}).",
            "Choose a folder that exists, may be written to and has free space.",
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
