"""The mean curve of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from masac.plotting.recorded_runs import Curve
from masac.plotting.statistics import FEWEST_FOR_INTERVAL, Floats, bootstrap_interval, interquartile_mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """The interquartile mean of runs over an interval that the same runs cover.

    Args:
        x: [points], where any of the runs was evaluated, and both ends.
        mean: [points].
        low: [points], the lower end of the mean's 95% bootstrap interval; None for fewer than three runs.
        high: [points], its upper end.
        runs: the number of runs.
    """

    x: Floats
    mean: Floats
    low: Floats | None
    high: Floats | None
    runs: int


def aggregate(curves: Sequence[Curve], *, repeats: int = 2000, seed: int = 0) -> list[Piece]:
    """Average curves whose points need not lie at the same x.

    Curves are linear between their points and are not extrapolated. The mean jumps where a run starts or ends, so a new
    piece begins there: a line across would look like learning.

    Args:
        curves: one per run, each with at least one point.
        repeats: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        The pieces from left to right. A run with a single point makes a piece of one point.
    """
    first, last = np.array([curve.x[[0, -1]] for curve in curves]).T
    points, bounds = np.unique(np.concatenate([curve.x for curve in curves])), np.unique([first, last])
    stretches = sorted([*pairwise(bounds), *((x, x) for x in np.unique(first[first == last]))])
    pieces = []
    for start, end in stretches:
        present = [curve for curve, a, b in zip(curves, first, last, strict=True) if a <= start and b >= end]
        if not present:
            continue
        x = points[(points >= start) & (points <= end)]
        values = np.stack([curve.at(x) for curve in present])
        enough = len(present) >= FEWEST_FOR_INTERVAL
        low, high = bootstrap_interval(values, repeats=repeats, seed=seed) if enough else (None, None)
        pieces.append(Piece(x=x, mean=interquartile_mean(values), low=low, high=high, runs=len(present)))
    return pieces
