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
from backend.preview.source import Library, Looks

__all__ = ["Quilter"]

CANDIDATES = 48
# A boundary in a patch would show the reference's motif; the target's own are drawn by its colours
# and `shading.py`.
BOUNDARY_WEIGHT = 2.0
INTRUSION_WEIGHT = 34.0
PENALTY_WEIGHT = 2.0
DIRECTION_WEIGHT = 2.0
LIGHTNESS_WEIGHT = 0.012
FLAW_WEIGHT = 1.0
TEXTURE_WEIGHT = 2.5
# Clear patches of which the commonest texture is found, and the share of them that makes it common.
CLEAR, COMMON = 2000, 0.15
JITTER = 0.9
# Patches just laid are avoided, for repeats show; were they never forgotten, a large area would
# use up its stitch and go on with the photo's others, and with its flaws.
REUSE_WEIGHT = 0.06
# Of as many patches as the reference has cells, how many are remembered.
REMEMBERED = 0.3


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
    every, near = np.arange(count)[:, None], np.array([-1, 0, 1])
    cut = np.empty((height, count), dtype=np.int64)
    cut[-1] = cost[-1].argmin(axis=1)
    for row in range(height - 2, -1, -1):
        below = cut[row + 1]
        cut[row] = below - 1 + cost[row][every, below[:, None] + near].argmin(axis=1)
    return (np.arange(1, width + 1) >= cut.T[..., None]).astype(np.float32)


