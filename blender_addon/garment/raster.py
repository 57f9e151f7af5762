"""Triangles and labels on pixel grids, in numpy alone (Blender ships no image library)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["components", "dilate", "fragments", "label"]

_FRAGMENTS_AT_ONCE = 4_000_000


def fragments(triangles: np.ndarray, width: int, height: int) -> Iterator[tuple]:
    """Pixels whose centre lies strictly inside each triangle.

    Args:
        triangles: (T, 3, 2) corners in pixel units, x to the right, y upwards.

    Yields:
        (triangle, row, column, weights): row 0 at the bottom; weights (N, 3) are barycentric.
    """
    low = np.floor(triangles.min(1) - 0.5).astype(np.int64) + 1
    high = np.floor(triangles.max(1) - 0.5).astype(np.int64)
    low = np.maximum(low, 0)
    high = np.minimum(high, [width - 1, height - 1])
    spans = np.maximum(high - low + 1, 0)
    counts = spans[:, 0] * spans[:, 1]
    used = np.flatnonzero(counts)
    if not len(used):
        return
    # Groups of about equal numbers of candidate pixels bound the memory.
    groups = np.cumsum(counts[used]) // _FRAGMENTS_AT_ONCE
    for group in np.split(used, np.flatnonzero(np.diff(groups)) + 1):
        for part in _tall(group, counts):
            yield from _inside(triangles, part, low, spans, counts)


def _tall(group: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    """Split off triangles that are larger than a whole group."""
    large = counts[group] > _FRAGMENTS_AT_ONCE
    for each in group[large]:
        yield np.array([each])
    if not large.all():
        yield group[~large]


def _inside(
    triangles: np.ndarray,
    part: np.ndarray,
    low: np.ndarray,
    spans: np.ndarray,
    counts: np.ndarray,
) -> Iterator[tuple]:
    total = int(counts[part].sum())
    for start in range(0, total, _FRAGMENTS_AT_ONCE):
        stop = min(total, start + _FRAGMENTS_AT_ONCE)
        ends = np.cumsum(counts[part])
        position = np.arange(start, stop)
        slot = np.searchsorted(ends, position, side="right")
        offset = position - (ends[slot] - counts[part][slot])
        owner = part[slot]
        column = low[owner, 0] + offset % spans[owner, 0]
        row = low[owner, 1] + offset // spans[owner, 0]
        corner = triangles[owner, 0]
        first = triangles[owner, 1] - corner
        second = triangles[owner, 2] - corner
        at_x, at_y = column + 0.5 - corner[:, 0], row + 0.5 - corner[:, 1]
        area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            b = (at_x * second[:, 1] - at_y * second[:, 0]) / area
            c = (first[:, 0] * at_y - first[:, 1] * at_x) / area
            a = 1.0 - b - c
        keep = (a > 1e-9) & (b > 1e-9) & (c > 1e-9)
        weights = np.stack([a[keep], b[keep], c[keep]], 1)
        yield owner[keep], row[keep], column[keep], weights


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
    grown = np.zeros_like(mask)
    height, width = mask.shape
    totals = np.zeros((height, width + 1), np.int32)
    np.cumsum(mask, axis=1, out=totals[:, 1:])
    columns = np.arange(width)
    for dy in range(-min(steps, height - 1), min(steps, height - 1) + 1):
        reach = int(np.sqrt(radius * radius - dy * dy))
        left = np.maximum(columns - reach, 0)
        right = np.minimum(columns + reach + 1, width)
        wide = totals[:, right] > totals[:, left]
        if dy >= 0:
            grown[dy:] |= wide[: height - dy]
        else:
            grown[:dy] |= wide[-dy:]
    return grown
