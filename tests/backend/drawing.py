"""What the tests of drawn designs have in common."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_sd3 import tiny_sdxl_profile

from backend.emolora.designs import plain
from backend.emolora.sd3 import Order
from backend.models import sd3 as networks
from backend.models.designer import Designer, find

__all__ = ["CPU", "PROFILE", "found_in", "order", "picture", "watched"]

PROFILE = tiny_sdxl_profile()
CPU = torch.device("cpu")


def found_in(folder: Path) -> Designer:
    """The designer in a folder."""
    found, _ = find(PROFILE, str(folder))
    assert found is not None
    return found


def picture(height: int = 64, width: int = 72) -> NDArray[np.float32]:
    """A red disc in threads, (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    disc = np.hypot(y - 30, x - 36) < 22
    rgb = np.where(disc[..., None], (0.8, 0.2, 0.2), (0.8, 0.8, 0.75))
    return np.asarray(rgb * (0.9 + 0.1 * np.sin(x))[..., None], dtype=np.float32)


def order(subject: str, **size: int) -> Order:
    """A design wanted of it."""
    shown = picture(**size)
    return Order(shown, plain(PROFILE, shown, None, 0), subject)


def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether a transformer of Stable Diffusion 3 that was loaded from now on is still there."""
    really_load, known = networks.load, []

    def load(*arguments: Any) -> Any:
        loaded = really_load(*arguments)
        known.append(weakref.ref(loaded.pipeline.transformer))
        return loaded

    monkeypatch.setattr(networks, "load", load)

    def alive() -> bool:
        assert known
        return any(each() is not None for each in known)

    return alive
