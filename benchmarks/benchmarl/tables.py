"""The tables of ``against_benchmarl`` and ``inside_benchmarl``."""

from __future__ import annotations

import statistics
from typing import Any

WALL_COLUMNS = (
    "task",
    "algorithm",
    "frames",
    "updates",
    "masac, s",
    "BenchMARL, s",
    "BenchMARL / masac",
    "masac's returns per agent",
    "BenchMARL's returns per agent",
)

TEAM = "masac, critic=team"
"""The system with masac's critic that has one value for all agents."""

INSIDE_NAMES = {
    ("masac", "benchmarl"): "BenchMARL's `masac`",
    ("masac", "agent"): "`group_masac`",
    ("masac", "team"): "`group_masac`, `critic_value=team`",
    ("isac", "benchmarl"): "BenchMARL's `isac`",
    ("isac", "agent"): "`group_isac`",
}

INSIDE_COLUMNS = ("algorithm", "frames", "updates", "seconds", "final return per agent, of each seed", "mean")

Run = dict[str, Any]


def wall_rows(runs: list[Run]) -> list[tuple[str, ...]]:
    """One row per task and algorithm: the median and range of the seconds over seeds, and the return of each seed.

    The runs of masac with one value for all agents have a row of their own, beside the same runs of BenchMARL.

    Raises:
        RuntimeError: if the libraries differ in frames or updates.
    """
    rows = []
    for task, algorithm in _named(runs, "task", "algorithm"):
        mine = [run for run in runs if (run["task"], run["algorithm"]) == (task, algorithm)]
        amounts = {(run["frames"], run["updates"]) for run in mine}
        if len(amounts) != 1:
            raise RuntimeError(f"all runs of {task}, {algorithm} must have equal frames and updates; got {amounts}.")
        frames, updates = amounts.pop()
        theirs = _of_system(mine, "benchmarl")
        for system, named in (("masac", algorithm), (TEAM, TEAM)):
            ours = _of_system(mine, system)
            if not ours and (system == TEAM or _of_system(mine, TEAM)):
                continue
            seconds = [[run["seconds"] for run in found] for found in (ours, theirs)]
            ratio = f"{statistics.median(seconds[1]) / statistics.median(seconds[0]):.2f}" if ours and theirs else "-"
            rows.append(
                (
                    *(task, named, f"{frames:,}", f"{updates:,}"),
                    *(_spread(found) for found in seconds),
                    ratio,
                    *(_returns(found) for found in (ours, theirs)),
                )
            )
    return rows


def inside_rows(runs: list[Run]) -> list[tuple[str, ...]]:
    """One row per contender: the median and range of the seconds over seeds, and the return of each seed.

    Raises:
        RuntimeError: if they differ in frames or updates.
    """
    rows = []
    for algorithm in dict.fromkeys(run["algorithm"] for run in runs):
        amounts = {(run["frames"], run["updates"]) for run in runs if run["algorithm"] == algorithm}
        if len(amounts) != 1:
            raise RuntimeError(f"all runs of {algorithm} must have equal frames and updates; got {amounts}.")
        for contender in dict.fromkeys(run["contender"] for run in runs if run["algorithm"] == algorithm):
            mine = [run for run in runs if (run["algorithm"], run["contender"]) == (algorithm, contender)]
            mine.sort(key=lambda run: run["seed"])
            seconds = [run["seconds"] for run in mine]
            returns = [run["evaluations"][-1]["return"] for run in mine]
            rows.append(
                (
                    INSIDE_NAMES[algorithm, contender],
                    f"{mine[0]['frames']:,}",
                    f"{mine[0]['updates']:,}",
                    f"{statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})",
                    ", ".join(f"{value:.2f}" for value in returns),
                    f"{statistics.mean(returns):.2f}",
                )
            )
    return rows


def _of_system(runs: list[Run], system: str) -> list[Run]:
    """The runs of a system, by seed."""
    return sorted((run for run in runs if run["system"] == system), key=lambda run: run["seed"])


def _named(runs: list[Run], *names: str) -> list[tuple[str, ...]]:
    """The distinct values of these entries, in order of first appearance."""
    return list(dict.fromkeys(tuple(run[name] for name in names) for run in runs))


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    if len(seconds) == 1:
        return f"{seconds[0]:.1f}"
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def _returns(runs: list[Run]) -> str:
    return ", ".join(f"{run['evaluations'][-1]['return']:.2f}" for run in runs) or "-"
