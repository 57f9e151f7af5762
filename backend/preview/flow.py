"""Which way threads run: how a reference's lie to its boundaries, and how a target's should."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Lay", "boundary_flow", "measure_lay"]

# Distance from the boundaries, in thread widths, up to which they alone tell the direction.
_NEAR = 3.0
# Radius over which both sides of a stroke agree on its direction, in thread widths.
_AGREEING = 2.5
# How well threads must keep to the boundaries to count as following them: not at all, and wholly.
_FOLLOWING = (0.25, 0.6)
# By how much one account of the directions must be better than the other to be believed alone.
_BETTER = 0.15


@dataclass(frozen=True, slots=True)
class Lay:
    """How threads lie in a reference. Angles are doubled, since a thread has no front.

    Attributes:
        follows: how far threads keep to the boundaries' direction rather than to one of their
            own, 0 to 1.
        offset: doubled angle from the boundary's tangent to the thread, radians.
        common: doubled angle of the commonest thread direction, radians.
    """

    follows: float
    offset: float
    common: float

    def wanted(self, flow: NDArray[np.floating]) -> NDArray[np.float32]:
        """Thread direction to look for where boundaries run along `flow`.

        Args:
            flow: (..., 2), as of `boundary_flow`.

        Returns:
            (..., 2): cosine and sine of the doubled angle, times certainty.
        """
        cos, sin = np.cos(self.offset), np.sin(self.offset)
        c = self.follows * (flow[..., 0] * cos - flow[..., 1] * sin)
        s = self.follows * (flow[..., 1] * cos + flow[..., 0] * sin)
        rest = 0.8 * (1.0 - np.hypot(c, s))
        c, s = c + rest * np.cos(self.common), s + rest * np.sin(self.common)
        return np.stack([c, s], axis=-1).astype(np.float32)


def measure_lay(
    angle: NDArray[np.floating], weight: NDArray[np.floating], flow: NDArray[np.floating]
) -> Lay:
    """How the threads of a reference lie.

    Where all of them run one way, that they also follow a straight motif's outline means nothing:
    of the two accounts, the one that more of the threads bear out is believed.

    Args:
        angle: (H, W) of the threads, radians.
        weight: (H, W), how clearly they have one; 0 where there are none.
        flow: (H, W, 2), as of `boundary_flow`.
    """
    threads = np.exp(2j * angle)
    tangent = flow[..., 0] - 1j * flow[..., 1]
    near = weight * np.abs(tangent)
    relative = np.sum(weight * threads * tangent)
    common = np.sum(weight * threads)
    followed = abs(relative) / max(float(near.sum()), 1e-6)
    alike = abs(np.sum(near * threads)) / max(float(near.sum()), 1e-6)
    low, high = _FOLLOWING
    follows = np.clip((followed - low) / (high - low), 0.0, 1.0)
    follows *= np.clip(0.5 + (followed - alike) / (2.0 * _BETTER), 0.0, 1.0)
    return Lay(float(follows), float(np.angle(relative)), float(np.angle(common)))


def boundary_flow(distance: NDArray[np.floating], thread: float) -> NDArray[np.float32]:
    """Direction of the boundaries, carried smoothly from them into the regions.

    The further from a boundary, the wider around are those that are asked, so that rows of thread
    bend slowly from one side of a region to the other instead of breaking where these meet.

    Args:
        distance: (H, W) to the nearest boundary, thread widths.
        thread: thread width in pixels.

    Returns:
        (H, W, 2) cosine and sine of the tangent's doubled angle; their length, 0 to 1, is how
        well the boundaries around agree.
    """
    height, width = distance.shape
    far = np.minimum(distance, 6.0).astype(np.float32)
    ramp = cv2.GaussianBlur(far, (0, 0), max(1.0, thread / 3.0))
    dx, dy = cv2.Scharr(ramp, cv2.CV_32F, 1, 0), cv2.Scharr(ramp, cv2.CV_32F, 0, 1)
    # Normal of the boundary at doubled angle is (xx - yy, 2 xy); its tangent is the opposite.
    tensor = np.dstack([dy * dy - dx * dx, -2.0 * dx * dy, dx * dx + dy * dy])
    step = max(1.0, thread / 2.0)  # it varies slowly, so a coarse grid will do
    size = (max(1, round(width / step)), max(1, round(height / step)))
    tensor = cv2.resize(tensor, size, interpolation=cv2.INTER_AREA)
    sigma = _AGREEING * thread / step
    levels = max(1, int(np.log2(max(1.0, max(size) / (4.0 * sigma)))) + 1)
    level = np.log2(np.maximum(distance / _NEAR, 1.0)).astype(np.float32)
    level = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
    mixed = np.zeros_like(tensor)
    for number in range(levels):
        share = np.clip(1.0 - np.abs(np.minimum(level, levels - 1) - number), 0.0, 1.0)
        mixed += share[..., None] * _blurred(tensor, sigma * 2.0**number)
    flow = mixed[..., :2] / np.maximum(mixed[..., 2:], 1e-6)
    return cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Nearly Gaussian, at the same cost for any width."""
    box = (2 * round(sigma) + 1,) * 2
    for _ in range(3):
        values = cv2.blur(values, box, borderType=cv2.BORDER_REPLICATE)
    return values
