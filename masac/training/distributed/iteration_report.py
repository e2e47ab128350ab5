"""What every rank reports at the end of an iteration, and what all of them together do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masac.training.distributed.ranks import Rank
from masac.training.episodes import FinishedEpisode


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of one rank, or of all of them together.

    Args:
        stop: the number of the signal that asked for the run to end; 0 if none did.
        failed: whether the run cannot go on.
        checkpoint: whether a checkpoint is due.
        rows: in the replay buffer.
        finished: the episodes that ended in this iteration.
    """

    stop: int
    failed: bool
    checkpoint: bool
    rows: int
    finished: Sequence[FinishedEpisode] = ()


def sync_report(report: Report, rank: Rank) -> Report:
    """What the reports of all ranks come to; ``finished`` are the episodes of the other ranks, in their order."""
    reports = rank.all_gather(report)
    stop = max(one.stop for one in reports)
    return Report(
        stop=stop,
        failed=any(one.failed for one in reports),
        checkpoint=stop > 0 or any(one.checkpoint for one in reports),
        rows=sum(one.rows for one in reports),
        finished=[episode for index, one in enumerate(reports) if index != rank.index for episode in one.finished],
    )
