"""Runs of ``masac train`` in their own processes, one thread each, for the benchmarks that learn."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensordict import TensorDictBase

from masac.training.callbacks import Callback, Run

UNTRAINED, RANDOM = "first/untrained", "first/random"
"""The columns of ``metrics.csv`` that :class:`FirstReturns` writes."""


class FirstReturns(Callback):
    """Logs two returns per agent in the first row of ``metrics.csv``, on the evaluation episodes.

    They are those of the policy before its first update, and of random actions of all groups. A run whose first
    iteration has updates is refused.
    """

    def __init__(self) -> None:
        self.done = False

    def on_collect(self, run: Run, data: TensorDictBase) -> None:
        """Evaluate after the first rollout."""
        if self.done:
            return
        trainer, self.done = run.trainer, True
        every_group = [group.name for group in trainer.groups]
        for column, random_groups in ((UNTRAINED, ()), (RANDOM, every_group)):
            found = trainer.evaluate(random_groups=random_groups)
            run.log(column, found.episode_returns(trainer.learning_names).mean().item())

    def state_dict(self) -> dict[str, Any]:
        """A resumed run does not evaluate again."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Whether it has evaluated."""
        self.done = state["done"]


def run_masac(*arguments: str) -> str:
    """Run a command of masac with one thread, and return what it prints.

    Raises:
        RuntimeError: if it fails, with the end of its output.
    """
    command = [sys.executable, "-m", "masac", *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    if done.returncode:
        raise RuntimeError(f"masac {' '.join(arguments)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def start_or_resume(run_dir: Path, overrides: Sequence[str]) -> None:
    """Train to the end: a new run, or the rest of one that was cut.

    Args:
        run_dir: the folder of the run.
        overrides: of a new run.
    """
    if (run_dir / "config.yaml").exists():
        run_masac("train", "--resume", str(run_dir))
    else:
        run_masac("train", *overrides, f"run_dir={run_dir}")


def read_rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's ``metrics.csv``, by column."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def seconds_of(rows: Sequence[Mapping[str, str]]) -> list[float]:
    """Seconds since the first batch was collected, without evaluations, for each row of a metrics.csv.

    Raises:
        RuntimeError: if the first row has updates or an evaluation.
    """
    first = rows[0]
    if int(first["updates"]) or first["eval/return_mean"]:
        raise RuntimeError("the first iteration must only collect; got updates or an evaluation. Raise warmup_frames.")
    clock, evaluating = [], 0.0
    for row in rows:
        evaluating += float(row["time/evaluate_s"])
        clock.append(round(float(row["wall_time_s"]) - float(first["wall_time_s"]) - evaluating, 3))
    return clock


def read_evaluations(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The evaluations of a run: frames, seconds (of :func:`seconds_of`), return per agent, and success if defined."""
    return [
        {
            "frames": int(row["frames"]),
            "seconds": seconds,
            "return": float(row["eval/return_mean"]),
            "success": float(row["eval/success_rate"]) if row.get("eval/success_rate") else None,
        }
        for row, seconds in zip(rows, seconds_of(rows), strict=True)
        if row["eval/return_mean"]
    ]
