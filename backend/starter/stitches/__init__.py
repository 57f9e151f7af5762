"""The stitch renderer: a flat design in, a picture of it as a textile out (numpy only)."""

from __future__ import annotations

from backend.starter.stitches.render import (
    HELD_OUT,
    TRAINING,
    Look,
    book_look,
    draw_look,
    regions,
    render,
)

__all__ = ["HELD_OUT", "TRAINING", "Look", "book_look", "draw_look", "regions", "render"]
