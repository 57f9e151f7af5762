"""Lays patches of thread over a target: choice by guides, overlap and reuse; least-error seams.

Seams after Efros and Freeman, "Image Quilting" (2001); coherent continuation of a neighbour's
source after Ashikhmin, "Synthesizing Natural Textures" (2001).
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from backend.preview.guides import Guides
from backend.preview.source import DESCRIPTOR_SIDE, Library, Looks, sample_points, soften

__all__ = ["Quilter"]

CANDIDATES = 48
BOUNDARY_WEIGHT = 2.0
INTRUSION_WEIGHT = 30.0
PENALTY_WEIGHT = 2.0
DIRECTION_WEIGHT = 1.6
LIGHTNESS_WEIGHT = 0.012
JITTER = 0.9
REUSE_WEIGHT = 0.10
# Patches whose fit to their guides is reckoned at a time.
AT_ONCE = 256


def _seams(errors: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 left of the cheapest top-to-bottom path through each of `errors` (N, H, W), 1 right of it.

    Paths run down one row and at most one column aside at a time.
    """
    count, height, width = errors.shape
    cost = np.full((height, count, width + 2), np.inf, dtype=np.float32)
    cost[..., 1:-1] = np.moveaxis(errors, 1, 0)
    best = np.empty((count, width), dtype=np.float32)
    for above, here in pairwise(cost):
        np.minimum(above[:, :-2], above[:, 2:], out=best)
        np.minimum(best, above[:, 1:-1], out=best)
        here[:, 1:-1] += best
    cut = np.empty((count, height), dtype=np.int64)
    for number, rows in enumerate(np.moveaxis(cost, 1, 0).tolist()):
        at = min(range(1, width + 1), key=rows[-1].__getitem__)
        cut[number, -1] = at
        for row in range(height - 2, -1, -1):
            at = min((at - 1, at, at + 1), key=rows[row].__getitem__)
            cut[number, row] = at
    return (np.arange(1, width + 1) >= cut[..., None]).astype(np.float32)