def _commonest(looks: Looks) -> NDArray[np.float32]:
    """The texture that most clear patches have; wanted all over, so that no area mixes several."""
    clear = np.argsort(looks.penalty + looks.boundary, kind="stable")
    found = looks.texture[clear[: min(CLEAR, -(-2 * len(clear) // 5))]]
    crowd = max(1, round(COMMON * len(found)))
    # The middle of the densest crowd: of the mean, between two kinds of stitch, there may be none.
    radius = cKDTree(found).query(found, k=[crowd])[0][:, 0]
    return np.asarray(found[radius.argmin()], np.float32)


class Quilter:
    """Fills a canvas of detail with patches, aslant from the top left; strips may follow."""

    def __init__(self, library: Library, seed: int) -> None:
        self.library = library
        self.rng = np.random.default_rng(seed)
        self.patch = library.patch
        self.overlap = max(6, library.patch // 3)
        self.step = self.patch - self.overlap
        looks = library.look(library.places)
        jitter = self.rng.random((len(library.places), 2)).astype(np.float32)
        self.tree = cKDTree(self._features(looks, jitter))
        rows, columns = (int(side / (self.patch / 2.0)) + 2 for side in library.maps.shape[:2])
        self.used = np.zeros((rows, columns), dtype=np.float32)
        shape = (self.patch, self.patch)
        # Every other pixel of a patch is enough to compare it by.
        self.windows = np.lib.stride_tricks.sliding_window_view(
            library.detail,
            shape,
            axis=(1, 2),
        )[..., ::2, ::2]
        self.looks, self.cells = looks, self._cells(looks)
        self.memory = max(1.0, REMEMBERED * len(np.unique(self.cells, axis=0)))
        self.texture = _commonest(looks)

    def _cells(self, looks: Looks) -> NDArray[np.intp]:
        """Where in the reference patches are from, (N, 2) rows and columns of `used`."""
        cells = np.maximum(looks.home[:, ::-1] / (self.patch / 2.0), 0).astype(np.intp)
        return np.minimum(cells, np.array(self.used.shape) - 1)

    @staticmethod
    def _features(looks: Looks, jitter: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate(
            [
                looks.direction * DIRECTION_WEIGHT,
                looks.lightness[..., None] * LIGHTNESS_WEIGHT,
                looks.boundary[..., None] * BOUNDARY_WEIGHT,
                looks.penalty[..., None] * FLAW_WEIGHT,
                looks.texture * TEXTURE_WEIGHT,
                jitter * JITTER,
            ],
            axis=-1,
        ).astype(np.float32)

    def fill(
        self,
        canvas: NDArray[np.float32],
        done_rows: int,
        guides: Guides,
        direction: NDArray[np.float32],
        lightness: NDArray[np.float32],
    ) -> None:
        """Fill `canvas` (H, W) wherever `guides.labels` >= 0.

        Args:
            canvas: detail so far; its first `done_rows` rows are finished and are overlapped.
            direction: (H, W, 2) wanted of the threads, as of `Lay.wanted`.
            guides, lightness: of the same area.
        """
        height, width = canvas.shape
        patch, step = self.patch, self.step
        start = max(0, done_rows - self.overlap)
        tops = np.arange(start, max(height - self.overlap, start + 1), step)
        lefts = np.arange(0, max(width - self.overlap, 1), step)
        inside = (guides.labels >= 0).astype(np.float32)
        share = cv2.blur(inside, (patch, patch), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        spots = np.argwhere(share[np.ix_(tops, lefts)] > 0.0)
        if len(spots) == 0:
            return
        grid_t, grid_l = tops[spots[:, 0]], lefts[spots[:, 1]]
        rows = np.minimum(grid_t + patch // 2, height - 1)
        columns = np.minimum(grid_l + patch // 2, width - 1)
        wanted = Looks(
            direction=direction[rows, columns],
            lightness=lightness[rows, columns],
            boundary=np.zeros(len(spots), np.float32),
            penalty=np.zeros(len(spots), np.float32),
            texture=np.broadcast_to(self.texture, (len(spots), len(self.texture))),
            home=np.zeros((len(spots), 2), np.float32),
        )
        query = self._features(wanted, self.rng.random((len(spots), 2)).astype(np.float32))
        count = min(CANDIDATES, len(self.library.places))
        index = self.tree.query(query, k=count)[1].reshape(len(query), -1)
        # Patches at the border are whole, too; what lies beyond is cut off at the end.
        wide = np.zeros((height + patch, width + patch), dtype=np.float32)
        wide[:height, :width] = canvas
        filled = np.zeros(wide.shape, dtype=bool)
        filled[:done_rows] = True
        placed = np.full((len(tops) + 1, len(lefts) + 2, 3), -1, dtype=np.int64)
        # Patches of one front do not touch each other, and all that they overlap is of earlier
        # ones: the one to the left, and the three above.
        front = 2 * spots[:, 0] + spots[:, 1]
        for number in np.unique(front):
            here = np.flatnonzero(front == number)
            new = self._choose(wide, filled, placed, spots[here], start, query[here], index[here])
            self._paste(wide, filled, np.stack([grid_t[here], grid_l[here]], axis=1), new)
        canvas[:] = wide[:height, :width]

    def _choose(
        self,
        canvas: NDArray[np.float32],
        filled: NDArray[np.bool_],
        placed: NDArray[np.int64],
        spots: NDArray[np.int64],
        start: int,
        query: NDArray[np.float32],
        index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """The best for N spots, (N, patch, patch): of those at `index`, or what goes on.

        Args:
            placed: (rows + 1, columns + 2, 3) what was chosen so far; row, column + 1 of a spot.
            spots: (N, 2) row and column; row 0 is at `start` on the canvas.
            query: (N, D), and `index` (N, K) of the places that come near.
        """
        patch, library, step = self.patch, self.library, self.step
        # What a finished neighbour's source shows next is a seamless candidate.
        beside = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1)])
        sources = placed[tuple(np.moveaxis(spots[:, None] + beside + (0, 1), -1, 0))]
        others = sources - np.pad(beside * step, ((0, 0), (1, 0)))
        limit = library.usable.shape[1]
        sound = (sources[..., 0] >= 0) & ((others >= 0) & (others < limit)).all(axis=-1)
        others[~sound] = 0
        sound &= library.usable[tuple(np.moveaxis(others, -1, 0))]
        others[~sound] = 0  # at the border no whole patch might follow
        looks = library.look(others.reshape(-1, 3))
        theirs = self._guide_cost(looks, np.repeat(query, len(beside), axis=0))
        cost = np.concatenate(
            [
                self._guide_cost(self.looks.of(index), query[:, None]),
                np.where(sound, theirs.reshape(sound.shape), np.inf),
            ],
            axis=1,
        )
        places = np.concatenate([library.places[index], others], axis=1)
        cells = np.concatenate(
            [self.cells[index], self._cells(looks).reshape(*sound.shape, 2)], axis=1
        )
        corners = spots * step + (start, 0)
        half = [np.s_[t : t + patch : 2, x : x + patch : 2] for t, x in corners.tolist()]
        weight = np.stack([filled[each] for each in half]).astype(np.float32)
        have = np.stack([canvas[each] for each in half])
        total = np.maximum(weight.sum(axis=(1, 2)), 1.0)
        scale = (have**2 * weight).sum(axis=(1, 2)) / total + 1.0
        apart = self.windows[tuple(np.moveaxis(places, -1, 0))] - have[:, None]
        apart *= apart
        error = apart.reshape(*cost.shape, -1) @ weight.reshape(len(spots), -1, 1)
        cost += error[..., 0] / (total * scale)[:, None]
        cost += REUSE_WEIGHT * self.used[cells[..., 0], cells[..., 1]]
        best = np.arange(len(spots)), cost.argmin(axis=1)
        self.used *= max(0.0, 1.0 - len(spots) / self.memory)
        np.add.at(self.used, tuple(cells[best].T), 1.0)
        placed[spots[:, 0], spots[:, 1] + 1] = places[best]
        return np.stack(
            [library.detail[n, y : y + patch, x : x + patch] for n, y, x in places[best].tolist()]
        )

    def _guide_cost(self, looks: Looks, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """How badly patches fit the target's guides, (..., N).

        Args:
            query: (..., 1 or N, D), as of `_features`.
        """
        turned = DIRECTION_WEIGHT * looks.direction - query[..., :2]
        lighter = LIGHTNESS_WEIGHT * looks.lightness - query[..., 2]
        other = TEXTURE_WEIGHT * looks.texture - query[..., 5:8]
        cost = (turned**2).sum(axis=-1) + lighter**2 + (other**2).sum(axis=-1)
        cost += INTRUSION_WEIGHT * looks.boundary**2 + PENALTY_WEIGHT * looks.penalty
        return np.asarray(cost, dtype=np.float32)

    def _paste(
        self,
        canvas: NDArray[np.float32],
        filled: NDArray[np.bool_],
        corners: NDArray[np.int64],
        new: NDArray[np.float32],
    ) -> None:
        """Lay patches, (N, patch, patch), at (N, 2) corners, cut along the least error."""
        patch, band = self.patch, self.overlap
        views = [np.s_[t : t + patch, x : x + patch] for t, x in corners.tolist()]
        old = np.stack([canvas[view] for view in views])
        known = np.stack([filled[view] for view in views])
        error = ((new - old) ** 2) * known
        cuts = _seams(np.concatenate([error[:, :, :band], error[:, :band].transpose(0, 2, 1)]))
        left, above = cuts[: len(new)], cuts[len(new) :].transpose(0, 2, 1)
        alpha = np.ones(known.shape, dtype=np.float32)
        beside = known[:, :, :band].mean(axis=(1, 2), keepdims=True) > 0.5
        alpha[:, :, :band] *= np.where(beside, left, 1.0)
        below = known[:, :band].mean(axis=(1, 2), keepdims=True) > 0.5
        alpha[:, :band] *= np.where(below, above, 1.0)
        # One pixel of feather hides the cut without softening thread.
        alpha = np.stack([cv2.GaussianBlur(each, (0, 0), 0.7) for each in alpha])
        alpha = np.where(known, alpha, 1.0)
        for view, mixed in zip(views, old * (1.0 - alpha) + new * alpha):
            canvas[view] = mixed
            filled[view] = True
