"""Returns of the PettingZoo presets: python -m benchmarks.pettingzoo_learning [--tasks NAME] [--json FILE].

Trains every task with several seeds, each run in its own process with one thread. The random policy, the untrained
policy and the final policy are evaluated on the same episodes. The last column is the gain: final minus random, paired
by evaluation episode, the mean over training seeds with its 95% interval (Student's t). Groups that play against each
other are each evaluated against random opponents.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.report import print_table, write_json

TASKS: dict[str, list[str]] = {
    "simple_spread, continuous": ["task=pettingzoo/simple_spread"],
    "simple_spread, discrete": ["task=pettingzoo/simple_spread", "task.kwargs.continuous_actions=false"],
    "simple_speaker_listener": ["task=pettingzoo/simple_speaker_listener"],
    "simple_tag, random prey": ["task=pettingzoo/simple_tag", "training.learning_groups=[adversary]"],
    "simple_tag, both learn": ["task=pettingzoo/simple_tag"],
    "knights_archers_zombies": ["task=pettingzoo/knights_archers_zombies"],
    "multiwalker": ["task=pettingzoo/multiwalker", "training.total_frames=12000"],
}
COMPETING = ("simple_tag, both learn",)
"""Tasks whose groups play against each other."""

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t, two-sided 95%, by the number of seeds."""


def main() -> None:
    """Run all tasks and seeds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="some of the names in the table")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="parallel runs, each with one thread")
    parser.add_argument("--overrides", nargs="*", default=[], help="more arguments for masac train")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)  # one run, internal
    arguments = parser.parse_args()
    if arguments.run is not None:
        run_once(**arguments.run)
        return
    unknown = [name for name in arguments.tasks if name not in TASKS]
    if unknown or arguments.seeds not in range(1, 11):
        parser.error(f"--tasks must be among {list(TASKS)}, --seeds 1 to 10; got {unknown}, {arguments.seeds}")
    jobs = [(name, seed) for name in arguments.tasks for seed in range(arguments.seeds)]
    runs = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        for run in pool.map(lambda job: _start(*job, arguments.overrides, Path(folder)), jobs):
            runs.append(run)
            write_json(arguments.json, {"runs": runs}, device="cpu")  # so that a later failure loses nothing
    print_table(
        "mean return per agent on PettingZoo", COLUMNS, [row for name in arguments.tasks for row in _rows(name, runs)]
    )


COLUMNS = (
    "task",
    "group",
    "algorithm",
    "frames",
    "seconds per run",
    "random",
    "untrained",
    "final",
    "final - random [95%]",
)


def run_once(name: str, seed: int, overrides: list[str], out: str) -> None:
    """Train one task with one seed and write its returns to the file ``out``."""
    import torch
    from rich.console import Console

    from masac.cli.composing import composed_experiment
    from masac.training.trainer import Trainer

    torch.set_num_threads(1)
    config = composed_experiment([*TASKS[name], f"seed={seed}", *overrides])
    with (
        tempfile.TemporaryDirectory() as folder,
        Trainer(config, Path(folder) / "run", console=Console(quiet=True)) as trainer,
    ):
        all_groups = [group.name for group in trainer.groups]
        random = trainer.evaluate(random_groups=all_groups)
        untrained = _returns(trainer, name)
        summary = trainer.run()
        final = _returns(trainer, name)
    found = {
        "task": name,
        "seed": seed,
        "algorithm": config.algorithm.name,
        "frames": summary["frames"],
        "wall_time_s": summary["wall_time_s"],
        "random": {group: random.returns[group].mean(-1).tolist() for group in trainer.learning_names},
        "untrained": untrained,
        "final": final,
    }
    Path(out).write_text(json.dumps(found))


def _returns(trainer: Any, task: str) -> dict[str, list[float]]:
    """Mean return per agent of every evaluation episode, by learning group; in a game, against random opponents."""
    names = trainer.learning_names
    if task not in COMPETING:
        returns = trainer.evaluate().returns
        return {group: returns[group].mean(-1).tolist() for group in names}
    found = {}
    for group in names:
        others = [other.name for other in trainer.groups if other.name != group]
        found[group] = trainer.evaluate(random_groups=others).returns[group].mean(-1).tolist()
    return found


def _start(name: str, seed: int, overrides: list[str], folder: Path) -> dict[str, Any]:
    out = folder / f"{name}-{seed}.json".replace(" ", "-")
    job = json.dumps({"name": name, "seed": seed, "overrides": overrides, "out": str(out)})
    command = [sys.executable, "-m", "benchmarks.pettingzoo_learning", "--run", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}, seed {seed} failed:\n{done.stderr[-2000:]}")
    found = json.loads(out.read_text())
    gains = {group: round(_mean_gain(found, group), 2) for group in found["final"]}
    print(f"{name}, seed {seed}: {gains} in {found['wall_time_s']:.0f} s", flush=True)
    return found


def _rows(name: str, runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    mine = [run for run in runs if run["task"] == name]
    rows = []
    for group in mine[0]["final"]:
        gains = [_mean_gain(run, group) for run in mine]
        half = T_95[len(gains)] * statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        gain = statistics.mean(gains)
        levels = [statistics.mean(statistics.mean(run[kind][group]) for run in mine) for kind in KINDS]
        seconds = [run["wall_time_s"] for run in mine]
        rows.append(
            (
                name,
                group,
                mine[0]["algorithm"],
                f"{mine[0]['frames']:,}",
                f"{statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})",
                *(f"{level:.2f}" for level in levels),
                f"{gain:+.2f} [{gain - half:+.2f}, {gain + half:+.2f}]",
            )
        )
    return rows


KINDS = ("random", "untrained", "final")


def _mean_gain(run: dict[str, Any], group: str) -> float:
    """Final minus random return, over the same evaluation episodes."""
    pairs = zip(run["final"][group], run["random"][group], strict=True)
    return statistics.mean(final - random for final, random in pairs)


if __name__ == "__main__":
    main()
