"""Rollouts on all ranks: no rank continues before all have theirs."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import TensorDictBase

from masac.groups import GroupSpec
from masac.process.stop_signals import StopRequest
from masac.training.collectors.base import Collector
from masac.training.collectors.data_checks import check_actions, check_actors, check_observations
from masac.training.distributed.ranks import Rank


def collect_synchronized(
    collector: Collector,
    rank: Rank,
    stop: StopRequest,
    *,
    observed: Sequence[GroupSpec],
    learning: Sequence[GroupSpec],
    frames: int,
) -> TensorDictBase | None:
    """Collect a batch on this rank, and wait until all ranks have theirs.

    Args:
        collector: of this rank.
        rank: of this process.
        stop: ends it in the middle of a step if a user asks for that.
        observed: the groups whose observations must be finite.
        learning: the groups whose action masks and actions must be right.
        frames: so far, for error messages.

    Returns:
        A batch ``[environments, steps]``; None if it was stopped, which is a failure for the other ranks.

    Raises:
        OtherRankFailedError: if another rank has no batch.
        RunFailedError: for a wrong observation, action or action mask. Exceptions of the collector are raised too.
    """
    try:
        with stop.cutting("the current rollout"):
            collected = collector.collect()
        stopped = stop.now
        if not stopped:
            check_actors(collected, learning, frames)  # pyright: ignore[reportPossiblyUnbound]  it was not cut
            check_observations(collected, observed, frames)  # pyright: ignore[reportPossiblyUnbound]
            check_actions(collected, learning, frames)  # pyright: ignore[reportPossiblyUnbound]
    except (Exception, SystemExit):
        rank.barrier(failed=True)
        raise
    rank.barrier(failed=stopped)
    return None if stopped else collected  # pyright: ignore[reportPossiblyUnbound]
