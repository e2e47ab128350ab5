"""Frames and updates a second of several ranks, and a model of many: python -m benchmarks.scaling [--json FILE].

Measured: whole runs of ``masac train`` (VMAS ``navigation``, its preset, not compiled), each in processes of its own,
in turn: the cases of ``CASES``. A figure is the median over rounds of a run's median iteration, the first third left
out. ``same work``: environments, batch and updates are those of one rank, divided among the ranks. ``more work``: every
rank has as many environments and as large a part of the batch as the one rank has.

Then a model: what an update, collecting and a sum over two ranks take in one thread here, each at several sizes, and
straight lines through them. It is printed beside what was measured with 1 and 2 ranks, and for 8 to 64, which nobody
measured: as if every rank had a core like these, and every link were like the one between two processes here, or as
--latency-us and --gbit-per-s say of yours. A sum over R ranks is taken to go round in a ring: 2 (R - 1) steps, in which
2 (R - 1) / R of the bytes leave every rank.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.benchmarl_recipes import compose_config
from benchmarks.report import print_table, write_json
from masac.training.config import EvaluationConfig, LoggingConfig
from masac.training.distributed.ranks import Rank, current_rank
from masac.training.learner import Learner
from masac.training.trainer import Trainer

ENVIRONMENTS, BATCH, STEPS = 128, 128, 4
SETTINGS = (
    *(
        "task=vmas/navigation",
        "training.compile=false",
        "training.warmup_frames=2048",
        "training.checkpoint_every=null",
    ),
    *("evaluation.every_frames=0", "evaluation.episodes=2", "logging.loggers=[]", "logging.progress=off"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to run.

    Args:
        name: of it.
        ranks: processes that torchrun starts, 1 for none.
        threads: of PyTorch, a process.
        overrides: of ``masac train``.
        factor: environments and batch, in those of one rank.
        over: the name of the case that efficiency is told against.
    """

    name: str
    ranks: int = 1
    threads: int = 1
    overrides: tuple[str, ...] = ()
    factor: int = 1
    over: str = "1 rank, 1 thread"


CASES = (
    Case(name="1 rank, 1 thread"),
    Case(name="1 rank, 2 threads", threads=2),
    Case(name="2 ranks, same work", ranks=2),
    Case(name="2 ranks, more work", ranks=2, factor=2),
)
"""What is measured. Other ways to collect are further cases, with overrides of their own."""


