"""Evaluation returns in the JSON that marl-eval reads, as BenchMARL writes it. Imports no PyTorch.

marl-eval (Gorsane et al. 2022, arXiv 2209.10485) averages and plots runs of several libraries. Its file is

    {suite: {task: {algorithm: {"seed_0": {"step_0": {"step_count": frames, "return": [...]}, ...,
                                           "absolute_metrics": {"return": [...]}}}}}}

Every step has the metrics of ``absolute_metrics`` and no others (such as elapsed time): marl-eval's DiagnoseData
requires that. marl-eval also expects equally many evaluations of every run, at the same frames, and the same seeds and
algorithms for every task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from masac.plotting.recorded_runs import EVALUATION, RecordedRun

Data = dict[str, dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]]
"""suite, task, algorithm, run, step, metric."""

ABSOLUTE = "absolute_metrics"


def marl_eval_data(runs: Sequence[RecordedRun], *, group: str | None = None) -> Data:
    """The evaluations of runs in marl-eval's layout.

    A step is an evaluation. A metric is a list with one entry, the mean over the episodes. ``return`` is the mean
    return per agent of the agents that learn, or of ``group``. ``GROUP_return`` is that of one group; it is written if
    all runs of the suite have the same groups, as marl-eval requires the same metrics of all. ``absolute_metrics`` are
    those of the last evaluation.

    Args:
        runs: each with at least one evaluation.
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


def _free_name(name: str, taken: dict[str, Any]) -> str:
    """The name; with a number if it is taken, because a seed was run again."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
