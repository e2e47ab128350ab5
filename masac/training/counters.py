"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Counters:
    """How far a run is, over all its starts and ranks.

    Args:
        frames: environment frames collected.
        updates: applied.
        skipped: updates that were not applied because something in them was not finite.
        wall_time_s: how long it took.
    """

    frames: int
    updates: int
    skipped: int
    wall_time_s: float
