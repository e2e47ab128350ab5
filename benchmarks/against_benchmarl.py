"""masac and BenchMARL 1.5.2 side by side: python -m benchmarks.against_benchmarl [--time-to-solved] [--json FILE].

BenchMARL wants an older TorchRL, so it runs in a virtual environment of its own (--venv; built if it is not there).
Each run is a process of its own, one after another, the two libraries in turn.

Equal for both: scenario and its keywords, environments, frames, updates, batch size, networks, learning rates
(constant), gamma, tau, initial temperature, target entropy, number and sharing of critics, loss function, gradient
clipping, Adam's epsilon, buffer, random actions at the start and no updates meanwhile (see benchmarl_recipes.py).

What stays different is the libraries' own: BenchMARL takes VMAS's horizon as a termination, masac as a truncation. The
shared centralized critic of BenchMARL's masac is one value for all agents, masac's a value an agent. BenchMARL maps to
the standard deviation by a biased softplus, masac squashes its logarithm. BenchMARL has an optimizer a loss, masac one.

The clock starts when the first batch is collected, after which environments, networks and threads are warm, and stops
after the last update. Inside are collecting, the buffer, updates and what each library keeps count of (returns of
training episodes; masac's metrics.csv). Outside are start-up, evaluations, and writing actors for them. Neither
evaluates, checkpoints or logs elsewhere during the comparison of wall times.

Final policies are evaluated without noise by masac's code on the same 100 episodes. A return is the sum of an agent's
rewards, the mean over agents and episodes.

With --time-to-solved: seconds (by the same clock) and frames until an evaluation on these episodes, every 6,000 frames,
reaches the threshold, of navigation 97% success (all agents at their goals): masac with its preset (its checkpoints and
logs on the clock), BenchMARL with the recipe, and BenchMARL with its own fine-tuned settings for VMAS.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import benchmarl_recipes as recipes
from benchmarks.benchmarl_actor import read_benchmarl_policy
from benchmarks.benchmarl_environment import default_folder, find_or_make
from benchmarks.benchmarl_tables import SOLVED_COLUMNS, WALL_COLUMNS, solved_rows, wall_rows
from benchmarks.report import print_table, write_json
from masac.groups import read_groups
from masac.training.config import ExperimentConfig
from masac.training.evaluator import Evaluator
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import read_policy

EVERY_FRAMES = 6_000
"""Between evaluations on the way to solved; BenchMARL's fine-tuned settings collect that many at a time."""

SYSTEMS = {False: ("masac", "benchmarl"), True: ("masac", "benchmarl", "benchmarl fine-tuned")}
"""Who runs, by whether the time to solved is wanted."""

Run = dict[str, Any]


def main() -> None:
    """Run everything that was asked for and print tables."""
    arguments = _arguments()
    python = find_or_make(arguments.venv)
    to_solved = arguments.time_to_solved
    jobs = [
        (task, algorithm, system, seed)
        for task in arguments.tasks
        for seed in arguments.seeds
        for algorithm in arguments.algorithms
        for system in (arguments.systems if seed % 2 == 0 else arguments.systems[::-1])  # whoever is first
    ]
    runs = runs_before(arguments.json, jobs, to_solved=to_solved) if arguments.add else []
    for task, algorithm, system, seed in jobs:
        with tempfile.TemporaryDirectory() as folder:
            one = run_one(
                task, algorithm, system, seed, python, Path(folder), to_solved=to_solved, scale=arguments.frames
            )
        runs.append(one)
        returned, solved = one["evaluations"][-1]["return"], f", solved: {one['solved_s']}" if to_solved else ""
        print(f"{task}, {algorithm}, {system}, {seed}: {one['seconds']:.1f} s, {returned:.3f}{solved}", flush=True)
        write_json(arguments.json, {"time_to_solved": to_solved, "runs": runs}, device="cpu")
    if to_solved:
        print_table("time to solved", SOLVED_COLUMNS, solved_rows(runs))
    else:
        print_table("the same recipe", WALL_COLUMNS, wall_rows(runs))


