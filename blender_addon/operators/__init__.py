"""Operators, one file a verb; this file only registers them."""

from __future__ import annotations

__all__ = ["register", "unregister"]

# Each has register() and unregister(); one line a verb.
MODULES: tuple = ()


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
