"""Which style's jobs a free worker takes next."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["choose"]


def choose(
    warm: str | None, waiting: Mapping[str, int], held: Mapping[str, int] | None = None
) -> str | None:
    """The style to take a job of; None if nothing waits.

    First the style that the worker has warm, so that it loads no other. Then one that no other
    worker holds, in the manifest's order. Where all are held, help comes to the style that has
    most jobs for each of its workers.

    Args:
        warm: style of the worker's last job.
        waiting: how many jobs each style has waiting, in the manifest's order.
        held: how many other workers have each style warm.
    """
    held = held or {}
    open_styles = [style for style, count in waiting.items() if count]
    if warm in open_styles:
        return warm
    for style in open_styles:
        if not held.get(style):
            return style
    return max(open_styles, key=lambda style: waiting[style] / held[style], default=None)
