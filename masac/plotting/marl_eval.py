"""Evaluation returns in the JSON that marl-eval reads, as BenchMARL writes it. Imports no PyTorch.

marl-eval (Gorsane et al. 2022, arXiv 2209.10485) averages and plots runs of several libraries. Its file is

    {suite: {task: {algorithm: {"seed_0": {"step_0": {"step_count": frames, "return": [...]}, ...,
                                           "absolute_metrics": {"return": [...]}}}}}}

Every step has the same metrics as ``absolute_metrics``, which its DiagnoseData asks for (so no elapsed time).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from masac.plotting.recorded_runs import EVALUATION, RecordedRun

Data = dict[str, dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]]
"""suite, task, algorithm, run, step, metric."""

ABSOLUTE = "absolute_metrics"


def marl_eval_data(runs: Sequence[RecordedRun], *, group: str | None = None) -> Data:
    """The evaluations of runs as marl-eval takes them.

    A step is an evaluation; a metric is a list with one entry, the mean over its episodes. ``return`` is that of the
    agents that learn, or of ``group``; ``GROUP_return`` is a group's, written where all runs of the suite have the same
    groups (marl-eval wants the same metrics everywhere). ``absolute_metrics`` are those of the last evaluation.

    Args:
        runs: with one evaluation at least.
        group: the group whose return is ``return``.
    """
    data: Data = {}
    for run in runs:
        columns = {"return": EVALUATION if group is None else f"{group}/{EVALUATION}"}
        if len({other.groups for other in runs if other.suite == run.suite}) == 1:
            columns |= {f"{name}_return": f"{name}/{EVALUATION}" for name in run.groups}
        curves = {metric: run.column(column) for metric, column in columns.items()}
        frames = curves["return"].x
        values = {metric: curve.at(frames).tolist() for metric, curve in curves.items()}
        steps: dict[str, dict[str, Any]] = {
            f"step_{step}": {"step_count": int(count), **{metric: [each[step]] for metric, each in values.items()}}
            for step, count in enumerate(frames)
        }
        steps[ABSOLUTE] = {metric: [each[-1]] for metric, each in values.items()}
        samples = data.setdefault(run.suite, {}).setdefault(run.task, {}).setdefault(run.algorithm, {})
        samples[_free_name(f"seed_{run.seed}", samples)] = steps
    return data


def unmet_conditions(data: Data) -> list[str]:
    """What marl-eval asks of a file and this one does not fulfil, a sentence each; empty if it takes the file."""
    found = []
    for suite, tasks in data.items():
        algorithms = {task: sorted(of_task) for task, of_task in tasks.items()}
        samples = [(f"{task} {name}", runs) for task, of_task in tasks.items() for name, runs in of_task.items()]
        if len({tuple(names) for names in algorithms.values()}) > 1:
            each = "; ".join(f"{task}: {', '.join(names)}" for task, names in algorithms.items())
            found.append(f"all tasks of {suite} must have the same algorithms; got {each}. Plot fewer, or train more.")
        if len({tuple(sorted(runs)) for _, runs in samples}) > 1:
            each = "; ".join(f"{where}: {', '.join(sorted(runs))}" for where, runs in samples)
            found.append(f"all algorithms of {suite} must have the same seeds; got {each}. Plot fewer, or train more.")
        counts = sorted({len(steps) - 1 for _, runs in samples for steps in runs.values()})
        if len(counts) > 1:
            found.append(
                f"all runs of {suite} must have equally many evaluations; got {counts[0]} to {counts[-1]}. "
                "Leave out runs that have not finished, or train with the same evaluation.every_frames."
            )
        else:
            found += [_at_different_frames(task) for task, of_task in tasks.items() if len(_frames(of_task)) > 1]
        if commas := sorted({name for names in algorithms.values() for name in names if "," in name}):
            found.append(
                f"an algorithm's name must have no comma; got {commas[0]!r}. Change it with algorithm.name=..."
            )
    return found


def _at_different_frames(task: str) -> str:
    return (
        f"all runs of {task} must evaluate at the same frames, for marl-eval averages the first evaluations, the "
        "second ones and so on; got different ones. Train with the same task.num_envs and evaluation.every_frames."
    )


def _frames(of_task: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> set[tuple[int, ...]]:
    return {
        tuple(step["step_count"] for name, step in steps.items() if name != ABSOLUTE)
        for runs in of_task.values()
        for steps in runs.values()
    }


def _free_name(name: str, taken: dict[str, Any]) -> str:
    """The name, or where that is taken (a seed that was run again) the name with a number."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
