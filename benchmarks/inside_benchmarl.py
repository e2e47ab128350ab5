"""BenchMARL's MASAC and masac's inside BenchMARL: python -m benchmarks.inside_benchmarl [--json FILE].

Both are BenchMARL's ``Experiment`` with the same task, models, optimizers, buffer and frames (the recipe for navigation
in benchmarl_recipes.py), each run a process of its own, the contenders in turn. What differs is the algorithm:
BenchMARL's ``masac`` has TorchRL's loss and one value for the group; ``group_masac`` has masac's loss and a value an
agent (critic_value=agent) or, with ``--contenders ... team``, one for the team. With ``--algorithm isac`` it is
``isac`` and ``group_isac``, whose critics are the same.

BenchMARL runs in a virtual environment of its own (--venv; built if it is not there), and imports masac from this
checkout. The clock and the evaluation are those of ``against_benchmarl``: seconds from the first batch to the last
update; the final policy without noise on the same 100 episodes, by masac's code.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import benchmarl_recipes as recipes
from benchmarks.against_benchmarl import run_benchmarl
from benchmarks.benchmarl_environment import default_folder, find_or_make
from benchmarks.benchmarl_tables import INSIDE_COLUMNS, inside_rows
from benchmarks.report import print_table, write_json

TASK = "navigation"
CHECKOUT = Path(__file__).resolve().parents[1]

OPTIONS: dict[str, dict[str, Any] | None] = {
    "benchmarl": None,
    "agent": {"critic_value": "agent"},
    "team": {"critic_value": "team", "reward_reduction": "mean", "terminated_reduction": "any"},
}
"""Who runs, with the fields of masac's algorithm; None for BenchMARL's."""

Run = dict[str, Any]


def main() -> None:
    """Run everything that was asked for and print a table."""
    arguments = _arguments()
    python = find_or_make(arguments.venv)
    runs: list[Run] = []
    for seed in arguments.seeds:
        for contender in arguments.contenders if seed % 2 == 0 else arguments.contenders[::-1]:  # whoever is first
            with tempfile.TemporaryDirectory() as folder:
                one = run_one(arguments.algorithm, contender, seed, python, Path(folder), scale=arguments.frames)
            runs.append(one)
            print(f"{contender}, {seed}: {one['seconds']:.1f} s, {one['evaluations'][-1]['return']:.3f}", flush=True)
            write_json(arguments.json, {"task": TASK, "runs": runs}, device="cpu")
    print_table(f"inside BenchMARL, {TASK}", INSIDE_COLUMNS, inside_rows(runs))


def run_one(algorithm: str, contender: str, seed: int, python: Path, folder: Path, *, scale: float = 1.0) -> Run:
    """Train once, and evaluate.

    Args:
        algorithm: isac or masac.
        contender: one of ``OPTIONS``.
        seed: of the run.
        python: of BenchMARL's environment.
        folder: an empty one, for the run's files.
        scale: factor on frames.
    """
    words = [*recipes.recipe_overrides(TASK, algorithm, scale=scale), *recipes.UNWATCHED, f"seed={seed}"]
    config = recipes.compose_config(words)
    job = job_of(recipes.benchmarl_job(config), contender)
    return {"algorithm": algorithm, "contender": contender, "seed": seed, **run_benchmarl(job, config, python, folder)}


def job_of(job: dict[str, Any], contender: str) -> dict[str, Any]:
    """A job of BenchMARL's own algorithm, as one of the contender's."""
    job, options = {**job, "every_frames": 0}, OPTIONS[contender]
    if options is None:
        return job
    algorithm = job["algorithm"]
    fields = options if algorithm == "masac" else {}
    return {**job, "algorithm": f"group_{algorithm}", "algorithm_fields": fields, "checkout": str(CHECKOUT)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=recipes.ALGORITHMS, default="masac")
    parser.add_argument("--contenders", nargs="+", choices=list(OPTIONS), default=["benchmarl", "agent"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frames", type=float, default=1.0, help="factor on all frames, for a quick trial")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--venv", type=Path, default=default_folder(), help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.algorithm == "isac" and "team" in arguments.contenders:
        parser.error("--contenders must be among benchmarl, agent with --algorithm isac, which has no team's value")
    return arguments


if __name__ == "__main__":
    main()
