"""Returns of the PettingZoo presets beside published ones: python -m benchmarks.pettingzoo_learning [--tasks NAME].

Runs ``masac train`` for every task and seed, each run with one thread, then ``masac evaluate`` on 100 episodes. Where a
task has several runs, each goes on from the end of the one before. The run folders stay in ``--folder``: the same
command continues an interrupted table, and resumes a run that was cut.

A return is the mean per agent and episode. "random" acts uniformly at random in the same episodes. The intervals are
those of the mean over training seeds, 95%, Student's t. Groups that play against each other are evaluated against each
other; ``masac crossplay`` compares them with other opponents.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.masac_runs import ONE_AT_A_TIME, end_runs_on_sigterm, read_rows, run_masac, start_or_resume
from benchmarks.report import mean_with_interval, print_table, write_json
from masac.training.config import INIT_PARTS

EPISODES = 100


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Args:
        overrides: of ``masac train``.
        reference: published returns per agent, and their frames.
        source: of the reference.
        then: overrides of the runs that follow, each from the networks, optimizer and replay buffer of the one before.
    """

    overrides: Sequence[str]
    reference: str = "none found"
    source: str = ""
    then: Sequence[Sequence[str]] = ()


ZOO = "maddpg-zoo-torch, one run"
HARL = "HARL, arXiv 2304.09870, read off its figures"
SHARED = "Terry et al. 2020, arXiv 2005.13625, recorded runs"

WALKERS = Task(["task=pettingzoo/multiwalker"], "SAC -92 (5.1M), TD3 -108 (3.3M), PPO 2.4, at best 21 (17M)", SHARED)
SLOWER = [*WALKERS.overrides, "training.actor_lr=1e-4", "training.critic_lr=1e-4"]
"""Of walkers that can walk, and would fall again with large steps. Their buffers keep all frames of the runs before."""

TASKS: dict[str, Task] = {
    "simple_spread, continuous": Task(
        ["task=pettingzoo/simple_spread"], "MADDPG -10.2 (1.5M); HATD3, MATD3 -8.5 (5M)", f"{ZOO}; {HARL}"
    ),
    "simple_spread, discrete": Task(
        ["task=pettingzoo/simple_spread", "task.kwargs.continuous_actions=false", "training.total_frames=300000"],
        "MAPPO -6.5 (10M)",
        HARL,
    ),
    "simple_speaker_listener": Task(
        ["task=pettingzoo/simple_speaker_listener"], "MATD3, MADDPG, HATD3 -5 (0.3M to 5M)", HARL
    ),
    "simple_reference": Task(["task=pettingzoo/simple_reference"], "HATD3 -5.5, MADDPG -7 (5M)", HARL),
    "simple_tag": Task(
        ["task=pettingzoo/simple_tag"], "MADDPG adversaries 7.4 (40k), 15.7 (1M); prey -8.3, -21.1", ZOO
    ),
    "multiwalker": WALKERS,
    "multiwalker, three runs": replace(
        WALKERS,
        then=[
            [*SLOWER, "training.alpha_lr=1e-5", "training.buffer_size=400000"],
            # With as little noise as the usual target entropy, -4, leaves them, more of them fall.
            [*SLOWER, "training.alpha_lr=1e-4", "algorithm.target_entropy=-3", "training.buffer_size=600000"],
        ],
    ),
    "pursuit": Task(["task=pettingzoo/pursuit"], "ApeX-DQN 564, PPO 115 (78M)", SHARED),
    "knights_archers_zombies": Task(["task=pettingzoo/knights_archers_zombies"]),
}


