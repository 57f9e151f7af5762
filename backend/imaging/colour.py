"""CIELAB and the CIEDE2000 colour difference."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["delta_e", "lab_to_rgb", "rgb_to_lab", "thread_colours"]

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
# Black thread shines and white thread has shadows; neither has room for them at the very end.
_BLACK, _WHITE = 0.12, 0.04


def rgb_to_lab(rgb: NDArray[np.floating]) -> NDArray[np.float32]:
    """sRGB in [0, 1] to CIELAB (D65): L in [0, 100], a and b about [-110, 110].

    Args:
        rgb: (H, W, 3).
    """
    lab: NDArray[np.float32] = cv2.cvtColor(
        np.ascontiguousarray(rgb, dtype=np.float32), cv2.COLOR_RGB2LAB
    )
    return lab


def lab_to_rgb(lab: NDArray[np.floating]) -> NDArray[np.float32]:
    """CIELAB (H, W, 3) to sRGB in [0, 1]; colours outside sRGB are clipped."""
    rgb = cv2.cvtColor(np.ascontiguousarray(lab, dtype=np.float32), cv2.COLOR_LAB2RGB)
    return np.clip(rgb, 0.0, 1.0).astype(np.float32)


def thread_colours(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest colours that thread can have: not quite black, not quite white.

    Light and shade of single threads could not be seen on pure black, and would be cut on white.

    Args:
        rgb: (H, W, 3) sRGB in [0, 1].
    """
    light = rgb @ _LUMA
    wanted = np.hypot(light, np.float32(_BLACK)) / np.hypot(1.0, _BLACK, dtype=np.float32)
    wanted = 1.0 - np.hypot(1.0 - wanted, np.float32(_WHITE)) / np.hypot(1.0, _WHITE)
    moved: NDArray[np.float32] = rgb + (wanted - light)[..., None]
    return np.clip(moved, 0.0, 1.0, out=moved)


def delta_e(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """CIEDE2000 difference of two CIELAB arrays.

    Source: Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", 2005.

    Args:
        first, second: (..., 3) CIELAB, broadcast against each other.

    Returns:
        (...) differences; about 1 is just noticeable.
    """
    l1, a1, b1 = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2.0
    g = 0.5 * (1.0 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)))
    a1p, a2p = (1.0 + g) * a1, (1.0 + g) * a2
    c1, c2 = np.hypot(a1p, b1), np.hypot(a2p, b2)
    h1, h2 = np.arctan2(b1, a1p) % (2 * np.pi), np.arctan2(b2, a2p) % (2 * np.pi)
    chromatic = c1 * c2 > 0.0
    dh = np.where(chromatic, (h2 - h1 + np.pi) % (2 * np.pi) - np.pi, 0.0)
    # Opposite hues: the formula takes +π.
    dh = np.where(dh == -np.pi, np.pi, dh)
    d_l, d_c, d_h = l2 - l1, c2 - c1, 2.0 * np.sqrt(c1 * c2) * np.sin(dh / 2.0)
    mean_l, mean_cp = (l1 + l2) / 2.0, (c1 + c2) / 2.0
    far = np.abs(h1 - h2) > np.pi
    half = (h1 + h2) / 2.0
    mean_h = np.where(far, np.where(h1 + h2 < 2 * np.pi, half + np.pi, half - np.pi), half)
    mean_h = np.where(chromatic, mean_h, h1 + h2)
    t = (
        1.0
        - 0.17 * np.cos(mean_h - np.pi / 6)
        + 0.24 * np.cos(2 * mean_h)
        + 0.32 * np.cos(3 * mean_h + np.deg2rad(6.0))
        - 0.20 * np.cos(4 * mean_h - np.deg2rad(63.0))
    )
    s_l = 1.0 + 0.015 * (mean_l - 50.0) ** 2 / np.sqrt(20.0 + (mean_l - 50.0) ** 2)
    s_c = 1.0 + 0.045 * mean_cp
    s_h = 1.0 + 0.015 * mean_cp * t
    r_c = 2.0 * np.sqrt(mean_cp**7 / (mean_cp**7 + 25.0**7))
    d_theta = np.deg2rad(30.0) * np.exp(-(((np.rad2deg(mean_h) - 275.0) / 25.0) ** 2))
    r_t = -np.sin(2.0 * d_theta) * r_c
    squared = (
        (d_l / s_l) ** 2 + (d_c / s_c) ** 2 + (d_h / s_h) ** 2 + r_t * (d_c / s_c) * (d_h / s_h)
    )
    result: NDArray[np.float64] = np.sqrt(np.maximum(squared, 0.0))
    return result
