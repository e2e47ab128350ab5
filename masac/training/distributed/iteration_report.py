"""The report of each rank at the end of an iteration, and the combination of all reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from masac.training.distributed.ranks import Rank
from masac.training.episodes import FinishedEpisode


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of one rank, or of all ranks combined.

    Args:
        stop: the number of the signal that asked the run to stop; 0 for none.
        ended_by: why a callback ends the run; empty if none does.
        failed: whether the run failed.
        checkpoint: whether a checkpoint is due.
        rows: in the replay buffer.
        finished: the episodes that ended in this iteration.
        attributes: of environments, that callbacks set in this iteration.
    """

    stop: int
    ended_by: str
    failed: bool
    checkpoint: bool
    rows: int
    finished: Sequence[FinishedEpisode] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def sync_report(report: Report, rank: Rank) -> Report:
    """Combine the reports of all ranks; ``finished`` has the episodes of the other ranks, in their order.

    ``attributes`` has what other ranks set and this one did not; the first rank wins.
    """
    reports = rank.all_gather(report)
    stop = max(one.stop for one in reports)
    ended_by = next((one.ended_by for one in reports if one.ended_by), "")
    return Report(
        stop=stop,
        ended_by=ended_by,
        failed=any(one.failed for one in reports),
        checkpoint=stop > 0 or bool(ended_by) or any(one.checkpoint for one in reports),
        rows=sum(one.rows for one in reports),
        finished=[episode for index, one in enumerate(reports) if index != rank.index for episode in one.finished],
        attributes={
            name: value
            for one in reversed(reports)
            for name, value in one.attributes.items()
            if name not in report.attributes
        },
    )
