"""Operators, one file a verb; this file only registers them."""

from __future__ import annotations

from . import (
    apply,
    backend_install,
    backend_start,
    backend_stop,
    bake,
    bake_down,
    job_cancel,
    load_sample,
    patch_add,
    patch_from_artwork,
    patch_remove,
    preview,
    render_preview,
    restyle,
    revert,
    run_all,
    style_choose,
    toggle,
    train,
    unwrap,
)

__all__ = ["register", "unregister"]

# Each has register() and unregister(); one line a verb.
MODULES: tuple = (
    load_sample,
    unwrap,
    patch_add,
    patch_remove,
    patch_from_artwork,
    bake,
    apply,
    revert,
    toggle,
    bake_down,
    render_preview,
    train,
    restyle,
    preview,
    run_all,
    job_cancel,
    style_choose,
    backend_install,
    backend_start,
    backend_stop,
)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
