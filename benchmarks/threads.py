"""Speed beside other programs, by PyTorch's threads: python -m benchmarks.threads [--rounds 2] [--json FILE].

Times the same work alone and beside one process that keeps a core busy: the first frames of the default run and of the
PettingZoo presets, and an update of large networks (two hidden layers of 256, 1024 rows, 3 agents, independent
critics). Contenders differ in the number of PyTorch's threads and in how these wait for each other:

- ``auto``: ``training.threads=auto``, as the commands run;
- ``spinning``: one thread per core; waiting threads spin, which is PyTorch's default;
- ``one``: one thread;
- ``passive``: one thread per core; waiting threads sleep.

Each contender has its own process, because PyTorch reads how threads wait when it is imported. In every round they take
turns, alone and beside the busy process. A figure is the seconds of collecting and updating, without evaluations: the
median over rounds, and the range.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
CONTENDERS: dict[str, tuple[str, dict[str, str]]] = {
    "auto": ("auto", PASSIVE),
    "spinning": ("all", {}),
    "one": ("1", {}),
    "passive": ("all", PASSIVE),
}
"""``training.threads`` and environment variables of each contender."""

WITHOUT_EXTRAS = [
    *("evaluation.every_frames=0", "evaluation.episodes=1", "logging.progress=off", "logging.loggers=[]"),
    *("training.checkpoint_every=null", "checkpoint.buffer=false", "training.compile=false"),
]
SHORT = ["training.warmup_frames=128", "task.horizon=50"]
RUNS: dict[str, list[str]] = {
    "default run": ["training.total_frames=6144"],
    "simple_spread": ["task=pettingzoo/simple_spread", "training.total_frames=448", *SHORT],
    "simple_speaker_listener": ["task=pettingzoo/simple_speaker_listener", "training.total_frames=448", *SHORT],
    "simple_tag": ["task=pettingzoo/simple_tag", "training.total_frames=256", *SHORT],
    "knights_archers_zombies": ["task=pettingzoo/knights_archers_zombies", "training.total_frames=256", *SHORT],
    "multiwalker": ["task=pettingzoo/multiwalker", "training.total_frames=256", *SHORT],
}
"""The runs, by their overrides."""

UPDATE = "update of 2x256, batch 1024"
ALL = ("default run", UPDATE)
"""The cases of all contenders; the other cases compare only ``auto`` and ``spinning``."""

SECONDS_OF_UPDATES = 1.5
CONDITIONS = ("alone", "beside")


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cases", nargs="+", default=[*RUNS, UPDATE], choices=[*RUNS, UPDATE])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help="run as a contender (internal)")
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    from benchmarks.report import print_table, spread, write_json

    cases = measure(arguments.cases, arguments.contenders, arguments.rounds)
    rows = [
        (case["case"], name, found["threads"], *(spread(found[condition], 2) for condition in CONDITIONS))
        for case in cases
        for name, found in case["contenders"].items()
    ]
    print_table("seconds (the update: ms)", ("case", "contender", "threads", "alone", "beside a busy process"), rows)
    write_json(arguments.json, {"cores": os.cpu_count(), "cases": cases}, device="cpu")


def measure(cases: Sequence[str], contenders: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Time all contenders on all cases."""
    from benchmarks.report import summary

    servers = {name: _start(CONTENDERS[name][1]) for name in contenders}
    times: dict[tuple[str, str, str], list[float]] = {}
    threads: dict[tuple[str, str], int] = {}
    try:
        for round_index in range(rounds):
            for case in cases:
                names = [name for name in contenders if case in ALL or name in ("auto", "spinning")]
                for condition in CONDITIONS:
                    with beside_a_busy_process(condition == "beside"):
                        for name in names:
                            answer = _ask(servers[name], case, CONTENDERS[name][0])
                            times.setdefault((case, name, condition), []).append(answer["seconds"])
                            threads[case, name] = answer["threads"]
                print(f"  round {round_index + 1} of {rounds}: {case}", flush=True)
    finally:
        for server in servers.values():
            server.kill()
            server.wait()
    return [
        {
            "case": case,
            "contenders": {
                name: {
                    "threads": threads[case, name],
                    **{condition: summary(times[case, name, condition]) for condition in CONDITIONS},
                }
                for name in CONTENDERS
                if (case, name) in threads
            },
        }
        for case in cases
    ]


@contextmanager
def beside_a_busy_process(there: bool) -> Iterator[None]:
    """Context in which, if ``there``, another process keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if there else None
    try:
        if process is not None:
            time.sleep(0.2)
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _start(environment: dict[str, str]) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_", "KMP_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.threads", "--serve"],
        env={**kept, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(server: subprocess.Popen[str], case: str, threads: str) -> dict[str, Any]:
    assert server.stdin is not None
    assert server.stdout is not None
    print(json.dumps({"case": case, "threads": threads}), file=server.stdin, flush=True)
    line = server.stdout.readline()
    if not line:
        raise RuntimeError(f"a contender ended with exit code {server.wait()} in {case}")
    return json.loads(line)


def serve() -> None:
    """Time the cases that arrive on standard input, one JSON line each, and print the results."""
    import logging
    import warnings

    import torch
    import torchrl  # noqa: F401  sets its log level when it is imported

    logging.getLogger("torchrl").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_flush_denormal(True)
    cores, answers = torch.get_num_threads(), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other output must not be taken for an answer
    for line in sys.stdin:
        asked = json.loads(line)
        threads = str(cores) if asked["threads"] == "all" else asked["threads"]
        found = time_updates(threads) if asked["case"] == UPDATE else time_run(RUNS[asked["case"]], threads)
        print(json.dumps(found), file=answers, flush=True)


def time_run(overrides: Sequence[str], threads: str) -> dict[str, Any]:
    """Seconds that a run spends on collecting, sampling and updating."""
    from rich.console import Console

    from masac.cli.composing import composed_experiment
    from masac.training.trainer import Trainer

    config = composed_experiment([*overrides, *WITHOUT_EXTRAS, f"training.threads={threads}"])
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        with Trainer(config, run_dir, console=Console(quiet=True)) as trainer:
            trainer.run()
        with (run_dir / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    seconds = sum(float(row[f"time/{stage}_s"]) for row in rows for stage in ("collect", "sample", "update"))
    return {"seconds": seconds, "threads": trainer.threads}


def time_updates(threads: str) -> dict[str, Any]:
    """Milliseconds per update of large networks."""
    import torch

    from benchmarks.interleaved_timing import masac_update, time_interleaved
    from benchmarks.update_step import CONTENDERS as OF_UPDATES
    from benchmarks.update_step import example_batch
    from masac.process.threads import choose_threads, set_threads, threads_there
    from masac.training.build import update_operations

    make_loss, _ = OF_UPDATES["own"]
    loss = make_loss(True, False, "cpu")
    chosen = choose_threads(threads, update_operations([loss], 1024))
    set_threads(chosen)
    try:
        update = masac_update(loss, example_batch(1024), "graph")
        times = time_interleaved({"update": update}, rounds=1, seconds=SECONDS_OF_UPDATES, device="cpu")
    finally:
        torch.set_num_threads(threads_there())
    return {"seconds": times["update"][0], "threads": chosen}


if __name__ == "__main__":
    main()
