"""What every rank says at the end of an iteration, and what that comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masac.training.episodes import FinishedEpisode


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one rank says, or all of them together.

    Args:
        stop: whether somebody asked for the run to end.
        checkpoint: whether a checkpoint is due.
        rows: in the replay buffer.
        finished: the episodes that ended in this iteration.
    """

    stop: bool
    checkpoint: bool
    rows: int
    finished: Sequence[FinishedEpisode]


def together(reports: Sequence[Report]) -> Report:
    """What the reports of all ranks come to."""
    stop = any(report.stop for report in reports)
    return Report(
        stop=stop,
        checkpoint=stop or any(report.checkpoint for report in reports),
        rows=sum(report.rows for report in reports),
        finished=[episode for report in reports for episode in report.finished],
    )
