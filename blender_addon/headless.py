"""The command line for the bpy wheel: `python -m blender_addon.headless run …`, see `cli`."""

from __future__ import annotations

import sys

import bpy

import blender_addon
from blender_addon import cli

__all__ = ["main"]


def main() -> int:
    """Register the add-on from source, run one command, and take the add-on back."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    try:
        return cli.run(sys.argv[1:])
    finally:
        blender_addon.unregister()


if __name__ == "__main__":
    sys.exit(main())
