"""masac on every VMAS scenario that a group can learn: python -m benchmarks.vmas_suite [--json FILE] [--plot FILE].

Runs ``masac train`` for every scenario of ``vmas_scenarios.py``, contender and seed, each run with one thread. A
contender is a name and a list of overrides, the same for all scenarios, on top of masac's defaults for
``task=vmas/custom``; ``task=preset`` among them stands for the scenario's preset, and skips scenarios without one.
Scenario, keywords, horizon and frames are the same for all contenders.

With ``--benchmarl`` BenchMARL's algorithms are contenders as well, on nine of the scenarios, in their own virtual
environment (--venv; created if needed), at masac's wall time: see ``vmas_benchmarl.py``.

The run folders stay in ``--folder``: the same command continues an interrupted table, and resumes a run that was cut.
A run that has ended keeps its policy and metrics, not its checkpoints. With ``--add`` the runs of other contenders in
``--json`` are kept, and compared with.

A return is the mean per agent that learns and episode. A policy is evaluated without noise, always on the same 100
episodes; its last evaluation counts. "random" acts uniformly at random in these episodes, and "untrained" is the policy
before its first update. Seconds begin after the first rollout, and leave out evaluations.

A score is a return on a scale on which random actions have 0 and the best run of all contenders has 1; it is at least
-1, and 0 for all if no run ended above random actions. Aggregates are over the runs of all scenarios: the interquartile
mean of scores, and the probability that a run of the first contender ends higher than one of another, with stratified
bootstrap intervals of 95% (Agarwal et al. 2021, arXiv 2108.13264) where every scenario has three runs. They are given
for the scenarios on which settings are chosen, for those held out, and for all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.benchmarl.virtual_environment import default_folder, find_or_make
from benchmarks.jobs import Job, finished
from benchmarks.masac_runs import (
    RANDOM,
    UNTRAINED,
    end_runs_on_sigterm,
    read_evaluations,
    read_rows,
    seconds_of,
    start_or_resume,
)
from benchmarks.report import print_table, runs_except, write_json
from benchmarks.vmas_benchmarl import ALGORITHMS, FINE_TUNED_SUFFIX, TASKS, benchmarl_jobs
from benchmarks.vmas_report import (
    IMPROVEMENT_COLUMNS,
    SCORE_COLUMNS,
    beside_columns,
    beside_rows,
    draw_curves,
    final,
    improvement_rows,
    return_columns,
    return_rows,
    score_rows,
    solved_rows,
)
from benchmarks.vmas_scenarios import CHOOSING, HELD_OUT, SCENARIOS
from masac.cli.presets import presets
from masac.training.checkpointing.checkpoints import FOLDER

PRESET = "task=preset"

CONTENDERS: dict[str, Sequence[str]] = {
    "isac": ["algorithm=isac"],
    "masac": ["algorithm=masac"],
    "preset": [PRESET],
}
"""The contenders by default: masac's defaults with either critic, and the presets."""

KEYS = ("task", "system", "seed")


def main() -> None:
    """Run what is missing of all scenarios, contenders and seeds, and print the tables."""
    arguments = _arguments()
    end_runs_on_sigterm()
    torch.set_num_threads(1)  # of the evaluations of BenchMARL's policies, beside which other runs go on
    jobs = masac_jobs(arguments.tasks, arguments.contenders, arguments.seeds, scale=arguments.frames)
    runs = json.loads(arguments.json.read_text())["runs"] if arguments.add else []
    runs, failed = run_jobs(jobs, runs, arguments)
    if arguments.benchmarl is not None and not failed:
        again = _benchmarl_jobs(arguments, runs)
        jobs += again
        runs, failed = run_jobs(again, runs, arguments)
    if runs:
        print_table("mean return per agent on VMAS", return_columns(runs), return_rows(runs))
        if beside := beside_rows(runs):
            print_table(
                "mean return per agent (seconds), beside BenchMARL at equal wall time", beside_columns(runs), beside
            )
            print_table("seconds to nine tenths of the best return", beside_columns(runs), solved_rows(runs))
        print_table("scores over scenarios", SCORE_COLUMNS, score_rows(runs))
        print_table("who ends higher", IMPROVEMENT_COLUMNS, improvement_rows(runs))
        if arguments.plot:
            # Some of them end so low that the other curves would be flat.
            drawn = [run for run in runs if not run["system"].endswith(FINE_TUNED_SUFFIX)]
            draw_curves(drawn, arguments.plot, x=arguments.x)
    if failed:
        sys.exit(f"{failed} of {len(jobs)} runs failed; the same command tries them again")


def run_jobs(
    jobs: Sequence[Job], runs: Sequence[dict[str, Any]], arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], int]:
    """Run what is missing of jobs, and write the JSON.

    Args:
        jobs: to run.
        runs: known ones, which are kept unless they are among the jobs.
        arguments: of the command.

    Returns:
        All runs, and how many jobs failed.
    """
    order = list(dict.fromkeys([*(run["system"] for run in runs), *(job.system for job in jobs)]))
    runs, failed = runs_except(runs, KEYS, [(job.task, job.system, job.seed) for job in jobs]), 0
    for job, found in finished(jobs, arguments.folder, at_a_time=arguments.jobs):
        if found is None:
            failed += 1
            continue
        runs.append(found)
        runs.sort(key=lambda run: order.index(run["system"]))  # others are compared with the first one
        about = f"{found['untrained']:.3f} untrained, {found['random']:.3f} random, {found['seconds']:.0f} s"
        print(f"{job.name}: {final(found):.3f} ({about})", flush=True)
        write_json(arguments.json, {"runs": runs}, device="cpu")  # so that a later failure loses nothing
    return runs, failed


