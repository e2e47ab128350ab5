"""Tables and picture of ``benchmarks.vmas_suite``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.aggregates import (
    Scores,
    interquartile_mean_of_tasks,
    normalized,
    probability_of_improvement,
)
from benchmarks.report import spread, summary
from benchmarks.vmas_scenarios import CHOOSING, HELD_OUT, SCENARIOS
from masac.plotting.curves import aggregate
from masac.plotting.plots import Line, Panel, check_picture, save_panels
from masac.plotting.recorded_runs import Curve
from masac.plotting.statistics import Floats

Run = dict[str, Any]
"""An entry of ``runs`` in the JSON: ``task``, ``system``, ``seed``, ``random`` and ``untrained`` (returns per agent),
``frames``, ``seconds``, and ``evaluations``, each with ``frames``, ``seconds`` and ``return``."""

SCORE_COLUMNS = ("scenarios", "contender", "runs", "interquartile mean of scores [95%]")
IMPROVEMENT_COLUMNS = ("scenarios", "contender", "other", "probability that a run of the contender ends higher [95%]")


def final(run: Run) -> float:
    """The return per agent of the last policy."""
    return run["evaluations"][-1]["return"]


def systems_of(runs: Sequence[Run]) -> list[str]:
    """The contenders, in the order of their first runs."""
    return list(dict.fromkeys(run["system"] for run in runs))


def tasks_of(runs: Sequence[Run]) -> list[str]:
    """The scenarios, in their order in ``SCENARIOS``."""
    return [task for task in SCENARIOS if any(run["task"] == task for run in runs)]


def is_of_benchmarl(run: Run) -> bool:
    """Whether it is a run of BenchMARL."""
    return run["system"].startswith("benchmarl/")


def return_columns(runs: Sequence[Run]) -> tuple[str, ...]:
    """The columns of :func:`return_rows`."""
    about = ("scenario", "half", "agents", "frames", "minutes per run", "random", "untrained")
    return (*about, *systems_of([run for run in runs if not is_of_benchmarl(run)]))


def return_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """For each scenario the final returns of masac's contenders: the mean over seeds, and the range of several."""
    runs, rows = [run for run in runs if not is_of_benchmarl(run)], []
    for task in tasks_of(runs):
        mine, scenario = [run for run in runs if run["task"] == task], SCENARIOS[task]
        finals = {system: [final(run) for run in mine if run["system"] == system] for system in systems_of(runs)}
        rows.append(
            (
                task,
                scenario.half,
                " + ".join(str(number) for number in scenario.agents.values()),
                f"{max(run['frames'] for run in mine):,}",
                spread(summary([run["seconds"] / 60 for run in mine])),
                f"{statistics.mean(run['random'] for run in mine):.2f}",
                f"{statistics.mean(run['untrained'] for run in mine):.2f}",
                *(_mean_and_range(values) if values else "-" for values in finals.values()),
            )
        )
    return rows


