"""Lays a given design over the photo of its embroidery: crop, scale, rotation, perspective."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.imaging.colour import rgb_to_lab
from backend.imaging.files import read_rgba
from backend.imaging.masks import bounding_box

__all__ = ["coverage_of", "lay", "register"]

_WORK_SIDE = 256
# Longest side that a design is read at.
_LARGEST = 2048
# Share of what design and motif cover together that both must cover: with a photo's own artwork
# it is 0.9 and more, with another's 0.1 to 0.7, as its outline happens to be.
_FITS = 0.25
# Colour difference from the border below which a pixel counts as the artwork's ground.
_GROUND = 6.0
# Degrees that a photo may be turned by; refining takes care of what is between.
_TURNS = (-18.0, -9.0, 9.0, 18.0)
# Share of the photo from which it is the motif, and cannot be seen to be turned.
_WHOLE = 0.98
# How much better a turned start must agree: where there is nothing to go by, none is.
_BETTER = 0.02
# Motions that refine, from plain to bold, and how far they may carry a corner, share of the side.
_MOTIONS = ((cv2.MOTION_AFFINE, 0.25), (cv2.MOTION_HOMOGRAPHY, 0.15))

Matrix = NDArray[np.float32]
"""(3, 3), photo pixels to design pixels."""


def coverage_of(rgba: NDArray[np.floating]) -> NDArray[np.float32]:
    """Where artwork is: its alpha, or what an even ground reaching in from the border leaves.

    Args:
        rgba: (H, W, 4).

    Returns:
        (H, W) float32 in [0, 1]; all 1 for artwork that fills its frame.
    """
    alpha = np.asarray(rgba[..., 3], dtype=np.float32)
    if alpha.min() < 0.5:
        return alpha
    lab = rgb_to_lab(rgba[..., :3])
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    ground = np.median(border, axis=0)
    near = np.linalg.norm(lab - ground, axis=2) < _GROUND
    if np.mean(np.linalg.norm(border - ground, axis=1) < _GROUND) < 0.8 or near.all():
        return np.ones_like(alpha)
    _, parts = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    outside = np.isin(parts, np.unique(edge[edge > 0])) & near
    return (~outside).astype(np.float32)


def _matrix(source: tuple[int, int, int, int], target: tuple[int, int, int, int]) -> Matrix:
    """The map that carries one box to another."""
    sx = (source[2] - source[0]) / (target[2] - target[0])
    sy = (source[3] - source[1]) / (target[3] - target[1])
    return np.array(
        [
            [sx, 0.0, source[0] - sx * target[0]],
            [0.0, sy, source[1] - sy * target[1]],
            [0.0, 0.0, 1.0],
        ],
        dtype=np.float32,
    )


def _turned(coverage: NDArray[np.floating], art: NDArray[np.floating], degrees: float) -> Matrix:
    """The map that carries middle and area of one mask to those of another, and turns."""
    (x0, y0, size), (x1, y1, wanted) = _middle(coverage), _middle(art)
    scale, angle = np.sqrt(size / wanted), np.deg2rad(degrees)
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    return np.array(
        [[a, -b, x0 - a * x1 + b * y1], [b, a, y0 - b * x1 - a * y1], [0.0, 0.0, 1.0]],
        dtype=np.float32,
    )


def _middle(mask: NDArray[np.floating]) -> tuple[float, float, float]:
    """x and y of a mask's middle, and its area."""
    total = float(mask.sum())
    x = float((mask.sum(axis=0) * np.arange(mask.shape[1])).sum()) / total
    y = float((mask.sum(axis=1) * np.arange(mask.shape[0])).sum()) / total
    return x, y, total


def _warp(
    image: NDArray[np.floating], matrix: Matrix, size: tuple[int, int]
) -> NDArray[np.float32]:
    """`image` seen through `matrix`, (height, width) = `size`; beyond its edge it is 0."""
    # Area-average first where the photo is the smaller one, or fine lines alias.
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    if shrink > 1.0:
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.45 * shrink)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped: NDArray[np.float32] = cv2.warpPerspective(pixels, matrix, size[::-1], flags=flags)
    return warped