def masac_jobs(
    tasks: Sequence[str], contenders: Mapping[str, Sequence[str]], seeds: Sequence[int], *, scale: float = 1.0
) -> list[Job]:
    """All runs of masac, seed by seed, so that an interrupted table has all scenarios.

    Args:
        tasks: names of scenarios.
        contenders: their overrides.
        seeds: of the runs.
        scale: factor on the frames.
    """
    with_preset = presets("vmas")
    jobs = []
    for seed in seeds:
        for task in tasks:
            for system, words in contenders.items():
                if PRESET in words and task not in with_preset:
                    continue
                overrides = [
                    f"task=vmas/{task if PRESET in words else 'custom'}",
                    *SCENARIOS[task].overrides(task, scale=scale),
                    "training.callbacks=[benchmarks.masac_runs:FirstReturns]",
                    "logging.loggers=[]",
                    f"seed={seed}",
                    *(word for word in words if word != PRESET),
                ]
                run = partial(_run, overrides)
                jobs.append(Job(task=task, system=system, seed=seed, overrides=overrides, run=run))
    return jobs


def _run(overrides: Sequence[str], run_dir: Path) -> dict[str, Any]:
    start_or_resume(run_dir, overrides)
    summary, rows = json.loads((run_dir / "summary.json").read_text()), read_rows(run_dir)
    found = {
        "frames": summary["frames"],
        "updates": summary["updates"],
        "seconds": seconds_of(rows)[-1],
        "random": float(rows[0][RANDOM]),
        "untrained": float(rows[0][UNTRAINED]),
        "evaluations": read_evaluations(rows),
    }
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)  # replay buffers: gigabytes over all runs; policy.pt stays
    return found


def _benchmarl_jobs(arguments: argparse.Namespace, runs: Sequence[dict[str, Any]]) -> list[Job]:
    """The runs of BenchMARL on the chosen scenarios that have the seconds of masac."""
    measured = {
        task: [run for run in runs if (run["task"], run["system"]) == (task, arguments.seconds_of)]
        for task in arguments.tasks
        if task in TASKS
    }
    if missing := [task for task, found in measured.items() if not found]:
        sys.exit(
            f"--seconds-of must have runs on all scenarios; {arguments.seconds_of} has none on {', '.join(missing)}. "
            "Run it too (--contender), or --add to a --json that has them"
        )
    return benchmarl_jobs(
        list(measured),
        arguments.benchmarl or ALGORITHMS,
        arguments.seeds,
        seconds={task: statistics.median(run["seconds"] for run in found) for task, found in measured.items()},
        random={task: found[0]["random"] for task, found in measured.items()},
        python=find_or_make(arguments.venv),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(SCENARIOS), metavar="SCENARIO", help="default: all")
    parser.add_argument("--half", choices=(CHOOSING, HELD_OUT), help="only the scenarios of this half")
    parser.add_argument(
        "--contender",
        action="append",
        metavar='NAME="KEY=VALUE ..."',
        help=f"a contender, or the name of one of {', '.join(CONTENDERS)}; may be repeated. Default: these",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--frames", type=float, default=1.0, help="factor on all frames, for a quick trial")
    parser.add_argument("--folder", type=Path, default=Path("runs/vmas_suite"), help="of the runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="keep the other runs in --json")
    parser.add_argument("--plot", type=Path, help="a picture of the learning curves")
    parser.add_argument("--x", choices=("frames", "time"), default="frames", help="of the picture")
    parser.add_argument(
        "--benchmarl",
        nargs="*",
        choices=ALGORITHMS,
        metavar="ALGORITHM",
        help=f"add BenchMARL's algorithms: some of {', '.join(ALGORITHMS)}, all by default; on {', '.join(TASKS)}",
    )
    parser.add_argument(
        "--seconds-of", default="isac", metavar="CONTENDER", help="whose seconds BenchMARL gets (default: isac)"
    )
    parser.add_argument("--venv", type=Path, default=default_folder(), help="BenchMARL's; default: %(default)s")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.tasks if name not in SCENARIOS]:
        parser.error(f"--tasks must be among {', '.join(SCENARIOS)}; got {', '.join(unknown)}")
    if arguments.half:
        arguments.tasks = [name for name in arguments.tasks if SCENARIOS[name].half == arguments.half]
    if arguments.add and (arguments.json is None or not arguments.json.exists()):
        parser.error("--add needs an existing file in --json")
    try:
        arguments.contenders = read_contenders(arguments.contender or list(CONTENDERS))
    except ValueError as error:
        parser.error(str(error))
    return arguments


def read_contenders(texts: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of contenders, from ``NAME=KEY=VALUE KEY=VALUE`` or the name of a default one.

    Raises:
        ValueError: for a text that is neither.
    """
    found = {}
    for text in texts:
        name, given, words = text.partition("=")
        overrides = words.split() if given else list(CONTENDERS.get(name, ()))
        wrong = not overrides or any("=" not in word for word in overrides)
        if wrong or not name.replace("_", "").replace("-", "").isalnum() or name in found:
            raise ValueError(
                f'--contender must be NAME="KEY=VALUE ..." with a name of its own, or one of {", ".join(CONTENDERS)}; '
                f"got {text!r}"
            )
        found[name] = overrides
    return found


if __name__ == "__main__":
    main()
