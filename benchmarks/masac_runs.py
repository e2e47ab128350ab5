"""Runs of ``masac train`` in their own processes, one thread each, for the benchmarks that learn."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

from tensordict import TensorDictBase

from masac.training.callbacks import Callback, Run

ONE_AT_A_TIME = RLock()
"""Held while a thread makes or steps environments, as threads share their random numbers."""

_running: set[subprocess.Popen[str]] = set()

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
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread)
    output, errors = wait_for(child)
    if child.returncode:
        raise RuntimeError(f"masac {' '.join(arguments)} failed:\n{output[-1000:]}{errors[-2000:]}")
    return output


def wait_for(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process, which ends early with :func:`end_runs_on_sigterm`; returns what it wrote."""
    _running.add(child)
    try:
        return child.communicate()
    finally:
        _running.remove(child)


def end_runs_on_sigterm() -> None:
    """Let SIGTERM end the runs of this process, too: they would go on, and another call could not resume them."""

    def end(number: int, _: object) -> None:
        for child in tuple(_running):
            child.terminate()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


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
