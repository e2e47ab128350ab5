"""masac and BenchMARL 1.5.2 side by side: python -m benchmarks.against_benchmarl [--json FILE].

BenchMARL needs an older TorchRL, so it runs in a separate virtual environment (--venv; created if needed). Each run is
its own process, one after another, with the two libraries in turn.

Equal for both: scenario and keywords, environments, frames, updates, batch size, networks, constant learning rates,
gamma, tau, initial temperature, target entropy, number and sharing of critics, loss function, gradient clipping, Adam's
epsilon, buffer, and random actions without updates at the start (see benchmarl/recipes.py). Both have all cores, with
threads that spin while they wait, as PyTorch's do by default; masac alone would take one thread for networks this
small, so that another program loses nothing.

Different, because each library has its own way: BenchMARL treats VMAS's horizon as a termination, masac as a
truncation. The shared centralized critic of BenchMARL's masac has one value for all agents, masac's one per agent; the
system "masac, critic=team" has one for all, too, so that equal arithmetic is compared. (It learns from the mean of the
agents' rewards and from their entropies together.) BenchMARL computes the standard deviation with a biased softplus,
masac with a squashed logarithm. BenchMARL has one optimizer per loss, masac one in total.

The clock starts when the first batch has been collected (environments, networks and threads are warm by then) and stops
after the last update. It includes collecting, the buffer, updates, and each library's own records (returns of training
episodes; masac's metrics.csv). It excludes start-up, evaluations and writing actors for them. While wall times are
compared, neither library evaluates, writes checkpoints or logs elsewhere.

Final policies are evaluated without noise by masac's code on the same 100 episodes. The figure is the mean return per
agent.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.benchmarl import recipes
from benchmarks.benchmarl.runs import evaluate, run_benchmarl, start
from benchmarks.benchmarl.tables import TEAM, WALL_COLUMNS, wall_rows
from benchmarks.benchmarl.virtual_environment import default_folder, find_or_make
from benchmarks.masac_runs import read_evaluations, read_rows, seconds_of
from benchmarks.report import print_table, runs_except, write_json
from masac.cli.composing import composed_experiment
from masac.training.config import ExperimentConfig
from masac.training.policies.saved_policy import read_policy

SYSTEMS = ("masac", TEAM, "benchmarl")

Run = dict[str, Any]


def main() -> None:
    """Run the chosen tasks, algorithms, systems and seeds and print a table."""
    arguments = _arguments()
    python = find_or_make(arguments.venv)
    os.environ["OMP_WAIT_POLICY"] = "active"  # of the runs
    jobs = [
        (task, algorithm, system, seed)
        for task in arguments.tasks
        for seed in arguments.seeds
        for algorithm in arguments.algorithms
        for system in (arguments.systems if seed % 2 == 0 else arguments.systems[::-1])  # who goes first alternates
        if algorithm == "masac" or system != TEAM
    ]
    runs = json.loads(arguments.json.read_text())["runs"] if arguments.add else []
    runs = runs_except(runs, ("task", "algorithm", "system", "seed"), jobs)
    for task, algorithm, system, seed in jobs:
        with tempfile.TemporaryDirectory() as folder:
            one = run_one(task, algorithm, system, seed, python, Path(folder), scale=arguments.frames)
        runs.append(one)
        print(
            f"{task}, {algorithm}, {system}, {seed}: {one['seconds']:.1f} s, {one['evaluations'][-1]['return']:.3f}",
            flush=True,
        )
        write_json(arguments.json, {"runs": runs}, device="cpu")
    print_table("the same recipe", WALL_COLUMNS, wall_rows(runs))


def run_one(
    task: str, algorithm: str, system: str, seed: int, python: Path, folder: Path, *, scale: float = 1.0
) -> Run:
    """Train once, and evaluate.

    Args:
        task: one of the recipes.
        algorithm: isac or masac.
        system: one of ``SYSTEMS``.
        seed: the run's seed.
        python: the Python of BenchMARL's environment.
        folder: an empty folder for the run's files.
        scale: factor on the number of frames.
    """
    words = [*recipes.recipe_overrides(task, algorithm, scale=scale), *recipes.UNWATCHED, f"seed={seed}"]
    words.append(f"training.threads={torch.get_num_threads()}")
    if system == TEAM:
        words += recipes.ONE_VALUE
    config = composed_experiment(words)
    if system == "benchmarl":
        found = run_benchmarl(recipes.benchmarl_job(config), config, python, folder)
    else:
        found = _run_masac(words, config, folder)
    return {"task": task, "algorithm": algorithm, "system": system, "seed": seed, **found}


def _run_masac(words: list[str], config: ExperimentConfig, folder: Path) -> Run:
    run_dir = folder / "run"
    start([sys.executable, "-m", "masac", "train", *words, f"run_dir={run_dir}"], folder / "log")
    rows = read_rows(run_dir)
    evaluations = read_evaluations(rows)
    evaluations[-1] |= evaluate(read_policy(run_dir / "policy.pt").policy, config)
    summary = json.loads((run_dir / "summary.json").read_text())
    return {
        "seconds": seconds_of(rows)[-1],
        "frames": summary["frames"],
        "updates": summary["updates"],
        "evaluations": evaluations,
        "settings": recipes.as_json(config),
        "versions": summary["versions"],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(recipes.RECIPES), default=list(recipes.RECIPES))
    parser.add_argument("--algorithms", nargs="+", choices=recipes.ALGORITHMS, default=list(recipes.ALGORITHMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--frames", type=float, default=1.0, help="factor on all frames, for a quick trial")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="keep the other runs in --json")
    parser.add_argument("--venv", type=Path, default=default_folder(), help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.add and (arguments.json is None or not arguments.json.exists()):
        parser.error("--add needs an existing file in --json")
    return arguments


if __name__ == "__main__":
    main()