def main() -> None:
    """Run what is missing of all tasks and seeds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="some of the names in the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--overrides", nargs="*", default=[], help="more arguments for masac train")
    parser.add_argument("--folder", type=Path, default=Path("runs/pettingzoo_learning"), help="of the runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.tasks if name not in TASKS]
    if unknown:
        parser.error(f"--tasks must be among {list(TASKS)}; got {unknown}")
    end_runs_on_sigterm()
    jobs = [(name, seed) for name in arguments.tasks for seed in arguments.seeds]
    runs = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for run in pool.map(lambda job: result(*job, arguments.overrides, arguments.folder), jobs):
            runs.append(run)
            finals = {group: round(value, 2) for group, value in run["final"].items()}
            print(f"{run['task']}, seed {run['seed']}: {finals} in {run['wall_time_s'] / 60:.1f} min", flush=True)
            write_json(arguments.json, {"runs": runs}, device="cpu")  # so that a later failure loses nothing
    print_table("mean return per agent on PettingZoo", COLUMNS, learning_rows(runs))


def result(name: str, seed: int, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """The result of a run, which is started or resumed if it is not finished."""
    run_dir = folder / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}"
    found = run_dir / "result.json"
    if not found.exists():
        task = TASKS[name]
        before = [run_dir.with_name(f"{run_dir.name}-part{part}") for part in range(1, len(task.then) + 1)]
        run_dirs = [*before, run_dir]
        start_or_resume(run_dirs[0], [*task.overrides, f"seed={seed}", *overrides])
        for last, this, words in zip(run_dirs, run_dirs[1:], task.then, strict=False):
            start_or_resume(this, [*words, *_from_the_end_of(last), f"seed={seed}", *overrides])
        found.write_text(json.dumps(_read(name, seed, run_dirs)))
    return json.loads(found.read_text())


def _from_the_end_of(run_dir: Path) -> list[str]:
    return [f"training.init_from={run_dir}", f"training.init_parts=[{','.join(INIT_PARTS)}]"]


def _read(name: str, seed: int, run_dirs: Sequence[Path]) -> dict[str, Any]:
    run_dir, rows, frames, seconds = run_dirs[-1], [], 0, 0.0
    for one in run_dirs:
        rows += [(frames + int(row["frames"]), row) for row in read_rows(one) if row["eval/return_mean"]]
        summary = json.loads((one / "summary.json").read_text())
        frames, seconds = frames + summary["frames"], seconds + summary["wall_time_s"]
    evaluation = json.loads(run_masac("evaluate", str(run_dir), "--episodes", str(EPISODES), "--json"))
    with ONE_AT_A_TIME:
        others = run_dir.parent.glob(f"{run_dir.name.rpartition('-seed')[0]}-seed*/result.json")
        known = next((json.loads(other.read_text())["random"] for other in others), None)
        random_returns = known or _random_returns(run_dir)  # the same for all seeds of training
    learned = [group for group, numbers in evaluation["groups"].items() if numbers["learned"]]
    return {
        "task": name,
        "seed": seed,
        "algorithm": evaluation["algorithm"],
        "frames": frames,
        "wall_time_s": seconds,
        "random": {group: value for group, value in random_returns.items() if group in learned},
        "final": {group: evaluation["groups"][group]["return"]["mean"] for group in learned},
        "curve": {group: [[at, float(row[f"{group}/eval/return_mean"])] for at, row in rows] for group in learned},
    }


def _random_returns(run_dir: Path) -> dict[str, float]:
    """The mean return per agent of random actions, by group, in the episodes of ``masac evaluate``."""
    from masac.envs.registry import make_env
    from masac.training.evaluator import evaluate, step_limit
    from masac.training.policies.saved_policy import find_policy, read_policy

    saved = read_policy(find_policy(run_dir, checkpoint="last"))
    task, seed = saved.config.task, saved.config.evaluation.seed
    saved.policy.random_groups = frozenset(group.name for group in saved.groups)
    env = make_env(task, num_envs=EPISODES, seed=seed, one_episode=True)
    try:
        found = evaluate(saved.policy, env, seed=seed, success=None, max_steps=step_limit(task))
    finally:
        env.close()
    return {group: float(returns.mean()) for group, returns in found.returns.items()}


COLUMNS = (
    *("task", "group", "frames", "seeds", "minutes per run"),
    *("random", "final [95%]", "lowest seed", "reference (frames)"),
)


def learning_rows(runs: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of the table: one for each task and group."""
    rows = []
    for name, task in TASKS.items():
        mine = [run for run in runs if run["task"] == name]
        for group in mine[0]["final"] if mine else ():
            minutes = [run["wall_time_s"] / 60 for run in mine]
            finals = [run["final"][group] for run in mine]
            rows.append(
                (
                    name,
                    group,
                    f"{mine[0]['frames']:,}",
                    str(len(mine)),
                    f"{statistics.median(minutes):.1f} ({min(minutes):.1f} to {max(minutes):.1f})",
                    f"{statistics.mean(run['random'][group] for run in mine):.1f}",
                    mean_with_interval(finals),
                    f"{min(finals):.2f}",
                    f"{task.reference}; {task.source}" if task.source else task.reference,
                )
            )
    return rows


if __name__ == "__main__":
    main()
