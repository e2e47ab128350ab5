"""Navigation with observations that fail, with and without a memory: python -m benchmarks.memory_learning [--json F].

In ``FlickeringNavigation`` an agent's observation is zeros in half of the steps, at random (Hausknecht and Stone 2015,
arXiv 1507.06527, do so with games). Who remembers where its goal is, and where it drives, can act in these steps too.

Contenders are ``masac train task=vmas/navigation`` as it is, with failing observations, and with failing observations
and ``model.memory=gru``. All have the same frames and updates; a batch with memory is 32 sequences of 16 steps, another
one 256 steps. Each run has one thread. The run folders stay in ``--folder``: the same command continues an interrupted
table, and resumes a run that was cut.

Success is the share of 100 evaluation episodes in which all agents are at their goals at once. Means over seeds have
their 95% interval, Student's t.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vmas.scenarios.navigation import Scenario  # pyright: ignore[reportMissingTypeStubs]
from vmas.simulator.core import Agent  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.jobs import Job, finished
from benchmarks.masac_runs import end_runs_on_sigterm, start_or_resume
from benchmarks.report import mean_with_interval, print_table, write_json

FAILS = 0.5
"""How likely an observation is zeros."""

FLICKERING = "task.scenario=benchmarks.memory_learning:FlickeringNavigation"
CONTENDERS: dict[str, Sequence[str]] = {
    "all observations": [],
    "half of them": [FLICKERING],
    "half of them and a GRU": [FLICKERING, "model.memory=gru", "training.batch_size=32"],
}
COLUMNS = ("observations", "success", "return per agent", "seeds", "minutes per run")


class FlickeringNavigation(Scenario):
    """VMAS's navigation, in which every agent's observation is zeros in a step with probability :data:`FAILS`."""

    def observation(self, agent: Agent) -> Tensor:
        """VMAS's observation, or zeros: ``[environments, features]``."""
        seen = super().observation(agent)
        return seen * (torch.rand(len(seen), 1, device=seen.device) >= FAILS)


def main() -> None:
    """Run what is missing of all contenders and seeds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--overrides", nargs="*", default=[], help="more arguments for masac train")
    parser.add_argument("--folder", type=Path, default=Path("runs/memory_learning"), help="of the runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    end_runs_on_sigterm()
    jobs = [
        _job(system, [*words, f"seed={seed}", "logging.loggers=[]", *arguments.overrides], seed)
        for seed in arguments.seeds
        for system, words in CONTENDERS.items()
    ]
    runs, failed = [], 0
    for job, found in finished(jobs, arguments.folder, at_a_time=arguments.jobs):
        if found is None:
            failed += 1
            continue
        runs.append(found)
        print(f"{job.name}: {found['success']:.0%}, {found['return']:.3f} in {found['seconds']:.0f} s", flush=True)
        write_json(arguments.json, {"runs": runs}, device="cpu")  # so that a later failure loses nothing
    print_table("navigation with observations that fail", COLUMNS, memory_rows(runs))
    if failed:
        sys.exit(f"{failed} of {len(jobs)} runs failed; the same command tries them again")


def memory_rows(runs: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """The rows of the table."""
    rows = []
    for system in CONTENDERS:
        of_system = [run for run in runs if run["system"] == system]
        if of_system:
            success = mean_with_interval([100 * run["success"] for run in of_system], digits=0, unit="%")
            returned = mean_with_interval([run["return"] for run in of_system])
            minutes = sorted(run["seconds"] / 60 for run in of_system)
            middle = minutes[len(minutes) // 2]
            rows.append((system, success, returned, len(of_system), f"{middle:.1f}"))
    return rows


def _job(system: str, overrides: list[str], seed: int) -> Job:
    return Job(task="navigation", system=system, seed=seed, overrides=overrides, run=partial(_run, overrides))


def _run(overrides: Sequence[str], run_dir: Path) -> dict[str, Any]:
    start_or_resume(run_dir, ["task=vmas/navigation", *overrides])
    summary = json.loads((run_dir / "summary.json").read_text())
    return {
        "success": summary["eval_success_rate"],
        "return": summary["eval_return_mean"],
        "seconds": summary["wall_time_s"],
    }


if __name__ == "__main__":
    main()
