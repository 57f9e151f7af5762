"""The reference pair as a library of patches of thread, in several rotations."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.imaging.colour import lab_to_rgb, rgb_to_lab
from backend.imaging.edges import orientation
from backend.preview.flow import Lay, boundary_flow, measure_lay
from backend.preview.guides import REACH, make_guides, make_palette
from backend.preview.relief import (
    evened,
    flaws_of,
    photo_labels,
    region_means,
    texture_of,
    without_outlines,
)
from backend.preview.shading import measure_shading, relief_scale

__all__ = ["Library", "Looks", "build_library"]

ROTATIONS = 16
SAMPLES = 24_000
# Share of the patches that count as free of boundaries: in a motif of small areas none is.
CLEANEST = 0.15


@dataclass(frozen=True, slots=True)
class Looks:
    """What guides see of N patches.

    Attributes:
        direction: (N, 2) thread direction, doubled angle times coherence.
        lightness: (N,) lightness L of the design under the patch.
        boundary: (N,) how much of the reference's own boundaries is in the patch, 0 to 1; 0 for
            the cleanest that it has.
        penalty: (N,) 0 for clear thread, larger for remains of the motif, blur or glare.
        texture: (N, 3) how relief is shared out between scales, fine to coarse; logarithms.
        home: (N, 2) centres (x, y) in the unrotated reference, pixels.
    """

    direction: NDArray[np.float32]
    lightness: NDArray[np.float32]
    boundary: NDArray[np.float32]
    penalty: NDArray[np.float32]
    texture: NDArray[np.float32]
    home: NDArray[np.float32]

    def of(self, index: NDArray[np.integer]) -> Looks:
        """These of the patches, in an index of any shape."""
        return Looks(*(getattr(self, name)[index] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Library:
    """Patches of detail to choose from.

    Attributes:
        detail: (R, S, S) relief of the reference in R rotations: lightness finer than its
            regions, over `relief_scale`.
        usable: (R, S, S) whether a patch with this top left corner lies within the art.
        places: (N, 3) sampled patches: rotation, top, left.
        patch: side of a patch in pixels.
        maps: (h, w, 8) of the unrotated reference: thread direction (doubled angle times
            coherence) as cosine and sine, lightness, boundary, penalty, texture.
        shading: relief by direction and distance of the boundary, see `shading.py`.
        lay: how threads lie.
        to_home: (R, 2, 3) affine maps from rotated to unrotated pixels.
    """

    detail: NDArray[np.float32]
    usable: NDArray[np.bool_]
    places: NDArray[np.int32]
    patch: int
    maps: NDArray[np.float32]
    shading: NDArray[np.float32]
    lay: Lay
    to_home: NDArray[np.float64]

    def look(self, places: NDArray[np.integer]) -> Looks:
        """Guides' view of patches at (N, 3) rotation, top, left."""
        turns = self.to_home[places[:, 0]]
        corners = places[:, :0:-1].astype(np.float64)
        home = np.einsum("nij,nj->ni", turns[:, :, :2], corners + self.patch / 2) + turns[:, :, 2]
        centre = self._read(home)
        doubled = (4 * np.pi / ROTATIONS) * places[:, 0]
        cos, sin = centre[:, 0], centre[:, 1]
        turned = [
            cos * np.cos(doubled) - sin * np.sin(doubled),
            sin * np.cos(doubled) + cos * np.sin(doubled),
        ]
        return Looks(
            direction=np.stack(turned, axis=1).astype(np.float32),
            lightness=centre[:, 2],
            boundary=centre[:, 3],
            penalty=centre[:, 4],
            texture=centre[:, 5:],
            home=home.astype(np.float32),
        )

    def _read(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Nearest values of the maps at (..., 2) points (x, y)."""
        columns = np.clip(np.round(points[..., 0]), 0, self.maps.shape[1] - 1).astype(np.intp)
        rows = np.clip(np.round(points[..., 1]), 0, self.maps.shape[0] - 1).astype(np.intp)
        return self.maps[rows, columns]


def _turn(theta: float, side: int, height: int, width: int) -> NDArray[np.float64]:
    """Affine map from a square of `side` pixels to the reference turned by `theta` in it."""
    cos, sin = np.cos(theta), np.sin(theta)
    matrix = np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])
    matrix[:, 2] = np.array([width / 2, height / 2]) - matrix[:, :2] @ [side / 2, side / 2]
    return matrix


def _patch_size(mask: NDArray[np.bool_], thread: float) -> tuple[int, float]:
    """Side of a patch, six threads if the art allows, and the share of it that must be art.

    Raises:
        ValueError: no patch fits.
    """
    usual = int(np.clip(2 * round(3.0 * thread), 20, 96))
    usual = min(usual, min(mask.shape) - 1)
    for coverage in (0.97, 0.85, 0.6):
        for patch in (usual, usual * 2 // 3, usual // 2):
            if patch >= 10 and _fits(mask.astype(np.uint8), patch, coverage).sum() > patch:
                return patch, coverage
    raise ValueError("the reference shows too little embroidery for one patch")


def _fits(art: NDArray[np.uint8], patch: int, coverage: float) -> NDArray[np.bool_]:
    """Top left corners of patches that lie within the art."""
    filled = cv2.blur(
        art.astype(np.float32), (patch, patch), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    fits = filled > coverage
    fits[len(fits) - patch :] = False
    fits[:, fits.shape[1] - patch :] = False
    return fits


def build_library(
    photo: NDArray[np.floating],
    design: NDArray[np.floating],
    mask: NDArray[np.bool_],
    thread: float,
    seed: int,
) -> Library:
    """Prepare the reference pair.

    Args:
        photo, design: (H, W, 3) in [0, 1], aligned.
        mask: (H, W) where the photo shows embroidery.
        thread: thread width in the photo, pixels.

    Raises:
        ValueError: too little art for one patch.
    """
    patch, coverage = _patch_size(mask, thread)
    palette = make_palette(design, mask)
    guides = make_guides(design, mask, palette, thread)
    lab = rgb_to_lab(photo)
    seen = photo_labels(lab, mask, thread)
    labels = np.where(mask, guides.labels.astype(np.int32) * 16 + seen, -1)
    light = np.ascontiguousarray(lab[..., 0])
    flat = region_means(light, labels, 4.0 * thread)
    scale = relief_scale(flat)
    detail = (light - region_means(light, labels, 1.6 * thread)) / scale
    detail = without_outlines(detail, mask, guides.distance)
    flaws = flaws_of(detail, mask, patch, thread)
    texture = texture_of(detail, patch, thread)
    detail = evened(detail, mask, patch)
    # Lightness alone: threads of several hues may lie side by side in one fill.
    grey = lab_to_rgb(np.dstack([flat, np.zeros_like(flat), np.zeros_like(flat)]))
    own = make_guides(grey, mask, make_palette(grey, mask), thread)
    near = 1.0 - np.minimum(guides.distance, own.distance) / REACH
    boundary = cv2.blur(np.maximum(near, 0.0) ** 2, (patch, patch))
    fits = _fits(mask.astype(np.uint8), patch, coverage)
    clean = np.quantile(np.roll(boundary, (-(patch // 2),) * 2, axis=(0, 1))[fits], CLEANEST)
    boundary = np.sqrt(np.maximum(boundary - clean, 0.0))
    design_l = rgb_to_lab(design)[..., 0]
    angle, coherence = orientation(detail * mask, 1.5 * thread)
    height, width = mask.shape
    threads = coherence[..., None] * np.dstack([np.cos(2 * angle), np.sin(2 * angle)])
    lay = measure_lay(angle, coherence * mask, boundary_flow(guides.distance, thread))

    side = int(np.ceil(np.hypot(height, width)))
    details, usables, maps = [], [], []
    for turn in range(ROTATIONS):
        to_home = _turn(2 * np.pi * turn / ROTATIONS, side, height, width)
        maps.append(to_home)
        smooth = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        sharp = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        square = (side, side)
        details.append(
            cv2.warpAffine(detail, to_home, square, flags=smooth, borderMode=cv2.BORDER_REFLECT)
        )
        art = cv2.warpAffine(mask.astype(np.uint8), to_home, square, flags=sharp)
        usables.append(_fits(art, patch, coverage))
    usable_all = np.stack(usables)
    spots = np.argwhere(usable_all)
    rng = np.random.default_rng(seed)
    if len(spots) > SAMPLES:
        spots = spots[np.sort(rng.choice(len(spots), SAMPLES, replace=False))]
    return Library(
        detail=np.stack(details),
        usable=usable_all,
        places=spots.astype(np.int32),
        patch=patch,
        maps=np.dstack([threads, design_l, boundary, flaws, texture]).astype(np.float32),
        shading=measure_shading(
            (light - region_means(light, labels, 6.0 * thread)) / scale, guides, thread
        ),
        lay=lay,
        to_home=np.stack(maps),
    )