def _agreement(photo: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation of two maps."""
    a, b = photo - photo.mean(), other - other.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9))


def _features(rgb: NDArray[np.floating], weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Blurred colour, zero on the ground, three channels."""
    lab = rgb_to_lab(rgb) * np.asarray(weight, dtype=np.float32)[..., None]
    return np.asarray(cv2.GaussianBlur(lab, (0, 0), 2.0), dtype=np.float32)


def lay(path: str, photo: NDArray[np.floating], mask: NDArray[np.floating]) -> NDArray[np.float32]:
    """`register` for the design in a file, which must look like it.

    Raises:
        InputError: the file cannot be used, or is no design of what the photo shows.
    """
    design = read_rgba(path, max_side=_LARGEST)
    if not (coverage_of(design) > 0.5).any():
        raise InputError(
            f"{path}: nothing is drawn in this design.",
            "Give the photo's flat artwork, or leave the design out.",
        )
    laid = register(design, photo, mask)
    covered, sewn = laid[..., 3] > 0.5, mask > 0.5
    share = float((covered & sewn).sum()) / max(1.0, float((covered | sewn).sum()))
    if share < _FITS:
        raise InputError(
            f"{path}: this design does not fit the photo: best laid over it, the two share "
            f"{share:.0%} of what they cover.",
            "Give the photo's own artwork, a mask that is white where the photo is embroidered, "
            "or leave the design out.",
        )
    return laid


def register(
    design: NDArray[np.floating], photo: NDArray[np.floating], mask: NDArray[np.floating]
) -> NDArray[np.float32]:
    """The design as it lies in the photo.

    Tries the design's frame on the photo's frame and its artwork on the motif's box, keeps what
    agrees better in colour and place, also turned, and refines that by a small affine motion and
    then a perspective one (enhanced correlation coefficient: Evangelidis, Psarakis, 2008).

    Args:
        design: (H, W, 4) in [0, 1].
        photo: (h, w, 3).
        mask: (h, w), 1 on the motif.

    Returns:
        (h, w, 4), coverage in the last channel.
    """
    coverage = coverage_of(design)
    height, width = photo.shape[:2]
    scale = min(1.0, _WORK_SIDE / max(height, width))
    size = (max(16, round(height * scale)), max(16, round(width * scale)))
    small = cv2.resize(np.asarray(photo, np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    art = cv2.resize(np.asarray(mask, np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    seen = _features(small, art)
    frame = (0, 0, design.shape[1], design.shape[0])
    starts, turned = [_matrix(frame, (0, 0, size[1], size[0]))], []
    motif, artwork = bounding_box(art > 0.5), bounding_box(coverage > 0.5)
    if motif[2] - motif[0] > 4 and artwork[2] - artwork[0] > 4 and motif[3] - motif[1] > 4:
        starts.append(_matrix(artwork, motif))
        if art.mean() < _WHOLE:
            turned = [_turned(coverage, art, degrees) for degrees in _TURNS]
    layers = np.dstack([design[..., :3] * coverage[..., None], coverage]).astype(np.float32)

    def agreement(matrix: Matrix) -> float:
        laid = _warp(layers, matrix, size)
        flat = laid[..., :3] / np.maximum(laid[..., 3:], 1e-3)
        there = _features(flat, laid[..., 3])
        colour = np.mean([_agreement(seen[..., c], there[..., c]) for c in range(3)])
        return float(colour) + _agreement(art, laid[..., 3])

    best = max(starts, key=agreement)
    other = max(turned, key=agreement, default=best)
    if agreement(other) > agreement(best) + _BETTER:
        best = other
    for motion, limit in _MOTIONS:
        best = _refined(best, layers, seen, motion, limit, agreement)
    to_full = np.diag([size[1] / width, size[0] / height, 1.0])
    matrix = (best @ to_full).astype(np.float32)
    laid = _warp(layers, matrix, (height, width))
    laid[..., :3] = np.clip(laid[..., :3] / np.maximum(laid[..., 3:], 1e-3), 0.0, 1.0)
    return laid


def _refined(
    matrix: Matrix,
    layers: NDArray[np.float32],
    seen: NDArray[np.float32],
    motion: int,
    limit: float,
    agreement: Callable[[Matrix], float],
) -> Matrix:
    """`matrix` after ECC, if that ends near the start and agrees better."""
    height, width = seen.shape[:2]
    laid = _warp(layers, matrix, (height, width))
    moving = _features(laid[..., :3] / np.maximum(laid[..., 3:], 1e-3), laid[..., 3])[..., 0]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    start = np.eye(3 if motion == cv2.MOTION_HOMOGRAPHY else 2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(seen[..., 0], moving, start, motion, criteria, None, 5)
    except cv2.error:  # no texture to hold on to, or it does not converge
        return matrix
    step = np.vstack([found, np.eye(3, dtype=np.float32)[len(found) :]])
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], dtype=np.float32)
    carried = np.abs(cv2.perspectiveTransform(corners, step) - corners).max()
    if not carried <= limit * max(height, width):
        return matrix
    moved = (matrix @ step).astype(np.float32)
    return moved if agreement(moved) > agreement(matrix) else matrix
