"""Aggregates over several tasks from few runs of each, in the manner of rliable. NumPy only.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from masac.plotting.statistics import FEWEST_FOR_INTERVAL, Floats, interquartile_mean

Scores = Mapping[str, Floats]
"""Scores by task, each of shape [runs]."""


@dataclass(frozen=True)
class Estimate:
    """A statistic of runs.

    Args:
        value: the statistic.
        low: the lower end of its 95% interval; None if a task has fewer than three runs, as one run would pass for
            certain.
        high: the upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """As text: ``0.83 [0.75, 0.90]``."""
        return f"{self.value:.2f}" if self.low is None else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def normalized(returns: Floats, *, random: float, best: float) -> Floats:
    """Returns as scores: 0 for random actions, 1 for the best run, and -1 at least.

    Below random actions there is no limit to a return, and a best run just above them makes the unit small: without a
    limit, a single scenario could outweigh all others.

    Args:
        returns: [runs].
        random: the return of random actions.
        best: the return of the best run. If it is not above ``random`` nobody learned anything, and all scores are 0.
    """
    returns = np.asarray(returns, dtype=np.float64)
    return np.maximum((returns - random) / (best - random), -1) if best > random else np.zeros_like(returns)


def interquartile_mean_of_tasks(scores: Scores) -> Estimate:
    """The interquartile mean over all runs of all tasks, with its stratified bootstrap interval.

    Runs are drawn with replacement within each task, so every sample has as many runs of a task as there are.

    Source: Agarwal et al. 2021, arXiv 2108.13264, sections 4.2 and 4.3.

    Args:
        scores: normalized, so that tasks can be pooled.
    """
    return _estimate(lambda drawn: interquartile_mean(np.concatenate(drawn, axis=-1), axis=-1), list(scores.values()))


def probability_of_improvement(first: Scores, second: Scores) -> Estimate:
    """How likely a run of the first contender ends higher than one of the second, on a task drawn at random.

    The mean over tasks of the share of pairs of runs in which the first is higher; ties count half (the Mann-Whitney U
    statistic over the number of pairs).

    Source: Agarwal et al. 2021, arXiv 2108.13264, section 4.3.

    Args:
        first: scores or returns of a contender.
        second: those of the other, for the same tasks.

    Raises:
        ValueError: if the tasks differ.
    """
    if first.keys() != second.keys():
        raise ValueError(f"both contenders must have the same tasks; got {sorted(first)} and {sorted(second)}.")

    def statistic(drawn: list[Floats]) -> Floats:
        pairs = zip(drawn[: len(first)], drawn[len(first) :], strict=True)
        return np.mean([_share_of_pairs(one, other) for one, other in pairs], axis=0)

    return _estimate(statistic, [*first.values(), *(second[task] for task in first)])


def _share_of_pairs(first: Floats, second: Floats) -> Floats:
    """The share of pairs with a higher first, ``[..., runs]`` and ``[..., other runs]`` to ``[...]``."""
    difference = first[..., :, None] - second[..., None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean((-2, -1))


def _estimate(statistic: Callable[[list[Floats]], Floats], strata: list[Floats], *, repeats: int = 2000) -> Estimate:
    """A statistic of the runs in several strata, with the percentile interval of its stratified bootstrap.

    Args:
        statistic: of a list of arrays ``[..., runs]``, one per stratum, over all their runs.
        strata: the runs, each ``[runs]``.
        repeats: bootstrap samples.
    """
    strata = [np.asarray(one, dtype=np.float64) for one in strata]
    value = float(statistic(strata))
    if min(len(one) for one in strata) < FEWEST_FOR_INTERVAL:
        return Estimate(value)
    generator = np.random.default_rng(0)
    drawn = [one[generator.integers(len(one), size=(repeats, len(one)))] for one in strata]
    low, high = np.quantile(statistic(drawn), [0.025, 0.975])
    return Estimate(value, float(low), float(high))
