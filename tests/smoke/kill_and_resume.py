"""Kill a run again and again, go on every time, and compare with one that was left alone.

``python -m tests.smoke.kill_and_resume [--times 20] [--seed 0]``
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

from masac.training.checkpointing.checkpoints import newest_of
from masac.training.policies.saved_policy import load_policy
from tests.processes import Command

ROOT = Path(__file__).parents[2]
SETTINGS = (
    *("task.num_envs=8", "task.horizon=20", "task.kwargs.n_agents=2", "model.hidden=[16]", "logging.progress=off"),
    *("training.warmup_frames=64", "training.batch_size=32", "training.buffer_size=1000", "training.final_lr_factor=1"),
    *("training.checkpoint_every=64", "checkpoint.reset_environments=true", "evaluation.every_frames=960"),
    *("evaluation.episodes=2", "logging.loggers=[]"),
    "training.compile=false",  # auto compiles by the length of a run, and the two compared are not equally long
)
ENDLESS = 10_000_000


def main(times: int, seed: int, folder: Path) -> str:
    """Kill a run ``times`` times; returns what to say. Raises AssertionError where something is lost or different."""
    rng, run_dir = random.Random(seed), folder / "killed"
    early = 0
    for _ in range(times):
        going_on = (run_dir / "config.yaml").exists()
        before = newest_of(run_dir)
        process = start(["--resume", str(run_dir)] if going_on else fresh(run_dir, ENDLESS))
        deadline = time.monotonic() + 60
        # Half of the kills at any moment of the start, the others once it has written something new.
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 2))
        else:
            while newest_of(run_dir) == before and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 1))
        assert process.poll() is None, f"the run ended by itself:\n{process.communicate()}"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        early += newest_of(run_dir) == before
    last = newest_of(run_dir)
    total = (last.frames if last else 0) + 320
    words = ["--resume", str(run_dir)] if (run_dir / "config.yaml").exists() else fresh(run_dir, ENDLESS)
    for arguments in ([*words, f"training.total_frames={total}"], fresh(folder / "alone", total)):
        process = start(arguments)
        output = process.communicate(timeout=600)
        assert process.returncode == 0, output
    compare(run_dir, folder / "alone")
    return (
        f"killed {times} times ({early} before there was a new checkpoint), {total} frames in all: "
        "the same metrics and learner state, to the bit, as a run that was left alone"
    )


def fresh(run_dir: Path, total_frames: int) -> list[str]:
    """The arguments of a new run."""
    return [*SETTINGS, f"run_dir={run_dir}", f"training.total_frames={total_frames}"]


def start(arguments: list[str]) -> Command:
    """``masac train`` in a process group of its own."""
    return Command("train", *arguments, cwd=ROOT, env={"OMP_NUM_THREADS": "1"}, new_session=True)


def compare(killed: Path, alone: Path) -> None:
    """Raise AssertionError unless two runs have the same rows of metrics, learner state and policy."""
    tables = [rows(run_dir) for run_dir in (killed, alone)]
    frames = [int(row["frames"]) for row in tables[0]]
    assert frames == list(range(32, frames[-1] + 1, 32)), "rows are missing or there twice"
    assert tables[0] == tables[1], "the metrics differ"
    last = [newest_of(run_dir) for run_dir in (killed, alone)]
    states = [checkpoint.tensors() for checkpoint in last if checkpoint is not None]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), f"{name} differs"
    policies = [dict(load_policy(run_dir).named_parameters()) for run_dir in (killed, alone)]
    assert all(torch.equal(value, policies[1][name]) for name, value in policies[0].items())


def rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, without what depends on the clock."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if not key.endswith(("_s", "_per_second"))} for row in table]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(main(options.times, options.seed, Path(temporary)))
