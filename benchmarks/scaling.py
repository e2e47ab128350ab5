"""Frames and updates per second of several ranks: python -m benchmarks.scaling [--json FILE].

Every case of ``CASES`` is a whole run of ``masac train`` (VMAS ``navigation``, its preset, not compiled) in processes
of its own; the cases run in turn. A rate is that of a run's median iteration, without the first third of the run, and
a figure is the median over rounds. ``same work``: the environments and the batch of one rank are divided among the
ranks. ``more work``: every rank has as many environments and as many rows of the batch as the one rank.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import print_table, write_json

ENVIRONMENTS, BATCH, STEPS = 128, 128, 4
SETTINGS = (
    *("task=vmas/navigation", "training.compile=false", "training.warmup_frames=2048"),
    *("training.checkpoint_every=null", "evaluation.every_frames=0", "evaluation.episodes=2"),
    *("logging.loggers=[]", "logging.progress=off"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to run the same config.

    Args:
        name: shown in the table.
        ranks: processes that torchrun starts; with 1, torchrun is not used.
        threads: PyTorch's threads per process.
        factor: environments and batch size as multiples of those of one rank.
    """

    name: str
    ranks: int = 1
    threads: int = 1
    factor: int = 1


CASES = (
    Case(name="1 rank, 1 thread"),
    Case(name="1 rank, 2 threads", threads=2),
    Case(name="2 ranks, same work", ranks=2),
    Case(name="2 ranks, more work", ranks=2, factor=2),
)
"""The measured cases. Speedup and efficiency compare them with the first."""


def main() -> None:
    """Measure the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of every case")
    parser.add_argument("--frames", type=int, default=20_480, help="frames of a run")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    measured = measure(CASES, rounds=arguments.rounds, frames=arguments.frames)
    print_measured(measured)
    write_json(arguments.json, {"cores": os.cpu_count(), "cases": measured}, device="cpu")


def measure(cases: Sequence[Case], *, rounds: int, frames: int) -> list[dict[str, Any]]:
    """Frames and updates per second of every case: the median over rounds, and the range of the frames."""
    found: dict[str, list[tuple[float, float]]] = {case.name: [] for case in cases}
    for round_index in range(rounds):
        for case in cases:
            found[case.name].append(run(case, frames))
        print(f"  {round_index + 1} of {rounds} rounds", flush=True)
    rates = {name: [statistics.median(values) for values in zip(*runs, strict=True)] for name, runs in found.items()}
    first = rates[cases[0].name][0]
    return [
        {
            "case": case.name,
            "ranks": case.ranks,
            "threads_per_rank": case.threads,
            "factor": case.factor,
            "frames_per_second": rates[case.name][0],
            "frames_per_second_range": [min(v[0] for v in found[case.name]), max(v[0] for v in found[case.name])],
            "updates_per_second": rates[case.name][1],
            "speedup": rates[case.name][0] / first,
            "efficiency": rates[case.name][0] / first / (case.ranks * case.threads),
        }
        for case in cases
    ]


def run(case: Case, frames: int) -> tuple[float, float]:
    """Frames and updates per second of one run, over all ranks."""
    several = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={case.ranks}"] if case.ranks > 1 else []
    )
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *(*SETTINGS, f"task.num_envs={ENVIRONMENTS * case.factor}", f"training.batch_size={BATCH * case.factor}"),
            *(f"training.total_frames={frames * case.factor}", f"training.updates_per_frame={1 / 32 / case.factor}"),
            f"run_dir={folder}/run",
        ]
        done = subprocess.run(
            [sys.executable, *several, "-m", "masac", "train", *words],
            env={**os.environ, "OMP_NUM_THREADS": str(case.threads)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{case.name} failed:\n{done.stdout}\n{done.stderr}")
        with Path(folder, "run", "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["updates_per_second"]]
    rows = rows[len(rows) // 3 : -1]  # the first ones trace, the last one evaluates
    updates = ENVIRONMENTS * STEPS / 32
    frames_per_second = statistics.median(float(row["frames_per_second"]) for row in rows)
    return frames_per_second, frames_per_second * updates / (ENVIRONMENTS * case.factor * STEPS)


def print_measured(measured: Sequence[dict[str, Any]]) -> None:
    """Print the cases as a table."""
    print_table(
        "Measured",
        ("case", "frames/s", "range", "updates/s", "speedup over the first", "efficiency per core"),
        [
            (
                case["case"],
                f"{case['frames_per_second']:,.0f}",
                " to ".join(f"{value:,.0f}" for value in case["frames_per_second_range"]),
                f"{case['updates_per_second']:.0f}",
                f"{case['speedup']:.2f}",
                f"{case['efficiency']:.0%}",
            )
            for case in measured
        ],
    )


if __name__ == "__main__":
    main()
