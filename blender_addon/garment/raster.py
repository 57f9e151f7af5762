"""Triangles and labels on pixel grids, in numpy alone (Blender ships no image library)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["components", "dilate", "fragments", "label"]

# Small enough for the arrays of one round to stay in the processor's cache.
_FRAGMENTS_AT_ONCE = 100_000
_INSIDE = 1e-9


def fragments(
    triangles: np.ndarray, width: int, height: int, *, edges: bool = False
) -> Iterator[tuple]:
    """Pixels whose centre lies inside each triangle.

    Args:
        triangles: (T, 3, 2) corners in pixel units, x to the right, y upwards.
        edges: whether a centre exactly on an edge counts, for both triangles that share it.

    Yields:
        (triangle, row, column, weights): row 0 at the bottom; weights (N, 3) are barycentric.
    """
    low = np.floor(triangles.min(1) - 0.5).astype(np.int64) + 1
    high = np.floor(triangles.max(1) - 0.5).astype(np.int64)
    low = np.maximum(low, 0)
    high = np.minimum(high, [width - 1, height - 1])
    spans = np.maximum(high - low + 1, 0)
    first = triangles[:, 1] - triangles[:, 0]
    second = triangles[:, 2] - triangles[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    counts = np.where(area != 0, spans[:, 0] * spans[:, 1], 0)
    used = np.flatnonzero(counts)
    ends = np.cumsum(counts[used])
    total = int(ends[-1]) if len(used) else 0
    least = -_INSIDE if edges else _INSIDE
    for start in range(0, total, _FRAGMENTS_AT_ONCE):
        position = np.arange(start, min(total, start + _FRAGMENTS_AT_ONCE))
        slot = np.searchsorted(ends, position, side="right")
        owner = used[slot]
        offset = position - (ends[slot] - counts[owner])
        row, column = np.divmod(offset, spans[owner, 0])
        column += low[owner, 0]
        row += low[owner, 1]
        at_x = column + 0.5 - triangles[owner, 0, 0]
        at_y = row + 0.5 - triangles[owner, 0, 1]
        b = (at_x * second[owner, 1] - at_y * second[owner, 0]) / area[owner]
        c = (first[owner, 0] * at_y - first[owner, 1] * at_x) / area[owner]
        keep = (b > least) & (c > least) & (b + c < 1 - least)
        b, c = b[keep], c[keep]
        yield owner[keep], row[keep], column[keep], np.stack([1 - b - c, b, c], 1)


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Connected components of a graph: for each of `count` nodes an index 0..n-1.

    Args:
        first, second: (E,) the ends of each edge.
    """
    root = np.arange(count)
    while True:
        low = np.minimum(root[first], root[second])
        before = root.copy()
        # Hook both ends' roots under the lower one, then shorten all paths.
        np.minimum.at(root, root[first], low)
        np.minimum.at(root, root[second], low)
        while True:
            shorter = root[root]
            if np.array_equal(shorter, root):
                break
            root = shorter
        if np.array_equal(before, root):
            return np.unique(root, return_inverse=True)[1]


def label(mask: np.ndarray, kind: np.ndarray | None = None) -> np.ndarray:
    """Connected areas of a mask: 0 outside, 1..n inside, neighbours up, down, left and right.

    Args:
        mask: (H, W) bool.
        kind: (H, W) neighbours of another kind do not connect.
    """
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(int(mask.sum()))
    ends: list[list[np.ndarray]] = [[], []]
    for here, there in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        joined = mask[here] & mask[there]
        if kind is not None:
            joined &= kind[here] == kind[there]
        ends[0].append(index[here][joined])
        ends[1].append(index[there][joined])
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = 1 + components(int(mask.sum()), np.concatenate(ends[0]), np.concatenate(ends[1]))
    return labels


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Grow a bool mask by a disc of `radius` pixels (a negative radius shrinks it)."""
    if radius < 0:
        return ~dilate(~mask, -radius)
    steps = int(radius)
    if steps == 0:
        return mask.copy()
    height, width = mask.shape
    grown = np.zeros_like(mask)
    for dy in range(min(steps, height - 1) + 1):
        wide = _widen(mask, min(int(np.sqrt(radius * radius - dy * dy)), width - 1))
        grown[dy:] |= wide[: height - dy]
        grown[: height - dy] |= wide[dy:]
    return grown


def _widen(mask: np.ndarray, reach: int) -> np.ndarray:
    """Grow along rows by `reach` pixels to both sides, doubling the step."""
    wide, done = mask.copy(), 0
    while done < reach:
        step = min(done + 1 if done else 1, reach - done)
        before = wide.copy()
        wide[:, step:] |= before[:, :-step]
        wide[:, :-step] |= before[:, step:]
        done += step
    return wide
