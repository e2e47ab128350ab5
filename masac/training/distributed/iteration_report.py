"""What every rank says at the end of an iteration, and what that comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masac.training.episodes import FinishedEpisode


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one rank says, or all of them together.

    Args:
        stop: the number of the signal that asked for the run to end; 0 if none did.
        failed: whether the run cannot go on.
        checkpoint: whether a checkpoint is due.
        rows: in the replay buffer.
        finished: the episodes of this rank that ended in this iteration.
    """

    stop: int
    failed: bool
    checkpoint: bool
    rows: int
    finished: Sequence[FinishedEpisode] = ()


def together(reports: Sequence[Report]) -> Report:
    """What the reports of all ranks come to."""
    stop = max(report.stop for report in reports)
    return Report(
        stop=stop,
        failed=any(report.failed for report in reports),
        checkpoint=stop > 0 or any(report.checkpoint for report in reports),
        rows=sum(report.rows for report in reports),
    )
