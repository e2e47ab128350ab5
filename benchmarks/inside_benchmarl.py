"""masac's losses inside BenchMARL, beside BenchMARL's own: python -m benchmarks.inside_benchmarl [--json FILE].

Both are BenchMARL's ``Experiment`` with the same task, models, optimizers, buffer and frames (the recipe for navigation
in benchmarl/recipes.py); each run is its own process, with the contenders in turn. Only the algorithm differs:
BenchMARL's ``masac`` has TorchRL's loss and one value for the group; ``group_masac`` has masac's loss and one value per
agent (``critic_value=agent``) or, with ``--contenders ... team``, one for the team. With ``--algorithm isac`` they are
``isac`` and ``group_isac``, whose critics are equal.

BenchMARL runs in a separate virtual environment (--venv; created if needed) and imports masac from this checkout. The
clock and the evaluation are those of ``against_benchmarl``: seconds from the first batch to the last update, and the
final policy without noise on the same 100 episodes, by masac's code.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.benchmarl import recipes
from benchmarks.benchmarl.runs import run_benchmarl
from benchmarks.benchmarl.tables import INSIDE_COLUMNS, inside_rows
from benchmarks.benchmarl.virtual_environment import default_folder, find_or_make
from benchmarks.report import print_table, write_json
from masac.cli.composing import composed_experiment

TASK = "navigation"
CHECKOUT = Path(__file__).resolve().parents[1]

OPTIONS: dict[str, dict[str, Any] | None] = {
    "benchmarl": None,
    "agent": {"critic_value": "agent"},
    "team": {"critic_value": "team", "reward_reduction": "mean", "terminated_reduction": "any"},
}
"""The contenders, with options of masac's algorithm; None for BenchMARL's own algorithm."""

Run = dict[str, Any]


def main() -> None:
    """Run all contenders and seeds and print a table."""
    arguments = _arguments()
    python = find_or_make(arguments.venv)
    runs: list[Run] = []
    for seed in arguments.seeds:
        for contender in (
            arguments.contenders if seed % 2 == 0 else arguments.contenders[::-1]
        ):  # who goes first alternates
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
        seed: the run's seed.
        python: the Python of BenchMARL's environment.
        folder: an empty folder for the run's files.
        scale: factor on the number of frames.
    """
    words = [*recipes.recipe_overrides(TASK, algorithm, scale=scale), *recipes.UNWATCHED, f"seed={seed}"]
    config = composed_experiment(words)
    job = job_of(recipes.benchmarl_job(config), contender)
    return {"algorithm": algorithm, "contender": contender, "seed": seed, **run_benchmarl(job, config, python, folder)}


def job_of(job: dict[str, Any], contender: str) -> dict[str, Any]:
    """The contender's job, made from one of BenchMARL's own algorithm."""
    options = OPTIONS[contender]
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
        parser.error("--contenders must be among benchmarl, agent with --algorithm isac, which has no team critic")
    return arguments


if __name__ == "__main__":
    main()