class Quilter:
    """Fills a canvas of detail patch by patch, in raster order; strips may follow one another."""

    def __init__(self, library: Library, seed: int) -> None:
        self.library = library
        self.rng = np.random.default_rng(seed)
        self.patch = library.patch
        self.overlap = max(6, library.patch // 3)
        self.step = self.patch - self.overlap
        looks = library.look(library.places)
        jitter = self.rng.random((len(library.places), 2)).astype(np.float32)
        self.tree = cKDTree(self._features(looks.bumps, looks.direction, looks.lightness, jitter))
        rows, columns = (int(side / (self.patch / 2.0)) + 2 for side in library.maps.shape[:2])
        self.used = np.zeros((rows, columns), dtype=np.float32)
        shape = (self.patch, self.patch)
        # Every other pixel of a patch is enough to compare it by.
        self.windows = np.lib.stride_tricks.sliding_window_view(
            library.detail[..., 0],
            shape,
            axis=(1, 2),
        )[..., ::2, ::2]
        self.looks, self.cells = looks, self._cells(looks)

    def _cells(self, looks: Looks) -> NDArray[np.intp]:
        """Where in the reference patches are from, (N, 2) rows and columns of `used`."""
        cells = np.maximum(looks.home[:, ::-1] / (self.patch / 2.0), 0).astype(np.intp)
        return np.minimum(cells, np.array(self.used.shape) - 1)

    @staticmethod
    def _features(
        bumps: NDArray[np.float32],
        direction: NDArray[np.float32],
        lightness: NDArray[np.float32],
        jitter: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        return np.concatenate(
            [
                bumps * (BOUNDARY_WEIGHT / DESCRIPTOR_SIDE),
                direction * DIRECTION_WEIGHT,
                lightness[..., None] * LIGHTNESS_WEIGHT,
                jitter * JITTER,
            ],
            axis=-1,
        ).astype(np.float32)

    def wanted_direction(
        self, guides: Guides, rows: NDArray[np.integer], columns: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Thread direction wanted at N pixels, (N, 2): doubled angle times certainty."""
        library = self.library
        tangent_c, tangent_s = (
            each[rows, columns] for each in (guides.tangent_cos, guides.tangent_sin)
        )
        follow = float(np.clip((library.follows - 0.25) / 0.35, 0.0, 1.0))
        cos, sin = np.cos(library.offset), np.sin(library.offset)
        along_c = tangent_c * cos - tangent_s * sin
        along_s = tangent_s * cos + tangent_c * sin
        mix = follow * np.hypot(along_c, along_s)
        fixed_c, fixed_s = np.cos(library.common), np.sin(library.common)
        c = mix * along_c + (1.0 - mix) * 0.8 * fixed_c
        s = mix * along_s + (1.0 - mix) * 0.8 * fixed_s
        return np.stack([c, s], axis=1).astype(np.float32)

    def _describe(
        self, bump: NDArray[np.float32], tops: NDArray[np.int32], lefts: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Boundary descriptors of the target's patches, (N, D)."""
        points = sample_points(self.patch).astype(np.int32)
        rows = np.minimum(tops[:, None] + points[None, :, 1], bump.shape[0] - 1)
        columns = np.minimum(lefts[:, None] + points[None, :, 0], bump.shape[1] - 1)
        return soften(bump, self.patch)[rows, columns]

    def fill(
        self,
        canvas: NDArray[np.float32],
        done_rows: int,
        guides: Guides,
        lightness: NDArray[np.float32],
    ) -> None:
        """Fill `canvas` (H, W, 3) wherever `guides.labels` >= 0.

        Args:
            canvas: detail so far; its first `done_rows` rows are finished and are overlapped.
            guides, lightness: of the same area.
        """
        height, width = canvas.shape[:2]
        patch, step = self.patch, self.step
        start = max(0, done_rows - self.overlap)
        tops = np.arange(start, max(height - self.overlap, start + 1), step)
        lefts = np.arange(0, max(width - self.overlap, 1), step)
        grid_t, grid_l = (
            each.ravel().astype(np.int32) for each in np.meshgrid(tops, lefts, indexing="ij")
        )
        inside = (guides.labels >= 0).astype(np.float32)
        share = cv2.blur(inside, (patch, patch), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        busy = share[np.minimum(grid_t, height - 1), np.minimum(grid_l, width - 1)] > 0.0
        grid_t, grid_l = grid_t[busy], grid_l[busy]
        if len(grid_t) == 0:
            return
        rows = np.minimum(grid_t + patch // 2, height - 1)
        columns = np.minimum(grid_l + patch // 2, width - 1)
        query = self._features(
            self._describe(guides.bump, grid_t, grid_l),
            self.wanted_direction(guides, rows, columns),
            lightness[rows, columns],
            self.rng.random((len(grid_t), 2)).astype(np.float32),
        )
        count = min(CANDIDATES, len(self.library.places))
        index = self.tree.query(query, k=count)[1].reshape(len(query), -1)
        placed: dict[tuple[int, int], tuple[int, int, int]] = {}
        filled = np.zeros((height, width), dtype=bool)
        filled[:done_rows] = True
        for number, (top, left) in enumerate(zip(grid_t.tolist(), grid_l.tolist())):
            if number % AT_ONCE == 0:
                some = np.s_[number : number + AT_ONCE]
                costs = self._guide_cost(self.looks.of(index[some]), query[some, None])
            row = number % AT_ONCE
            self._place(
                canvas, filled, placed, (top, left), query[number], index[number], costs[row]
            )

    def _place(
        self,
        canvas: NDArray[np.float32],
        filled: NDArray[np.bool_],
        placed: dict[tuple[int, int], tuple[int, int, int]],
        spot: tuple[int, int],
        query: NDArray[np.float32],
        index: NDArray[np.int64],
        guide: NDArray[np.float32],
    ) -> None:
        """Lay the best patch at `spot`: of those at `index`, with their costs, or a neighbour's."""
        patch, library, (top, left) = self.patch, self.library, spot
        height = min(patch, canvas.shape[0] - top)
        width = min(patch, canvas.shape[1] - left)
        places, cells = library.places[index], self.cells[index]
        # What a finished neighbour's source shows next is a seamless candidate.
        back, limit, more = self.step, library.usable.shape[1], []
        for d_top, d_left in ((0, -back), (-back, 0), (-back, -back), (-back, back)):
            source = placed.get((top + d_top, left + d_left))
            if source is None:
                continue
            turn, y, x = source[0], source[1] - d_top, source[2] - d_left
            if 0 <= y < limit and 0 <= x < limit and library.usable[turn, y, x]:
                more.append((turn, y, x))
        if more:
            others = np.array(more, dtype=np.int32)
            looks = library.look(others)
            places = np.concatenate([places, others])
            guide = np.concatenate([guide, self._guide_cost(looks, query)])
            cells = np.concatenate([cells, self._cells(looks)])
        known = filled[top : top + height, left : left + width]
        error = np.zeros(len(places), dtype=np.float32)
        if known.any():
            have = canvas[top : top + height : 2, left : left + width : 2, 0]
            weight = known[::2, ::2].astype(np.float32)
            views = self.windows[places[:, 0], places[:, 1], places[:, 2]]
            apart = views[:, : have.shape[0], : have.shape[1]] - have
            error = np.einsum("nij,nij,ij->n", apart, apart, weight) / weight.sum()
            scale = float((have**2 * weight).sum() / weight.sum()) + 1.0
            error = error / scale
        cost = guide + error + REUSE_WEIGHT * self.used[cells[:, 0], cells[:, 1]]
        best = int(cost.argmin())
        turn, y, x = places[best].tolist()
        self.used[tuple(cells[best])] += 1.0
        placed[top, left] = (turn, y, x)
        new = library.detail[turn, y : y + height, x : x + width]
        self._paste(canvas, filled, top, left, new)

    def _guide_cost(self, looks: Looks, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """How badly patches fit the target's guides, (..., N); `query` (..., 1, D), or one's."""
        jitter = np.zeros((*looks.lightness.shape, 2), dtype=np.float32)
        features = self._features(looks.bumps, looks.direction, looks.lightness, jitter)
        cost = ((features[..., :-2] - query[..., :-2]) ** 2).sum(axis=-1)
        # A boundary in the patch where the target has none would show the reference's motif.
        wanted = query[..., : DESCRIPTOR_SIDE**2] * (DESCRIPTOR_SIDE / BOUNDARY_WEIGHT)
        extra = np.maximum(looks.bumps - wanted, 0.0)
        extra *= extra
        penalty = INTRUSION_WEIGHT * extra.mean(axis=-1) + PENALTY_WEIGHT * looks.penalty
        return np.asarray(cost + penalty, dtype=np.float32)

    def _paste(
        self,
        canvas: NDArray[np.float32],
        filled: NDArray[np.bool_],
        top: int,
        left: int,
        new: NDArray[np.float32],
    ) -> None:
        height, width = new.shape[:2]
        here = np.s_[top : top + height, left : left + width]
        old, known = canvas[here], filled[here]
        alpha = np.ones((height, width), dtype=np.float32)
        band_x, band_y = min(self.overlap, width), min(self.overlap, height)
        error = ((new[..., 0] - old[..., 0]) ** 2) * known
        beside = np.count_nonzero(known[:, :band_x]) > 0.5 * band_x * height
        above = np.count_nonzero(known[:band_y]) > 0.5 * band_y * width
        if beside and above and height == width:
            cut = _seams(np.stack([error[:, :band_x], error[:band_y].T]))
            alpha[:, :band_x] *= cut[0]
            alpha[:band_y] *= cut[1].T
        else:
            if beside:
                alpha[:, :band_x] *= _seams(error[None, :, :band_x])[0]
            if above:
                alpha[:band_y] *= _seams(error[None, :band_y].transpose(0, 2, 1))[0].T
        # One pixel of feather hides the cut without softening thread.
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.7)
        alpha = np.where(known, alpha, 1.0)[..., None]
        canvas[here] = old * (1.0 - alpha) + new * alpha
        filled[here] = True
