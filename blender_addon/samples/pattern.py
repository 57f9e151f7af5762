"""The T-shirt's sewing pattern: pieces in centimetres, what is sewn to what, and the UV layout.

Every piece is drawn as it lies with its right side up, so that its outline runs counter-clockwise
seen from outside the garment and its UV island is not mirrored. Wearer's left is world +X.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .drawing import Floats, bezier

__all__ = ["CM_PER_UV", "PIECES", "SEAMS", "SLEEVE_TOP", "Piece", "Seam", "uv_offset"]

SPACING = 1.0
"""Wanted edge length of the mesh, cm."""

LENGTH = 70.0
CHEST_HALF = 27.0
NECK_HALF = 9.0
SHOULDER_TIP = np.array([23.0, 65.4])
UNDERARM = np.array([CHEST_HALF, 46.5])
RIB_HEIGHT = 2.3
RIB_RATIO = 0.86
"""The rib is cut shorter than the neckline, so that it stands up and lies close."""
SLEEVE_HALF = 19.5
SLEEVE_HEM_HALF = 17.5
SLEEVE_SEAM = 11.0


@dataclass(frozen=True)
class Piece:
    """One pattern piece: named boundary edges in counter-clockwise order, each (n + 1, 2) cm."""

    name: str
    edges: dict[str, Floats] = field(repr=False)

    @property
    def outline(self) -> Floats:
        """The closed boundary without a repeated last point, (N, 2)."""
        return np.vstack([edge[:-1] for edge in self.edges.values()])

    def indices(self, edge: str) -> list[int]:
        """Positions of an edge's points in `outline`."""
        start = 0
        for name, points in self.edges.items():
            if name == edge:
                total = len(self.outline)
                return [(start + i) % total for i in range(len(points))]
            start += len(points) - 1
        raise KeyError(edge)


@dataclass(frozen=True)
class Seam:
    """Two edges sewn together; both run with their piece's outline, hence against each other."""

    first: tuple[str, str]
    second: tuple[str, str]


def _resample(points: Floats, count: int) -> Floats:
    """`count` + 1 points evenly along a polyline."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    wanted = np.linspace(0.0, lengths[-1], count + 1)
    return np.stack([np.interp(wanted, lengths, points[:, k]) for k in range(2)], axis=1)


def _length(points: Floats) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _count(points: Floats) -> int:
    return max(2, round(_length(points) / SPACING))


def _mirror(points: Floats) -> Floats:
    return np.asarray(points[::-1] * np.array([-1.0, 1.0]))


def _body(name: str, neck_depth: float, scoop: float) -> Piece:
    """Front or back: they differ in the neckline and in how deep the armhole is scooped."""
    neck_point = np.array([NECK_HALF, LENGTH])
    armhole = bezier(
        np.array([UNDERARM, UNDERARM - [3.6, -0.6], SHOULDER_TIP - [scoop, 12], SHOULDER_TIP]), 60
    )
    neck = bezier(
        np.array(
            [
                neck_point,
                neck_point - [0.4, neck_depth * 0.62],
                [NECK_HALF * 0.52, LENGTH - neck_depth],
                [0.0, LENGTH - neck_depth],
            ]
        ),
        60,
    )
    neck = np.vstack([neck, _mirror(neck)[1:]])
    side = np.array([[CHEST_HALF - 0.5, 0.0], UNDERARM])
    shoulder = np.array([SHOULDER_TIP, neck_point])
    hem = np.array([[-side[0, 0], 0.0], [side[0, 0], 0.0]])
    sampled = {
        edge: _resample(points, _count(points))
        for edge, points in (("side", side), ("shoulder", shoulder), ("armhole", armhole))
    }
    return Piece(
        name,
        {
            "hem": _resample(hem, _count(hem)),
            "side_r": sampled["side"],
            "armhole_r": _resample(armhole, 24),
            "shoulder_r": sampled["shoulder"],
            "neck": _resample(neck, 2 * round(_length(neck) / SPACING / 2)),
            "shoulder_l": _mirror(sampled["shoulder"]),
            "armhole_l": _mirror(_resample(armhole, 24)),
            "side_l": _mirror(sampled["side"]),
        },
    )


def _sleeve(name: str, armhole: float) -> Piece:
    """A set-in sleeve whose cap is exactly as long as one armhole (front and back), cm."""

    def cap(height: float) -> Floats:
        top = SLEEVE_SEAM + height
        return bezier(
            np.array(
                [
                    [SLEEVE_HALF, SLEEVE_SEAM],
                    [SLEEVE_HALF * 0.62, SLEEVE_SEAM],
                    [SLEEVE_HALF * 0.56, top],
                    [0.0, top],
                ]
            ),
            60,
        )

    low, high = 4.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _length(cap(middle)) < armhole / 2 else (low, middle)
    half = _resample(cap(low), 24)
    under = _resample(np.array([[SLEEVE_HEM_HALF, 0.0], [SLEEVE_HALF, SLEEVE_SEAM]]), 11)
    hem = np.array([[-SLEEVE_HEM_HALF, 0.0], [SLEEVE_HEM_HALF, 0.0]])
    return Piece(
        name,
        {
            "hem": _resample(hem, _count(hem)),
            "under_r": under,
            "cap_r": half,
            "cap_l": _mirror(half),
            "under_l": _mirror(under),
        },
    )


def _rib(front: Piece, back: Piece) -> Piece:
    """The neck rib: a strip closed at the wearer's right shoulder."""
    necks = [front.edges["neck"], back.edges["neck"]]
    spans = [_length(neck) * RIB_RATIO for neck in necks]
    total = sum(spans)
    corners = np.array([[0.0, 0.0], [spans[0], 0.0], [total, 0.0]])
    top = np.array([[total, RIB_HEIGHT], [0.0, RIB_HEIGHT]])
    side = np.array([[total, 0.0], [total, RIB_HEIGHT]])
    return Piece(
        "rib",
        {
            "bottom_front": _resample(corners[:2], len(necks[0]) - 1),
            "bottom_back": _resample(corners[1:], len(necks[1]) - 1),
            "side_r": _resample(side, 2),
            "top": _resample(top, len(necks[0]) + len(necks[1]) - 2),
            "side_l": _resample(np.array([top[1], corners[0]]), 2),
        },
    )


