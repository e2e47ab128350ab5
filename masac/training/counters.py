"""The counters of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Counters:
    """The progress of a run, over all its starts and ranks.

    Args:
        frames: environment frames collected.
        updates: applied.
        skipped: updates that were not applied because something in them was not finite.
        wall_time_s: duration in seconds.
    """

    frames: int
    updates: int
    skipped: int
    wall_time_s: float