def main() -> None:
    """Measure the cases, calibrate the model, print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of every case")
    parser.add_argument("--frames", type=int, default=20_480, help="of a run")
    parser.add_argument("--latency-us", type=float, help="of your network, one way, for the model")
    parser.add_argument("--gbit-per-s", type=float, help="of your network, for the model")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    measured = measure(CASES, rounds=arguments.rounds, frames=arguments.frames)
    print_measured(measured)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as masac train does
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    model = calibrate()
    link = "measured between two processes here"
    if arguments.latency_us is not None:
        model = replace(model, sum_latency_ms=arguments.latency_us / 1e3)
        link = "as given"
    if arguments.gbit_per_s is not None:
        model = replace(model, sum_ms_a_byte=8 / arguments.gbit_per_s / 1e6)
        link = "as given"
    predictions = print_model(model, link)
    results = {
        "cores": os.cpu_count(),
        "cases": measured,
        "model": {**vars(model), "link": link},
        "predictions": predictions,
    }
    write_json(arguments.json, results, device="cpu")


# -- measured ---------------------------------------------------------------------------------------------------------


def measure(cases: Sequence[Case], *, rounds: int, frames: int) -> list[dict[str, Any]]:
    """Frames and updates a second of every case, the median over rounds, the least and the most."""
    found: dict[str, list[tuple[float, float]]] = {case.name: [] for case in cases}
    for turn in range(rounds):
        for case in cases:
            found[case.name].append(run(case, frames))
        print(f"  {turn + 1} of {rounds} rounds", flush=True)
    rates = {name: [statistics.median(values) for values in zip(*runs, strict=True)] for name, runs in found.items()}
    return [
        {
            "case": case.name,
            "ranks": case.ranks,
            "threads_a_rank": case.threads,
            "factor": case.factor,
            "frames_per_second": rates[case.name][0],
            "frames_per_second_range": [min(v[0] for v in found[case.name]), max(v[0] for v in found[case.name])],
            "updates_per_second": rates[case.name][1],
            "speedup": rates[case.name][0] / rates[case.over][0],
            "efficiency": rates[case.name][0] / rates[case.over][0] / max(case.ranks * case.threads, 1),
        }
        for case in cases
    ]


def run(case: Case, frames: int) -> tuple[float, float]:
    """Frames and updates a second of one run, of all ranks together."""
    several = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={case.ranks}"] if case.ranks > 1 else []
    )
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *(*SETTINGS, f"task.num_envs={ENVIRONMENTS * case.factor}", f"training.batch_size={BATCH * case.factor}"),
            *(f"training.total_frames={frames * case.factor}", f"training.updates_per_frame={1 / 32 / case.factor}"),
            *(f"run_dir={folder}/run", *case.overrides),
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
    rows = rows[len(rows) // 3 : -1]  # at first it traces, at the end it evaluates
    updates = ENVIRONMENTS * STEPS / 32
    frames_per_second = statistics.median(float(row["frames_per_second"]) for row in rows)
    return frames_per_second, frames_per_second * updates / (ENVIRONMENTS * case.factor * STEPS)


def print_measured(measured: Sequence[dict[str, Any]]) -> None:
    """A table of what was measured."""
    print_table(
        "Measured",
        ("case", "frames/s", "range", "updates/s", "frames/s over one thread", "efficiency a core"),
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


# -- the model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Model:
    """Straight lines through what was measured, in milliseconds, of one thread.

    Args:
        update_ms: of an update without rows.
        update_ms_a_row: more, for every row.
        collect_ms: of an iteration's steps without environments.
        collect_ms_an_env: more, for every environment.
        bytes_an_update: that are summed up over ranks.
        sum_latency_ms: of one step of a sum.
        sum_ms_a_byte: more, for every byte that leaves a rank.
        talk_ms: what ranks say in an iteration besides, two of them.
    """

    update_ms: float
    update_ms_a_row: float
    collect_ms: float
    collect_ms_an_env: float
    bytes_an_update: int
    sum_latency_ms: float
    sum_ms_a_byte: float
    talk_ms: float

    def sum_ms(self, ranks: int) -> float:
        """Of one sum, in a ring."""
        out = self.bytes_an_update * 2 * (ranks - 1) / ranks
        return 2 * (ranks - 1) * self.sum_latency_ms + out * self.sum_ms_a_byte

    def predict(self, ranks: int, factor: int) -> dict[str, float]:
        """Frames and updates a second.

        Args:
            ranks: how many.
            factor: environments and batch, in those of one rank.
        """
        updates = ENVIRONMENTS * STEPS / 32
        collect = self.collect_ms + self.collect_ms_an_env * ENVIRONMENTS * factor / ranks
        update = self.update_ms + self.update_ms_a_row * BATCH * factor / ranks
        # What is said goes round as sums do: its latency grows with the ranks.
        talk = self.talk_ms * (ranks - 1)
        total = collect + updates * (update + self.sum_ms(ranks)) + talk
        return {
            "ranks": ranks,
            "factor": factor,
            "frames_per_second": 1e3 * ENVIRONMENTS * factor * STEPS / total,
            "updates_per_second": 1e3 * updates / total,
            "sums": updates * self.sum_ms(ranks) / total,
        }


def calibrate() -> Model:
    """Measure what the model is made of."""
    rows, environments, sizes = (32, 64, 128, 256), (16, 64, 128, 256), (4_096, 65_536, 1_048_576, 4_194_304)
    updating, size = update_times(rows)
    summing, talk = sum_times(sizes)
    update, collect, add = (
        np.polyfit(at, times, 1)
        for at, times in ((rows, updating), (environments, collect_times(environments)), (sizes, summing))
    )
    # Two ranks: a sum has two steps, and as many bytes leave each as there are.
    return Model(
        update_ms=max(update[1], 0.0),
        update_ms_a_row=update[0],
        collect_ms=max(collect[1], 0.0),
        collect_ms_an_env=collect[0],
        bytes_an_update=size,
        sum_latency_ms=max(statistics.median(summing[:2]) / 2, add[1] / 2),
        sum_ms_a_byte=add[0],
        talk_ms=talk,
    )


def print_model(model: Model, link: str) -> list[dict[str, float]]:
    """A table of what the model says; returns its numbers."""
    Console(width=140).print(
        f"one thread here: an update {model.update_ms:.2f} ms + {1e3 * model.update_ms_a_row:.1f} µs a row; collecting "
        f"{STEPS} steps {model.collect_ms:.1f} ms + {1e3 * model.collect_ms_an_env:.0f} µs an environment. A sum: "
        f"{model.bytes_an_update:,} bytes an update, {1e3 * model.sum_latency_ms:.0f} µs a step, "
        f"{8e-6 / model.sum_ms_a_byte:.1f} Gbit/s ({link}); all else that two ranks say: {model.talk_ms:.2f} ms an "
        "iteration.",
        highlight=False,
    )
    predictions = [model.predict(ranks, factor) for factor_of in (_one, _ranks) for ranks, factor in _counts(factor_of)]
    one = predictions[0]["frames_per_second"]
    print_table(
        "Model (1 and 2 ranks: compare with what was measured; 8 and more: extrapolated)",
        ("ranks", "work", "frames/s", "updates/s", "frames/s over one rank", "efficiency", "time in sums"),
        [
            (
                int(row["ranks"]),
                "same" if row["factor"] == 1 else f"{int(row['factor'])} times",
                f"{row['frames_per_second']:,.0f}",
                f"{row['updates_per_second']:.0f}",
                f"{row['frames_per_second'] / one:.2f}",
                f"{row['frames_per_second'] / one / row['ranks']:.0%}",
                f"{row['sums']:.0%}",
            )
            for row in predictions
        ],
    )
    return predictions


def _counts(factor_of: Callable[[int], int]) -> list[tuple[int, int]]:
    return [(ranks, factor_of(ranks)) for ranks in (1, 2, 8, 16, 32, 64) if factor_of(2) == 1 or ranks > 1]


def _one(ranks: int) -> int:
    return 1


def _ranks(ranks: int) -> int:
    return ranks


def update_times(rows: Sequence[int]) -> tuple[list[float], int]:
    """Milliseconds of an update on so many rows, as one of two ranks takes it but for the sum; bytes of the sum."""
    times, sent = [], 0
    for count in rows:
        with tempfile.TemporaryDirectory() as folder, _trainer(folder, ENVIRONMENTS, count) as trainer:
            for _ in range(2):
                trainer.replay.extend(trainer.collector.collect())
            loss, rank = trainer.learner.loss, Rank(index=0, world_size=2)  # not connected: it sums up nothing
            learner = Learner(loss, trainer.config.training, tau=0.005, mode="graph", rank=rank)
            batch = trainer.replay.sample()
            times.append(_milliseconds(lambda learner=learner, batch=batch: learner.update(batch.copy())))
            share = learner.step._evaluate_packed(batch)["packed"]
            sent = share.numel() * share.element_size()
    return times, sent


def collect_times(environments: Sequence[int]) -> list[float]:
    """Milliseconds of an iteration's steps of so many environments."""
    times = []
    for count in environments:
        with tempfile.TemporaryDirectory() as folder, _trainer(folder, count, BATCH) as trainer:
            trainer.policy.random_groups = frozenset()
            times.append(_milliseconds(trainer.collector.collect))
    return times