def run_one(
    task: str,
    algorithm: str,
    system: str,
    seed: int,
    python: Path,
    folder: Path,
    *,
    to_solved: bool,
    scale: float = 1.0,
) -> Run:
    """Train once, and evaluate.

    Args:
        task: one of the recipes.
        algorithm: isac or masac.
        system: one of ``SYSTEMS``.
        seed: of the run.
        python: of BenchMARL's environment.
        folder: an empty one, for the run's files.
        to_solved: whether to evaluate on the way, and masac runs its preset.
        scale: factor on frames.
    """
    if system == "masac" and to_solved:
        words = recipes.preset_overrides(task, algorithm, scale=scale)
        words.append(f"evaluation.every_frames={EVERY_FRAMES}")
    else:
        words = [*recipes.recipe_overrides(task, algorithm, scale=scale), *recipes.UNWATCHED]
    words += [f"seed={seed}"]
    config = recipes.compose_config(words)
    if system == "masac":
        found = _run_masac(words, config, folder)
    else:
        job = recipes.benchmarl_job(config, fine_tuned=system == "benchmarl fine-tuned")
        found = run_benchmarl({**job, "every_frames": EVERY_FRAMES if to_solved else 0}, config, python, folder)
    recipe = recipes.RECIPES[task]
    solved = next((one for one in found["evaluations"] if one[recipe.solved_by] >= recipe.solved), None)
    return {
        "task": task,
        "algorithm": algorithm,
        "system": system,
        "seed": seed,
        "threshold": recipe.solved,
        "solved_by": recipe.solved_by,
        "solved_s": None if solved is None else solved["seconds"],
        "solved_frames": None if solved is None else solved["frames"],
        **found,
    }


def _run_masac(words: list[str], config: ExperimentConfig, folder: Path) -> Run:
    run_dir = folder / "run"
    _start([sys.executable, "-m", "masac", "train", *words, f"run_dir={run_dir}"], folder / "log")
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    clock = seconds_of(rows)
    evaluations = [
        {
            "frames": int(row["frames"]),
            "seconds": seconds,
            "return": float(row["eval/return_mean"]),
            "success": float(row["eval/success_rate"]) if row.get("eval/success_rate") else None,
        }
        for row, seconds in zip(rows, clock, strict=True)
        if row["eval/return_mean"]
    ]
    evaluations[-1] |= evaluate(read_policy(run_dir / "policy.pt").policy, config)
    summary = json.loads((run_dir / "summary.json").read_text())
    return {
        "seconds": clock[-1],
        "frames": summary["frames"],
        "updates": summary["updates"],
        "evaluations": evaluations,
        "settings": recipes.as_json(config),
        "versions": summary["versions"],
    }


def seconds_of(rows: list[dict[str, str]]) -> list[float]:
    """By the rows of a metrics.csv, seconds since the first batch was collected, evaluations left out.

    Raises:
        RuntimeError: if there was more than collecting in the first row.
    """
    first = rows[0]
    if int(first["updates"]) or first["eval/return_mean"]:
        raise RuntimeError("the first iteration must only collect; it has updates or an evaluation. Warm up longer.")
    clock, evaluating = [], 0.0
    for row in rows:
        evaluating += float(row["time/evaluate_s"])
        clock.append(round(float(row["wall_time_s"]) - float(first["wall_time_s"]) - evaluating, 3))
    return clock


