"""What a run returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masac.plotting.recorded_runs import read_table
from masac.plotting.statistics import Floats
from masac.training.checkpointing.checkpoints import best_of
from masac.training.policies.policy import Policy


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RunResult:
    """The result of :meth:`Trainer.run`.

    Args:
        run_dir: the folder with the run's files.
        summary: the contents of ``summary.json``; empty on ranks other than 0, and if the run was stopped before its
            first rollout.
        stopped_by: the number of the signal that stopped the run (2 for Ctrl-C); None if it was not stopped.
        policy: the policy at the end, as :func:`load_policy` gives it: in evaluation mode, on the CPU, without
            gradients.
    """

    run_dir: Path
    summary: Mapping[str, Any]
    stopped_by: int | None = None
    policy: Policy = field(repr=False)

    @property
    def metrics(self) -> dict[str, Floats]:
        """The columns of ``metrics.csv`` by name, ``[iterations]`` each, NaN where a cell is empty.

        ``pandas.DataFrame(result.metrics)`` is a table of them.
        """
        return read_table(self.run_dir / "metrics.csv")

    @property
    def best_checkpoint(self) -> Path | None:
        """The folder of the checkpoint with the highest evaluation return; None if no checkpoint has one."""
        best = best_of(self.run_dir)
        return None if best is None else best.folder

    def __repr__(self) -> str:
        summary = self.summary
        parts = [f"run_dir={str(self.run_dir)!r}"]
        if not summary:
            return f"RunResult({parts[0]}, nothing recorded)"
        parts += [f"{summary['frames']:,} frames", f"{summary['updates']:,} updates", f"{summary['wall_time_s']:.1f} s"]
        if "eval_return_mean" in summary:
            parts.append(f"evaluation return {summary['eval_return_mean']:.3f}")
        if "eval_success_rate" in summary:
            parts.append(f"success {summary['eval_success_rate']:.0%}")
        if summary["interrupted"]:
            parts.append("interrupted")
        if "ended_by" in summary:
            parts.append(summary["ended_by"])
        return f"RunResult({', '.join(parts)})"
