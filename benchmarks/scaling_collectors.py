"""Collectors in other processes: python -m benchmarks.scaling_collectors [--kinds processes ray] [--json F].

Frames a second of collecting alone (nobody learns; the policy of the preset acts), by this process (local) and by 1, 2
and 4 workers of every kind, in turn in one command. Workers collect ahead by ``collector.max_lag``, as in training;
every turn begins with batches that are not timed, so that none is counted that was ready before.

``efficiency`` is the speed of W workers over W times that of one; it cannot stay at 1 beyond the machine's cores.
``over local`` is what a run gains that only waits for its environments.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module

from benchmarks.report import print_table, write_json
from masac.cli.presets import register_presets
from masac.groups import read_groups
from masac.training.checkpointing.random_state import seed_everything
from masac.training.collectors.base import Collector
from masac.training.collectors.make import make_collector, make_environments
from masac.training.config import ExperimentConfig, read_config
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
    parser.add_argument("--overrides", nargs="*", default=[], help="task.num_envs=32, say")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contender")
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
    """Time the collectors of one task; the local one is always among them, and one worker of every kind.

    Args:
        task: a preset.
        kinds: of collectors.
        workers: how many of each; all divide the preset's environments.
        overrides: of the preset's config.
        rounds: turns of every contender.
        seconds: length of a turn.

    Returns:
        A case for each: task, envs, kind, workers, frames_per_second (median, min, max), efficiency, over_local.
    """
    names = [("local", 1), *itertools.product(kinds, sorted({1, *workers}))]
    configs = {name: _config(task, *name, overrides) for name in names}
    if "ray" in kinds:
        _start_ray(sum(count for kind, count in names if kind == "ray"))
    collectors: dict[tuple[str, int], Collector] = {}
    try:
        for name, config in configs.items():
            collectors[name] = _collector(config)
        rates: dict[tuple[str, int], list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, collector in collectors.items():
                rates[name].append(_frames_per_second(collector, configs[name].collector.max_lag + 2, seconds))
    finally:
        for collector in collectors.values():
            collector.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            "task": task,
            "envs": configs[kind, count].task.num_envs,
            "kind": kind,
            "workers": count,
            "frames_per_second": {"median": medians[kind, count], "min": min(values), "max": max(values)},
            "efficiency": medians[kind, count] / (count * medians[kind, 1]),
            "over_local": medians[kind, count] / medians["local", 1],
        }
        for (kind, count), values in rates.items()
    ]


def print_collectors(cases: Sequence[dict[str, Any]]) -> None:
    """Print the cases of :func:`time_collectors`."""
    rows = [
        (
            case["task"],
            case["envs"],
            case["kind"],
            case["workers"],
            "{median:,.0f} ({min:,.0f} to {max:,.0f})".format(**case["frames_per_second"]),
            f"{case['efficiency']:.2f}",
            f"{case['over_local']:.2f}",
        )
        for case in cases
    ]
    title = f"frames a second of collecting, {os.cpu_count()} cores"
    print_table(title, ("task", "envs", "collector", "workers", "frames/s", "efficiency", "over local"), rows)


def _config(task: str, kind: str, workers: int, overrides: Sequence[str]) -> ExperimentConfig:
    register_presets()
    words = [f"task={task}", f"collector={kind}", f"collector.num_workers={workers}", "run_dir=none", *overrides]
    with initialize_config_module("masac.conf", version_base="1.3"):
        return read_config(compose("config", overrides=words))


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
        collector.updated(1)  # weights are pushed with every batch
    return frames / passed


def _start_ray(cpus: int) -> None:
    """One Ray for all contenders, which end with it: at the end of this process."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)


if __name__ == "__main__":
    main()
