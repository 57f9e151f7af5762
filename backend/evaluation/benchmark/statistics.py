"""Bootstrap intervals over references and the designs of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "bootstrap"]

_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def bootstrap(groups: Sequence[Sequence[float]], seed: int) -> Interval:
    """Mean over groups of their means, with a percentile interval of 95%.

    Both levels are drawn anew with replacement: groups (references), and within each drawn group
    its values (designs). Source: Davison, Hinkley, "Bootstrap Methods", 1997, sections 3.8, 5.3.

    Args:
        groups: values by group, none of them empty.
    """
    rng = np.random.default_rng(seed)
    count = len(groups)
    mean = float(np.mean([np.mean(each) for each in groups]))
    # One draw of every group for every place it may take.
    drawn = np.stack(
        [
            np.asarray(each)[rng.integers(len(each), size=(_DRAWS, count, len(each)))].mean(-1)
            for each in groups
        ]
    )
    picks = rng.integers(count, size=(_DRAWS, count))
    means = drawn[picks, np.arange(_DRAWS)[:, None], np.arange(count)].mean(-1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean, float(low), float(high))
