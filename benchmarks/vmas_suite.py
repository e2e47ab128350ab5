"""masac on every VMAS scenario that a group can learn: python -m benchmarks.vmas_suite [--json FILE] [--plot FILE].

Runs ``masac train`` for every scenario of ``vmas_scenarios.py``, contender and seed, each run with one thread. A
contender is a name and a list of overrides, the same for all scenarios, on top of masac's defaults for
``task=vmas/custom``; ``task=preset`` among them stands for the scenario's preset, and skips scenarios without one.
Scenario, keywords, horizon and frames are the same for all contenders.

The run folders stay in ``--folder``: the same command continues an interrupted table, and resumes a run that was cut.
With ``--add`` the runs of other contenders in ``--json`` are kept, and compared with.

A return is the mean per agent that learns and episode. A policy is evaluated without noise, always on the same 100
episodes; its last evaluation counts. "random" acts uniformly at random in these episodes, and "untrained" is the policy
before its first update. Seconds begin with the first update, and leave out evaluations.

A score is a return on a scale on which random actions have 0 and the best run of all contenders has 1 (0 for all if no
run ended above random actions). Aggregates are over the runs of all scenarios: the interquartile mean of scores, and
the probability that a run of one contender ends higher than one of the other, with stratified bootstrap intervals of
95% (Agarwal et al. 2021, arXiv 2108.13264). They are given for the scenarios on which settings are chosen, for those
held out, and for all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.masac_runs import RANDOM, UNTRAINED, read_evaluations, read_rows, seconds_of, start_or_resume
from benchmarks.report import print_table, runs_except, write_json
from benchmarks.vmas_report import (
    IMPROVEMENT_COLUMNS,
    SCORE_COLUMNS,
    draw_curves,
    final,
    improvement_rows,
    return_columns,
    return_rows,
    score_rows,
)
from benchmarks.vmas_scenarios import CHOOSING, HELD_OUT, SCENARIOS
from masac.cli.presets import presets
from masac.files.atomic_write import write_atomically

PRESET = "task=preset"

CONTENDERS: dict[str, Sequence[str]] = {
    "isac": ["algorithm=isac"],
    "masac": ["algorithm=masac"],
    "preset": [PRESET],
}
"""The contenders by default: masac's defaults with either critic, and the presets."""

KEYS = ("task", "system", "seed")


@dataclass(frozen=True)
class Job:
    """A run.

    Args:
        task: the scenario.
        system: the contender.
        seed: of everything random.
        overrides: of ``masac train``, all but the run's folder.
    """

    task: str
    system: str
    seed: int
    overrides: Sequence[str]


def main() -> None:
    """Run what is missing of all scenarios, contenders and seeds, and print the tables."""
    arguments = _arguments()
    jobs = list_jobs(arguments.tasks, arguments.contenders, arguments.seeds, scale=arguments.frames)
    again = [(job.task, job.system, job.seed) for job in jobs]
    runs = runs_except(json.loads(arguments.json.read_text())["runs"], KEYS, again) if arguments.add else []
    failed = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for job, found in zip(jobs, pool.map(lambda job: attempt(job, arguments.folder), jobs), strict=True):
            if isinstance(found, Exception):
                failed.append(f"{job.task}, {job.system}, seed {job.seed}: {found}")
                print(failed[-1], flush=True)
                continue
            runs.append(found)
            about = f"{found['untrained']:.3f} untrained, {found['random']:.3f} random, {found['seconds']:.0f} s"
            print(f"{job.task}, {job.system}, seed {job.seed}: {final(found):.3f} ({about})", flush=True)
            write_json(arguments.json, {"runs": runs}, device="cpu")  # so that a later failure loses nothing
    if runs:
        print_table("mean return per agent on VMAS", return_columns(runs), return_rows(runs))
        print_table("scores over scenarios", SCORE_COLUMNS, score_rows(runs))
        print_table("who ends higher", IMPROVEMENT_COLUMNS, improvement_rows(runs))
        if arguments.plot:
            draw_curves(runs, arguments.plot)
    if failed:
        sys.exit(f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again")


def list_jobs(
    tasks: Sequence[str], contenders: Mapping[str, Sequence[str]], seeds: Sequence[int], *, scale: float = 1.0
) -> list[Job]:
    """All runs, seed by seed, so that an interrupted table has all scenarios.

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
                jobs.append(Job(task, system, seed, overrides))
    return jobs


def attempt(job: Job, folder: Path) -> dict[str, Any] | Exception:
    """The result of a run, or why there is none."""
    try:
        return result(job, folder)
    except RuntimeError as error:
        return error


def result(job: Job, folder: Path) -> dict[str, Any]:
    """The result of a run, which is started or resumed if it is not finished.

    Raises:
        RuntimeError: if it fails, or if the folder has a run of this name with other overrides.
    """
    run_dir = folder / f"{job.task}-{job.system}-seed{job.seed}"
    record = folder / f"{run_dir.name}.json"
    known = json.loads(record.read_text()) if record.exists() else {"overrides": list(job.overrides)}
    if known["overrides"] != list(job.overrides):
        differ = set(known["overrides"]) ^ set(job.overrides)
        raise RuntimeError(
            f"{run_dir} must have the overrides of its contender; {' '.join(sorted(differ))} differ. Give the "
            "contender another name, or use another --folder"
        )
    if "seconds" in known:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    _write(record, known)  # for a run that is cut
    start_or_resume(run_dir, job.overrides)
    known = {"task": job.task, "system": job.system, "seed": job.seed, **known, **_read(run_dir)}
    _write(record, known)
    return known


def _write(record: Path, known: Mapping[str, Any]) -> None:
    write_atomically(record, lambda file: file.write(json.dumps(known).encode()))


def _read(run_dir: Path) -> dict[str, Any]:
    summary, rows = json.loads((run_dir / "summary.json").read_text()), read_rows(run_dir)
    return {
        "frames": summary["frames"],
        "updates": summary["updates"],
        "seconds": seconds_of(rows)[-1],
        "random": float(rows[0][RANDOM]),
        "untrained": float(rows[0][UNTRAINED]),
        "evaluations": read_evaluations(rows),
    }


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