def _pieces() -> dict[str, Piece]:
    front, back = _body("front", 10.0, 2.6), _body("back", 2.6, 1.4)
    armhole = _length(front.edges["armhole_r"]) + _length(back.edges["armhole_r"])
    pieces = (
        front,
        back,
        _sleeve("sleeve_left", armhole),
        _sleeve("sleeve_right", armhole),
        _rib(front, back),
    )
    return {piece.name: piece for piece in pieces}


PIECES = _pieces()
SLEEVE_TOP = float(PIECES["sleeve_left"].outline[:, 1].max())
"""Length of a sleeve from the top of its cap to its hem, cm."""

SEAMS = (
    Seam(("front", "side_r"), ("back", "side_l")),
    Seam(("front", "side_l"), ("back", "side_r")),
    Seam(("front", "shoulder_r"), ("back", "shoulder_l")),
    Seam(("front", "shoulder_l"), ("back", "shoulder_r")),
    Seam(("sleeve_left", "cap_r"), ("back", "armhole_l")),
    Seam(("sleeve_left", "cap_l"), ("front", "armhole_r")),
    Seam(("sleeve_right", "cap_r"), ("front", "armhole_l")),
    Seam(("sleeve_right", "cap_l"), ("back", "armhole_r")),
    Seam(("sleeve_left", "under_r"), ("sleeve_left", "under_l")),
    Seam(("sleeve_right", "under_r"), ("sleeve_right", "under_l")),
    Seam(("rib", "bottom_front"), ("front", "neck")),
    Seam(("rib", "bottom_back"), ("back", "neck")),
    Seam(("rib", "side_r"), ("rib", "side_l")),
)

_MARGIN = 1.0
_WIDEST = 4 * CHEST_HALF + 3 * _MARGIN
CM_PER_UV = _WIDEST
"""Side of the UV square in centimetres of cloth; the same for every piece (true proportion)."""


def uv_offset(name: str) -> Floats:
    """Where a piece's own origin lies in the UV square, in cm."""
    row = 2 * _MARGIN + SLEEVE_TOP
    return {
        "front": np.array([_MARGIN + CHEST_HALF, row]),
        "back": np.array([2 * _MARGIN + 3 * CHEST_HALF, row]),
        "sleeve_left": np.array([_MARGIN + SLEEVE_HALF, _MARGIN]),
        "sleeve_right": np.array([2 * _MARGIN + 3 * SLEEVE_HALF, _MARGIN]),
        "rib": np.array([_MARGIN, row + LENGTH + _MARGIN]),
    }[name]