def _mean_and_range(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else mean


def beside_columns(runs: Sequence[Run]) -> tuple[str, ...]:
    """The columns of :func:`beside_rows`."""
    return ("contender", *tasks_of([run for run in runs if is_of_benchmarl(run)]))


def beside_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """For each contender the mean final returns and seconds where BenchMARL was run; none without BenchMARL."""
    _, *tasks = beside_columns(runs)
    rows = []
    for system in systems_of(runs) if tasks else ():
        cells = [[run for run in runs if (run["task"], run["system"]) == (task, system)] for task in tasks]
        rows.append((system, *(_return_and_seconds(mine) if mine else "-" for mine in cells)))
    return rows


def _return_and_seconds(runs: Sequence[Run]) -> str:
    returned, seconds = statistics.mean(map(final, runs)), statistics.mean(run["seconds"] for run in runs)
    return f"{returned:.2f} ({seconds:.0f} s)"


def solved_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The time to solved where BenchMARL was run: a row of thresholds, then one for each contender.

    A threshold is nine tenths of the way from random actions to the best final return of any run. The time is the
    median over seeds of the seconds to the first evaluation that reaches it; a seed without one counts as infinite.
    """
    _, *tasks = beside_columns(runs)
    thresholds = {}
    for task in tasks:
        mine = [run for run in runs if run["task"] == task]
        random = statistics.mean(run["random"] for run in mine)
        thresholds[task] = random + 0.9 * (max(map(final, mine)) - random)
    rows = [("threshold", *(f"{value:.2f}" for value in thresholds.values()))] if tasks else []
    for system in systems_of(runs) if tasks else ():
        cells = [[run for run in runs if (run["task"], run["system"]) == (task, system)] for task in tasks]
        solved = [[_seconds_to(run, thresholds[task]) for run in mine] for task, mine in zip(tasks, cells, strict=True)]
        rows.append((system, *(_seconds_and_seeds(seconds) if seconds else "-" for seconds in solved)))
    return rows


def _seconds_to(run: Run, threshold: float) -> float:
    return next((one["seconds"] for one in run["evaluations"] if one["return"] >= threshold), math.inf)


def _seconds_and_seeds(seconds: Sequence[float]) -> str:
    median, solved = statistics.median(seconds), sum(map(math.isfinite, seconds))
    shown = f"{median:.0f} s" if median < math.inf else "never"
    return shown if solved == len(seconds) or len(seconds) == 1 else f"{shown} ({solved} of {len(seconds)})"


def returns_of(runs: Sequence[Run]) -> Mapping[str, Scores]:
    """The final returns of all runs, by contender and scenario."""
    found: dict[str, dict[str, Floats]] = {system: {} for system in systems_of(runs)}
    for task in tasks_of(runs):
        mine = [run for run in runs if run["task"] == task]
        for system in dict.fromkeys(run["system"] for run in mine):
            found[system][task] = np.array([final(run) for run in mine if run["system"] == system])
    return found


def scores_of(runs: Sequence[Run]) -> Mapping[str, Scores]:
    """The scores of all runs, by contender and scenario; the best run of all contenders has 1."""
    returns = returns_of(runs)
    random = {task: statistics.mean(run["random"] for run in runs if run["task"] == task) for task in tasks_of(runs)}
    best = {task: max(one[task].max() for one in returns.values() if task in one) for task in random}
    return {
        system: {task: normalized(finals, random=random[task], best=best[task]) for task, finals in one.items()}
        for system, one in returns.items()
    }


def comparisons(scores: Mapping[str, Scores]) -> Iterator[tuple[str, Mapping[str, Scores]]]:
    """Sets of scenarios, with the scores in them of all contenders that have runs of every scenario of the set.

    They are both halves and all scenarios, and those of each contender that has only some.
    """
    every = [task for task in SCENARIOS if any(task in one for one in scores.values())]
    sets = {half: [task for task in every if SCENARIOS[task].half == half] for half in (CHOOSING, HELD_OUT)}
    sets["all"] = every
    for system, one in scores.items():
        if list(one) not in sets.values():
            sets[f"those of {system}"] = list(one)
    for name, tasks in sets.items():
        inside = {
            system: {task: one[task] for task in tasks} for system, one in scores.items() if set(tasks) <= set(one)
        }
        if tasks and inside:
            yield f"{name} ({len(tasks)})", inside


def score_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The interquartile mean of scores of each set of scenarios and contender."""
    return [
        (name, system, str(sum(map(len, scores.values()))), str(interquartile_mean_of_tasks(scores)))
        for name, inside in comparisons(scores_of(runs))
        for system, scores in inside.items()
    ]


def improvement_rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The probability of improvement in each set of scenarios, of the first contender over each of the others."""
    return [
        (name, first, other, str(probability_of_improvement(inside[first], inside[other])))
        for name, inside in comparisons(returns_of(runs))
        for first, *others in [list(inside)]
        for other in others
    ]


def draw_curves(runs: Sequence[Run], out: Path, *, x: str = "frames") -> None:
    """Draw the learning curves: a panel per scenario, a line per contender, from the untrained policy on.

    Args:
        runs: at least one.
        out: the picture.
        x: frames or time.
    """
    check_picture(out)
    panels = []
    for task in tasks_of(runs):
        mine = [run for run in runs if run["task"] == task]
        curves = {system: [_curve(run, x) for run in mine if run["system"] == system] for system in systems_of(runs)}
        end = max(float(curve.x[-1]) for of_system in curves.values() for curve in of_system)
        lines = [
            Line(
                x=np.array([0.0, end]),
                y=np.full(2, statistics.mean(run["random"] for run in mine)),
                color="0.5",
                label="random",
                style={"linewidth": 1, "linestyle": "--"},
            )
        ]
        for index, (system, of_system) in enumerate(curves.items()):
            for number, piece in enumerate(aggregate(of_system) if of_system else ()):
                label = system if number == 0 else ""
                lines.append(
                    Line(x=piece.x, y=piece.mean, low=piece.low, high=piece.high, color=f"C{index}", label=label)
                )
        panels.append(Panel(title=task, lines=lines))
    caption = "evaluation: interquartile mean over seeds; band: its 95% bootstrap interval"
    save_panels(panels, out, x=x, y_label="return per agent", caption=caption, panel_size=(2.8, 2.2), one_legend=True)


def _curve(run: Run, x: str) -> Curve:
    points = [{"frames": 0, "seconds": 0, "return": run["untrained"]}, *run["evaluations"]]
    columns = ("seconds" if x == "time" else "frames", "return")
    return Curve(*(np.array([float(one[name]) for one in points]) for name in columns))
