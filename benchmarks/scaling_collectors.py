"""Speed of collecting with several workers: python -m benchmarks.scaling_collectors [--kinds processes ray].

Measures frames per second of collecting without learning, with the preset's untrained policy: in this process (local),
and with 1, 2 and 4 workers of every kind, in turn. Workers collect ahead by ``collector.max_lag``, as in training.
Every turn begins with batches that are not timed, so that no batch counts that was ready before.

``efficiency`` is the speed of W workers divided by W times the speed of one; beyond the machine's cores it must fall.
``speed / local`` compares with the local collector.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import print_table, spread, summary, write_json
from masac.cli.composing import composed_experiment
from masac.groups import read_groups
from masac.training.checkpointing.random_state import seed_everything
from masac.training.collectors.base import Collector
from masac.training.collectors.make import make_collector, make_environments
from masac.training.config import ExperimentConfig
from masac.training.policies.policy import learning_groups
from masac.training.policies.saved_policy import make_policy

TASKS = ("pettingzoo/knights_archers_zombies", "vmas/navigation")
WORKERS = (1, 2, 4)


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="presets")
    parser.add_argument("--kinds", nargs="+", default=["processes", "ray"], choices=["processes", "ray"])
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--overrides", nargs="*", default=[], help="more keys of the config, such as task.num_envs=32")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every collector")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    cases = [
        case
        for task in arguments.tasks
        for case in time_collectors(
            task,
            kinds=arguments.kinds,
            workers=arguments.workers,
            overrides=arguments.overrides,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
        )
    ]
    print_collectors(cases)
    write_json(arguments.json, {"collectors": cases, "cores": os.cpu_count()}, device="cpu")


def time_collectors(
    task: str,
    *,
    kinds: Sequence[str] = ("processes", "ray"),
    workers: Sequence[int] = WORKERS,
    overrides: Sequence[str] = (),
    rounds: int = 5,
    seconds: float = 3.0,
) -> list[dict[str, Any]]:
    """Time the collectors of one task, always including the local one and one worker of every kind.

    Args:
        task: a preset.
        kinds: kinds of collectors.
        workers: numbers of workers; each must divide the number of environments.
        overrides: keys of the config that differ from the preset.
        rounds: turns of every collector.
        seconds: length of a turn.

    Returns:
        One case per collector: task, envs, kind, workers, frames_per_second (median, min, max), efficiency, over_local.
    """
    names = [("local", 1), *itertools.product(kinds, sorted({1, *workers}))]
    configs = {name: _config(task, *name, overrides) for name in names}
    if "ray" in kinds:
        _start_ray(sum(count for kind, count in names if kind == "ray"))
    collectors: dict[tuple[str, int], Collector] = {}
    try:
        for name, config in configs.items():
            collectors[name] = _collector(config)
        measured: dict[tuple[str, int], list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, collector in collectors.items():
                measured[name].append(_frames_per_second(collector, configs[name].collector.max_lag + 2, seconds))
    finally:
        for collector in collectors.values():
            collector.close()
    found = {name: summary(values) for name, values in measured.items()}
    return [
        {
            "task": task,
            "envs": configs[kind, count].task.num_envs,
            "kind": kind,
            "workers": count,
            "frames_per_second": rates,
            "efficiency": rates["median"] / (count * found[kind, 1]["median"]),
            "over_local": rates["median"] / found["local", 1]["median"],
        }
        for (kind, count), rates in found.items()
    ]


def print_collectors(cases: Sequence[dict[str, Any]]) -> None:
    """Print the cases of :func:`time_collectors`."""
    rows = [
        (
            case["task"],
            case["envs"],
            case["kind"],
            case["workers"],
            spread(case["frames_per_second"], 0),
            f"{case['efficiency']:.2f}",
            f"{case['over_local']:.2f}",
        )
        for case in cases
    ]
    columns = ("task", "envs", "collector", "workers", "frames per second", "efficiency", "speed / local")
    print_table(f"collecting without learning, {os.cpu_count()} cores", columns, rows)


def _config(task: str, kind: str, workers: int, overrides: Sequence[str]) -> ExperimentConfig:
    return composed_experiment(
        [f"task={task}", f"collector={kind}", f"collector.num_workers={workers}", "run_dir=none", *overrides]
    )


def _collector(config: ExperimentConfig) -> Collector:
    seed_everything(0)
    env = make_environments(config, seed=0, device="cpu")
    groups = read_groups(env)
    policy = make_policy(groups, learning_groups(groups, config.training.learning_groups), config)
    return make_collector(config, env, policy, seed=0, device="cpu", warn=print)


def _frames_per_second(collector: Collector, untimed: int, seconds: float) -> float:
    for _ in range(untimed):
        collector.collect()
    frames, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        frames += collector.collect().numel()
        collector.updated(1)  # so that every batch has new weights
    return frames / passed


def _start_ray(cpus: int) -> None:
    """Start one Ray for all collectors; it ends with this process."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)


if __name__ == "__main__":
    main()