def sum_times(sizes: Sequence[int]) -> tuple[list[float], float]:
    """Milliseconds of a sum of so many bytes over two processes, and of what they say in an iteration besides."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_sum, (port, tuple(sizes), folder), nprocs=2)
        found = torch.load(Path(folder, "times.pt"), weights_only=True)
    return found["sums"], found["talk"]


def _sum(index: int, port: int, sizes: Sequence[int], folder: str) -> None:
    os.environ |= {"RANK": str(index), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    rank = current_rank()

    def talk() -> None:
        rank.barrier()
        rank.all_gather((False, False, 100, []))

    sums = []
    for size in sizes:
        values = torch.zeros(size // 4)
        sums.append(_milliseconds(lambda values=values: rank.all_reduce(values), count=200))
    found = {"sums": sums, "talk": _milliseconds(talk, count=200)}
    if rank.is_main:
        torch.save(found, Path(folder, "times.pt"))
    rank.barrier()


def _trainer(folder: str, environments: int, rows: int) -> Trainer:
    preset = compose_config(["task=vmas/navigation"])
    config = replace(
        preset,
        task=replace(preset.task, num_envs=environments),
        training=replace(preset.training, batch_size=rows, compile="false"),
        evaluation=EvaluationConfig(episodes=1),
        logging=LoggingConfig(loggers=(), progress="off"),
    )
    return Trainer(config, Path(folder, "run"), console=Console(quiet=True))


def _milliseconds(call: Callable[[], object], *, count: int = 60) -> float:
    """The median of so many calls, the first ones left out."""
    times = []
    for _ in range(count + 5):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[5:])


if __name__ == "__main__":
    main()
