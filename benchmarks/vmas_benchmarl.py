"""BenchMARL's algorithms as contenders of ``benchmarks.vmas_suite``, at equal wall time.

A run gets the seconds that masac took for the scenario, and ends after the first iteration that reaches them, which may
be a long one, so the tables show the seconds that it took. Each algorithm runs with two kinds of settings, one thread,
and the same episodes as masac's runs:

- the recipe of ``benchmarl/recipes.py``, with masac's default number of updates per frame and discount. PPO has its own
  amounts, learning rate and epochs: those of TorchRL's tutorial of multi-agent PPO, which is on VMAS too.
- BenchMARL's fine-tuned settings for VMAS.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.benchmarl.recipes import SAME_FOR_ALL, benchmarl_job
from benchmarks.benchmarl.runs import run_benchmarl
from benchmarks.jobs import Job
from benchmarks.vmas_scenarios import SCENARIOS
from masac.cli.composing import composed_experiment

ALGORITHMS = ("masac", "isac", "maddpg", "iddpg", "mappo", "ippo")
ON_POLICY = ("mappo", "ippo")

TASKS = (
    "navigation",
    "balance",
    "sampling",
    "transport",
    "reverse_transport",
    "wheel",
    "flocking",
    "give_way",
    "simple_spread",
)
"""The scenarios; all have one group."""

PPO = {
    "num_envs": 60,
    "frames_per_batch": 6_000,
    "updates_per_batch": 30,
    "batch_size": 400,
    "lr": 3e-4,
    "max_grad_norm": 1.0,
    "warmup_frames": 0,
}
"""Of TorchRL's tutorial, in place of the recipe's; ``updates_per_batch`` are epochs over a batch of frames."""

PPO_FINE_TUNED = {"num_envs": 600, "frames_per_batch": 60_000, "updates_per_batch": 45, "batch_size": 4_096}
"""BenchMARL's fine-tuned settings for PPO, from the same file as ``FINE_TUNED``."""

FINE_TUNED_SUFFIX = " fine-tuned"
"""Of the names of contenders with BenchMARL's fine-tuned settings."""

FRAMES_AT_MOST = 1_000_000_000
ANNEAL_FINE_TUNED = 1_000_000


def benchmarl_jobs(
    tasks: Sequence[str],
    algorithms: Sequence[str],
    seeds: Sequence[int],
    *,
    seconds: Mapping[str, float],
    random: Mapping[str, float],
    python: Path,
) -> list[Job]:
    """The runs of BenchMARL, seed by seed, the recipe first, so that an interrupted table has all scenarios.

    Args:
        tasks: names of scenarios.
        algorithms: some of ``ALGORITHMS``.
        seeds: of the runs.
        seconds: of a run, by scenario.
        random: the return of random actions, by scenario.
        python: of BenchMARL's environment.
    """
    jobs = []
    for seed in seeds:
        for fine_tuned in (False, True):
            for task in tasks:
                for algorithm in algorithms:
                    settings = settings_of(task, algorithm, seed, fine_tuned=fine_tuned)
                    words = [f"{name}={value}" for name, value in settings.items()]
                    system = f"benchmarl/{algorithm}{FINE_TUNED_SUFFIX if fine_tuned else ''}"
                    run = partial(_run, settings, seconds=seconds[task], random=random[task], python=python)
                    jobs.append(Job(task=task, system=system, seed=seed, overrides=words, run=run))
    return jobs


def settings_of(task: str, algorithm: str, seed: int, *, fine_tuned: bool) -> dict[str, Any]:
    """The job of ``benchmarl/run.py``, without its time.

    Args:
        task: the scenario.
        algorithm: one of ``ALGORITHMS``.
        seed: of the run.
        fine_tuned: BenchMARL's settings for VMAS instead of the recipe.
    """
    words = [*_task_words(task), *SAME_FOR_ALL, "training.updates_per_frame=0.0625", f"seed={seed}"]
    job = benchmarl_job(composed_experiment(words), fine_tuned=fine_tuned)
    if algorithm in ON_POLICY:
        job |= PPO_FINE_TUNED if fine_tuned else PPO
    anneal = ANNEAL_FINE_TUNED if fine_tuned else SCENARIOS[task].frames // 3
    return {
        **job,
        "algorithm": algorithm,
        "frames": FRAMES_AT_MOST,
        "anneal_frames": anneal,  # of DDPG's noise; BenchMARL's default is this share of a run of known length
        "threads": 1,
    }


def _task_words(task: str) -> list[str]:
    return ["task=vmas/custom", *SCENARIOS[task].overrides(task)]


def _run(settings: Mapping[str, Any], folder: Path, *, seconds: float, random: float, python: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut, which cannot be resumed
    folder.mkdir(parents=True)
    time = {"seconds": seconds, "every_seconds": seconds / SCENARIOS[settings["task"]].evaluations}
    found = run_benchmarl({**settings, **time}, composed_experiment(_task_words(settings["task"])), python, folder)
    untrained, *evaluations = found["evaluations"]
    return {
        "frames": found["frames"],
        "updates": found["updates"],
        "seconds": found["seconds"],
        "random": random,
        "untrained": untrained["return"],
        "evaluations": evaluations,
        "versions": found["versions"],
    }