def run_benchmarl(job: dict[str, Any], config: ExperimentConfig, python: Path, folder: Path) -> Run:
    """Run a job of ``benchmarl_run.py``, and evaluate its actors.

    Args:
        job: see ``benchmarl_job``.
        config: masac's, whose evaluation to take.
        python: of BenchMARL's environment.
        folder: an empty one, for the run's files.

    Raises:
        RuntimeError: if the run fails, or aims at another entropy than masac.
    """
    told, out = folder / "job.json", folder / "run"
    told.write_text(json.dumps(job))
    out.mkdir()
    script = Path(__file__).with_name("benchmarl_run.py").resolve()
    _start([str(python), "-I", str(script), str(told), str(out)], folder / "log")
    result = json.loads((out / "result.json").read_text())
    if result["target_entropy"] != -result["action_dim"]:
        raise RuntimeError(f"BenchMARL's target entropy must be masac's; got {result['target_entropy']}.")
    evaluations = []
    for actor in result["actors"]:
        policy = read_benchmarl_policy(out / actor["file"], job["activation"], read_groups(_evaluator(config).env))
        evaluations.append({"frames": actor["frames"], "seconds": actor["seconds"], **evaluate(policy, config)})
    return {
        "seconds": result["seconds"],
        "frames": result["frames"],
        "updates": result["updates"],
        "evaluations": evaluations,
        "settings": job,
        "versions": result["versions"],
        "threads": result["threads"],
    }


def evaluate(policy: Policy, config: ExperimentConfig) -> dict[str, float | None]:
    """The return per agent and the success rate, on the episodes of the config's evaluation."""
    evaluation = _evaluator(config).evaluate(policy)
    return {
        "return": evaluation.episode_returns(list(evaluation.returns)).mean().item(),
        "success": None if evaluation.successes is None else evaluation.successes.double().mean().item(),
    }


def _evaluator(config: ExperimentConfig) -> Evaluator:
    """The episodes are the same whichever library, algorithm or seed is trained."""
    return _evaluator_of_task(config.task.scenario or "", config.evaluation.episodes, config.evaluation.seed)


@cache
def _evaluator_of_task(task: str, episodes: int, seed: int) -> Evaluator:
    config = recipes.compose_config(recipes.recipe_overrides(task, "isac"))
    evaluation = replace(config.evaluation, episodes=episodes, seed=seed, stochastic=False)
    return Evaluator(replace(config, evaluation=evaluation), device="cpu")


def runs_before(path: Path, jobs: list[tuple[str, str, str, int]], *, to_solved: bool) -> list[Run]:
    """The runs in a file of an earlier call, but for those that are done again.

    Raises:
        ValueError: if they are of the other comparison.
    """
    before = json.loads(path.read_text())
    if before["time_to_solved"] != to_solved:
        raise ValueError(f"--add must name a file of the same comparison; {path} is of the other. Name another file.")
    return [run for run in before["runs"] if (run["task"], run["algorithm"], run["system"], run["seed"]) not in jobs]


def _start(command: list[str], log: Path) -> None:
    """Run a process to its end.

    Raises:
        RuntimeError: with the end of what it printed, if it fails.
    """
    with log.open("w") as file:
        done = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed:\n{log.read_text()[-3000:]}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(recipes.RECIPES), default=list(recipes.RECIPES))
    parser.add_argument("--algorithms", nargs="+", choices=recipes.ALGORITHMS, default=list(recipes.ALGORITHMS))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2; with --time-to-solved 0 1 2 3 4")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS[True], help="default: all")
    parser.add_argument("--frames", type=float, default=1.0, help="factor on all frames, for a quick trial")
    parser.add_argument("--time-to-solved", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="keep the runs in --json that are not done again")
    parser.add_argument("--venv", type=Path, default=default_folder(), help="default: %(default)s")
    arguments = parser.parse_args()
    arguments.seeds = arguments.seeds or list(range(5 if arguments.time_to_solved else 3))
    arguments.systems = list(arguments.systems or SYSTEMS[arguments.time_to_solved])
    if arguments.add and (arguments.json is None or not arguments.json.exists()):
        parser.error("--add keeps the runs of an earlier --json; there is no such file")
    if not set(arguments.systems) <= set(SYSTEMS[arguments.time_to_solved]):
        parser.error(f"--systems must be among {', '.join(SYSTEMS[False])} without --time-to-solved")
    return arguments


if __name__ == "__main__":
    main()
