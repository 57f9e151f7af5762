"""A first look: the reference's thread laid over a design by guided patch synthesis.

After Hertzmann, Jacobs, Oliver, Curless, Salesin, "Image Analogies" (2001): reference design is to
reference photo as the target is to the result. What is carried over is only the detail, photo
minus design, so colours and shapes stay the target's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.imaging.colour import lab_to_rgb, rgb_to_lab
from backend.imaging.edges import thread_width
from backend.imaging.masks import bounding_box, densest
from backend.preview.flow import boundary_flow
from backend.preview.guides import Guides, Palette, make_guides, make_palette
from backend.preview.quilting import Quilter
from backend.preview.shading import apply_shading, relief_scale
from backend.preview.source import build_library

__all__ = ["synthesise"]

SOURCE_SIDE = 640
# Rows that are filled at a time: fewer of a wide picture, so that memory does not grow with it.
STRIP_ROWS, LEAST_ROWS, STRIP_PIXELS = 1024, 256, 2**19
# How far a boundary wanders between threads, in thread widths.
RAGGED = 0.35
# Thread width, in pixels, of the small copy that directions are worked out on.
FLOW_THREAD = 2.5


def synthesise(
    reference: NDArray[np.floating],
    design: NDArray[np.floating],
    reference_mask: NDArray[np.floating],
    target: NDArray[np.floating],
    target_mask: NDArray[np.floating],
    *,
    seed: int,
    thread: float | None = None,
) -> NDArray[np.float32]:
    """Lay the reference's thread over the target.

    Args:
        reference, design: (h, w, 3) in [0, 1], the aligned pair.
        reference_mask: (h, w), above 0.5 where the reference is embroidered.
        target: (H, W, 3) in [0, 1], flat artwork of any size.
        target_mask: (H, W), above 0.5 where to embroider; all else stays as it is.
        seed: of all choices made at random.
        thread: wanted thread width in the target, pixels; the reference's own if absent.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        InputError: the reference shows too little embroidery.
    """
    photo, flat, art, width = _prepare_reference(reference, design, reference_mask, thread)
    try:
        library = build_library(photo, flat, art, width, seed)
    except ValueError as error:
        raise InputError(
            "The reference photo shows too little embroidery.",
            "Give a photo in which the embroidery fills more of the picture.",
        ) from error
    result = np.array(target, dtype=np.float32)
    inside = target_mask > 0.5
    x0, y0, x1, y1 = bounding_box(inside)
    if x1 == 0:
        return result
    palette = make_palette(target, inside)
    quilter = Quilter(library, seed)
    halo = int(8 * width) + library.patch
    scale = min(1.0, FLOW_THREAD / width)
    flow = _flow(target[y0:y1, x0:x1], inside[y0:y1, x0:x1], palette, width, scale)
    wanted = library.lay.wanted(flow)
    kept: NDArray[np.float32] | None = None
    step = min(STRIP_ROWS, max(LEAST_ROWS, STRIP_PIXELS // (x1 - x0)))
    for top in range(y0, y1, step):
        bottom = min(top + step, y1)
        low, high = max(0, top - halo), min(len(target), bottom + halo)
        left, right = max(0, x0 - halo), min(target.shape[1], x1 + halo)
        guides = make_guides(
            target[low:high, left:right], inside[low:high, left:right], palette, width
        )
        rows = min(bottom + library.patch, high) - top
        view = np.s_[top - low : top - low + rows, x0 - left : x1 - left]
        part = type(guides)(*(getattr(guides, name)[view] for name in guides.__slots__))
        lab = rgb_to_lab(target[top : top + rows, x0:x1])
        canvas = np.zeros((rows, x1 - x0), dtype=np.float32)
        done = 0
        if kept is not None:
            done = min(len(kept), rows)
            canvas[:done] = kept[:done]
        quilter.fill(canvas, done, part, _enlarged(wanted, scale, top - y0, canvas), lab[..., 0])
        kept = canvas[bottom - top :]
        relief = (canvas + apply_shading(library.shading, part)) * relief_scale(lab[..., 0])
        lab = rgb_to_lab(_ragged(target[top : top + rows, x0:x1], canvas, part, width))
        _write(result, relief[: bottom - top], lab[: bottom - top], inside, top, x0)
    return result


def _prepare_reference(
    reference: NDArray[np.floating],
    design: NDArray[np.floating],
    mask: NDArray[np.floating],
    thread: float | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], float]:
    """Reference pair cropped to its art and scaled to the wanted thread; its thread width."""
    x0, y0, x1, y1 = bounding_box(mask > 0.5)
    if x1 == 0:
        x0, y0, x1, y1 = 0, 0, mask.shape[1], mask.shape[0]
        mask = np.ones_like(mask)
    photo = np.ascontiguousarray(reference[y0:y1, x0:x1], dtype=np.float32)
    flat = np.ascontiguousarray(design[y0:y1, x0:x1], dtype=np.float32)
    art = np.ascontiguousarray(mask[y0:y1, x0:x1], dtype=np.float32)
    own = thread_width(photo, art) or 6.0
    wanted = thread or float(np.clip(own, 4.0, 14.0))
    scale = wanted / own
    if abs(scale - 1.0) > 0.02:
        size = (max(8, round(photo.shape[1] * scale)), max(8, round(photo.shape[0] * scale)))
        how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
        photo, flat, art = (
            cv2.resize(each, size, interpolation=how) for each in (photo, flat, art)
        )
    if max(photo.shape[:2]) > SOURCE_SIDE:
        box = densest(art, SOURCE_SIDE)
        photo, flat, art = photo[box], flat[box], art[box]
    return np.clip(photo, 0, 1), np.clip(flat, 0, 1), art > 0.5, wanted


def _flow(
    target: NDArray[np.floating],
    inside: NDArray[np.bool_],
    palette: Palette,
    thread: float,
    scale: float,
) -> NDArray[np.float32]:
    """`boundary_flow` of the whole target, on a copy of it made smaller by `scale`.

    Directions vary slowly, and even a region's far side matters for them.
    """
    size = tuple(max(1, round(side * scale)) for side in inside.shape[::-1])
    small = cv2.resize(np.ascontiguousarray(target, np.float32), size, interpolation=cv2.INTER_AREA)
    within = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    guides = make_guides(small, within, palette, scale * thread)
    return boundary_flow(guides.distance, scale * thread)


def _enlarged(
    small: NDArray[np.float32], scale: float, top: int, like: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The part of a small map from row `top` of the large one on, as large as `like`."""
    back = np.array([[scale, 0.0, 0.5 * scale - 0.5], [0.0, scale, scale * (top + 0.5) - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(
        small, back, like.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(part, np.float32)


def _ragged(
    target: NDArray[np.float32], detail: NDArray[np.float32], guides: Guides, thread: float
) -> NDArray[np.float32]:
    """Let boundaries follow the thread: a gap between threads shows what lies beyond the edge."""
    soft = cv2.GaussianBlur(detail, (0, 0), thread / 8.0)
    spread = float(soft[guides.labels >= 0].std()) if (guides.labels >= 0).any() else 1.0
    gap = np.clip(-soft / max(2.0 * spread, 1e-3), -0.5, 1.0)
    near = np.clip(1.0 - guides.distance, 0.0, 1.0)
    reach = (RAGGED * thread * gap * (near > 0)).astype(np.float32)
    rows, columns = np.indices(reach.shape, dtype=np.float32)
    x = columns - reach * np.cos(guides.inward)
    y = rows - reach * np.sin(guides.inward)
    return cv2.remap(target, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _write(
    result: NDArray[np.float32],
    detail: NDArray[np.float32],
    lab: NDArray[np.float32],
    inside: NDArray[np.bool_],
    top: int,
    left: int,
) -> None:
    """Add detail to the target's lightness; its A and B stay, whatever fringes the photo has."""
    rows, columns = detail.shape
    sewn = lab.copy()
    sewn[..., 0] = np.clip(lab[..., 0] + detail, 0.0, 100.0)
    here = np.s_[top : top + rows, left : left + columns]
    result[here] = np.where(inside[here][..., None], lab_to_rgb(sewn), result[here])
