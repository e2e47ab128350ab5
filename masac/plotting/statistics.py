"""Statistics over few runs or episodes: means and their bootstrap intervals. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FEWEST_FOR_INTERVAL = 3
"""With fewer values there is no interval: the bootstrap of two values can only draw these two."""


def interquartile_mean(values: ArrayLike, axis: int = 0) -> Floats:
    """The mean of the middle half of the values, without the lowest and the highest quarter.

    Quarters are rounded down, so the result is the plain mean for fewer than four values.

    Source: Agarwal et al. 2021, arXiv 2108.13264, section 4.3.

    Args:
        values: numbers of any shape.
        axis: the axis over which to average, with one entry per run.

    Returns:
        The shape of the values without ``axis``; NaN where any value is NaN.

    Raises:
        ValueError: if there are no values.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[axis]
    if count == 0:
        raise ValueError("values must hold at least one number; got none.")
    cut = count // 4
    ordered = np.sort(np.moveaxis(values, axis, 0), axis=0)  # NaN comes last
    return np.where(np.isnan(ordered[-1]), np.nan, ordered[cut : count - cut].mean(0))


def bootstrap_interval(
    values: ArrayLike,
    *,
    statistic: Callable[..., Floats] = interquartile_mean,
    repeats: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """The percentile bootstrap interval of a statistic.

    Runs are drawn with replacement, the same for all columns, so the interval of a curve is as smooth as the curve.

    Source: Efron 1979 for the bootstrap; Agarwal et al. 2021, arXiv 2108.13264, section 4.2 for its use on few runs.

    Args:
        values: [runs, ...].
        statistic: a function of an array and ``axis``.
        repeats: bootstrap samples.
        seed: of the bootstrap.
        confidence: the share of the samples within the interval.

    Returns:
        The lower and the upper end, each of shape [...].

    Raises:
        ValueError: for fewer than two runs.
    """
    values = np.asarray(values, dtype=np.float64)
    runs = len(values)
    if runs < 2:
        raise ValueError(f"values must be those of at least two runs; got {runs}. One run has no interval.")
    drawn = np.random.default_rng(seed).integers(runs, size=(repeats, runs))
    tail = (1 - confidence) / 2
    ends = np.empty((2, values[0].size))
    for index, column in enumerate(values.reshape(runs, -1).T):  # one at a time, as all at once may not fit into memory
        ends[:, index] = np.quantile(statistic(column[drawn], axis=1), [tail, 1 - tail])
    low, high = ends.reshape(2, *values.shape[1:])
    return low, high


def wilson_interval(successes: int, trials: int, *, confidence_z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a rate, which is meaningful even if all trials succeed.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        successes: trials that succeeded.
        trials: all trials.
        confidence_z: standard normal quantile; the default gives a 95% interval.

    Returns:
        The lower and the upper end, in [0, 1].

    Raises:
        ValueError: unless ``0 <= successes <= trials`` and ``1 <= trials``.
    """
    if not (trials >= 1 and 0 <= successes <= trials):
        raise ValueError(f"successes must be between 0 and trials, which is at least 1; got {successes} of {trials}.")
    rate, z2 = successes / trials, confidence_z**2
    centre = rate + z2 / (2 * trials)
    half = confidence_z * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    low, high = ((centre + sign * half) / (1 + z2 / trials) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def of_sample(values: ArrayLike) -> dict[str, float | None]:
    """Mean and standard deviation of a sample, and the 95% bootstrap interval of its mean.

    Args:
        values: [n]. ``std`` is None for one value, ``low`` and ``high`` for fewer than three.
    """
    values = np.asarray(values, dtype=np.float64)
    ends = bootstrap_interval(values, statistic=np.mean) if len(values) >= FEWEST_FOR_INTERVAL else None
    return {
        "mean": float(values.mean()),
        "std": float(values.std()) if len(values) > 1 else None,
        "low": None if ends is None else float(ends[0]),
        "high": None if ends is None else float(ends[1]),
    }
