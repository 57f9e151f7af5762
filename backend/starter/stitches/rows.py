"""Families sewn in rows of thread: satin, tatami, long-and-short, brick, stem, couching."""

from __future__ import annotations

import numpy as np

from backend.starter.stitches.canvas import Canvas, Grid, Relief

__all__ = ["brick", "couching", "long_and_short", "satin", "stem", "tatami"]


def _row(canvas: Canvas, width: float) -> tuple[Grid, Grid]:
    """Index of the thread under each pixel and the position across it, -1 to 1."""
    v = canvas.across / width
    index = np.floor(v).astype(np.float32)
    middle = 0.16 * (canvas.chance(index, salt=1) - 0.5)
    return index, np.clip(2 * (v - index) - 1 + middle, -1, 1).astype(np.float32)


def _stitches(
    canvas: Canvas, index: Grid, length: float, offset: Grid, uneven: float
) -> tuple[Grid, Grid, Grid]:
    """Number of the stitch in its row, distance to its nearer end and to its middle, in pixels."""
    a = canvas.along / length + offset
    a = a + uneven * (canvas.chance(index, np.floor(a), salt=2) - 0.5) * 0.5
    number = np.floor(a).astype(np.float32)
    part = a - number
    end = np.minimum(part, 1 - part) * length
    return number, end.astype(np.float32), ((0.5 - part) * length).astype(np.float32)


def _finish(
    canvas: Canvas,
    index: Grid,
    t: Grid,
    *,
    number: Grid | float = 0.0,
    dip: Grid | float = 1.0,
    twist: float,
    unity: Grid | float = 0.0,
    gloss: float,
    lean: float = 0.0,
) -> Relief:
    """Round threads with twist, ends that dip into the cloth, and one colour across each."""
    profile = np.sqrt(np.maximum(0, 1 - t * t)) * dip
    border = 1 - 0.75 * np.exp(-((canvas.edge / (0.75 * canvas.width)) ** 2))
    height = profile * border * canvas.fibres(index, t, twist)
    ragged = canvas.width * 0.35 * (canvas.chance(index, number, salt=3) - 0.5)
    x, y = canvas.to_pixels(
        np.asarray(ragged + unity, np.float32), (-0.4 * t * canvas.width).astype(np.float32)
    )
    tint = 1 + 0.16 * (canvas.chance(index, number, salt=4) - 0.5)
    return Relief(
        height=height.astype(np.float32),
        angle=(canvas.angle + lean).astype(np.float32),
        cover=np.clip(profile * 3.0, 0, 1).astype(np.float32),
        tint=tint.astype(np.float32),
        shift_x=x,
        shift_y=y,
        gloss=gloss,
    )


def satin(canvas: Canvas) -> Relief:
    """Long glossy threads side by side, dipping only at the region's border."""
    index, t = _row(canvas, canvas.width)
    return _finish(canvas, index, t, twist=canvas.between(0.0, 0.15), gloss=0.7)


def tatami(canvas: Canvas) -> Relief:
    """Machine fill: equal stitches, each row's needle holes stepped against the last."""
    index, t = _row(canvas, 0.85 * canvas.width)
    length = canvas.width * canvas.between(3.0, 5.0)
    step = canvas.one_of([0.5, 0.25, 0.33, 0.4])
    number, end, _ = _stitches(canvas, index, length, (index * step).astype(np.float32), 0.1)
    dip = 1 - 0.85 * np.exp(-((end / (0.45 * canvas.width)) ** 2))
    twist = canvas.between(0.0, 0.12)
    return _finish(canvas, index, t, number=number, dip=dip, twist=twist, gloss=0.4)


def long_and_short(canvas: Canvas) -> Relief:
    """Hand filling: stitches of uneven length that reach into each other."""
    index, t = _row(canvas, canvas.width)
    length = canvas.width * canvas.between(4.0, 7.0)
    number, end, middle = _stitches(canvas, index, length, canvas.reach(index), canvas.stray(1.0))
    dip = 1 - 0.6 * np.exp(-((end / (0.6 * canvas.width)) ** 2))
    return _finish(
        canvas,
        index,
        t,
        number=number,
        dip=dip,
        twist=canvas.stray(0.22),
        unity=0.25 * middle,
        gloss=0.45,
    )


def brick(canvas: Canvas) -> Relief:
    """Short equal stitches laid like bricks, with clear holes between them."""
    index, t = _row(canvas, 1.2 * canvas.width)
    length = canvas.width * canvas.between(1.8, 2.4)
    number, end, middle = _stitches(canvas, index, length, (0.5 * (index % 2)), 0.05)
    dip = np.sqrt(np.clip(end / (0.5 * canvas.width), 0, 1))
    return _finish(canvas, index, t, number=number, dip=dip, twist=0.1, unity=middle, gloss=0.35)


def stem(canvas: Canvas) -> Relief:
    """Rope-like rows: short stitches lying slantwise over each other."""
    wide = 1.5 * canvas.width
    index, t = _row(canvas, wide)
    length = canvas.width * canvas.between(1.1, 1.6)
    slanted = (0.74 * canvas.stagger * index + 0.5 * t).astype(np.float32)
    number, end, middle = _stitches(canvas, index, length, slanted, 0.1)
    dip = 0.35 + 0.65 * np.sqrt(np.clip(end / (0.42 * length), 0, 1))
    lean = -float(np.arctan2(length, wide)) * 0.6
    return _finish(
        canvas, index, t, number=number, dip=dip, twist=0.08, unity=middle, gloss=0.4, lean=lean
    )


def couching(canvas: Canvas) -> Relief:
    """Thick laid cords, tied down by small cross-wise stitches at even distances."""
    wide = 1.8 * canvas.width
    index, t = _row(canvas, wide)
    length = canvas.width * canvas.between(3.0, 4.5)
    number, _, middle = _stitches(canvas, index, length, (canvas.stagger * (index % 2)), 0.15)
    tie = np.exp(-((middle / (0.35 * canvas.width)) ** 2))
    relief = _finish(canvas, index, t, number=number, twist=0.3, gloss=0.45)
    groove = np.exp(-(((np.abs(middle) - 0.75 * canvas.width) / (0.3 * canvas.width)) ** 2))
    height = relief.height * (1 - 0.45 * groove) + 0.35 * tie * np.sqrt(np.maximum(0, 1 - t * t))
    return Relief(
        height=height.astype(np.float32),
        angle=np.where(tie > 0.5, relief.angle + np.pi / 2, relief.angle).astype(np.float32),
        cover=relief.cover,
        tint=(relief.tint * (1 + 0.18 * tie)).astype(np.float32),
        shift_x=relief.shift_x,
        shift_y=relief.shift_y,
        gloss=relief.gloss,
    )
