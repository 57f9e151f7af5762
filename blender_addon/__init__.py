"""Stitchwork: shows a garment as if its artwork were embroidered.

Blender extension (4.2 LTS and later). Only this package and Blender's own Python are needed here;
training and restyling run in a separate backend process.
"""

from __future__ import annotations

from . import cli, operators, panels, preferences, properties
from .link import polling

__all__ = ["register", "unregister"]

# Each has register() and unregister(); registered in this order, unregistered in reverse.
MODULES = (properties, preferences, polling, operators, panels, cli)


def register() -> None:
    """Make classes, properties and panels known to Blender."""
    for module in MODULES:
        module.register()


def unregister() -> None:
    """Take back everything `register` added; data in .blend files stays."""
    for module in reversed(MODULES):
        module.unregister()
