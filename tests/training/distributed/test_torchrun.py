"""``masac train`` on two ranks: whole runs."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from masac.training.checkpointing.checkpoints import newest_of
from tests.processes import Command

ROOT = Path(__file__).parents[3]
SETTINGS = (
    *("task=vmas/navigation", "task.num_envs=16", "task.horizon=20", "task.kwargs.n_agents=2", "model.hidden=[16]"),
    *("training.warmup_frames=64", "training.batch_size=32", "training.buffer_size=512", "training.compile=false"),
    *("training.sync_check_every=1", "training.checkpoint_every=256", "training.normalize_observations=true"),
    *("evaluation.every_frames=256", "evaluation.episodes=2", "logging.loggers=[]", "logging.progress=plain"),
    "training.updates_per_frame=0.03125",
)


def start(*arguments, ranks=2):
    """``masac train`` in so many forked processes, with the environment variables of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "COLUMNS": "200"}
    return [
        Command("train", *map(str, arguments), cwd=ROOT, env={**shared, "RANK": str(rank)}) for rank in range(ranks)
    ]


def finish(processes, *, code=0, timeout=300):
    """What all ranks printed."""
    printed = [text for process in processes for text in process.communicate(timeout=timeout)]
    assert {process.returncode for process in processes} == {code}, printed
    return "".join(printed)


def rows(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for_a_checkpoint(process, run_dir):
    deadline = time.monotonic() + 300  # a bound against a hang
    while newest_of(run_dir) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if newest_of(run_dir) is None:
        process.terminate()
        pytest.fail(process.communicate(timeout=60)[0])


@pytest.mark.slow
def test_a_run_resumes_with_other_numbers_of_ranks(tmp_path):
    run_dir = tmp_path / "run"
    words = f"run_dir={run_dir}", "training.total_frames=384", "training.priority_exponent=0.6"
    output = finish(start(*SETTINGS, *words))
    assert output.count("2 ranks: each has 1/2 of the environments") == 1
    assert output.count("next: masac evaluate") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    frames = [int(row["frames"]) for row in rows(run_dir)]
    assert frames == list(range(64, 385, 64))
    assert [int(row["updates"]) for row in rows(run_dir)] == [(count - 64) // 32 for count in frames]
    assert [int(row["buffer/rows"]) for row in rows(run_dir)] == frames
    newest = newest_of(run_dir)
    assert {segment.shard for segment in newest.segments or ()} == {0, 1}
    state = newest.tensors()
    assert not state["random/torch"].equal(state["random1/torch"])
    assert state["normalizers/agents.count"] == 384 * 2
    assert [len(state[f"priorities/{rank}"]) for rank in (0, 1)] == [192, 192]

    output = finish(start("--resume", run_dir, "training.total_frames=640", ranks=1))
    refilled = "the replay buffer is empty. The saved policy collects 64 frames before the next update"
    assert f"the checkpoint was written by 2 ranks, this run has 1: {refilled}" in output
    assert [int(row["buffer/rows"]) for row in rows(run_dir)][5:] == [384, 64, 128, 192, 256]
    output = finish(start("--resume", run_dir, "training.total_frames=768"))
    assert f"the checkpoint was written by 1 rank, this run has 2: {refilled}" in output
    assert [int(row["frames"]) for row in rows(run_dir)] == list(range(64, 769, 64))
    assert newest_of(run_dir).updates == (768 - 3 * 64) // 32  # the warm-up, and twice a new buffer


@pytest.mark.slow
def test_torchrun_ends_all_ranks_with_a_killed_one_and_the_run_resumes(tmp_path):
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "masac"),
            *("train", *SETTINGS, f"run_dir={run_dir}", "training.total_frames=1000000"),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for_a_checkpoint(process, run_dir)
    (rank_1,) = [one for one in psutil.Process(process.pid).children() if one.environ().get("RANK") == "1"]
    rank_1.send_signal(signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    assert f"this one lost the connection to another one. Resume with masac train --resume {run_dir}" in output
    frames = newest_of(run_dir).frames
    assert "resuming from" in finish(start("--resume", run_dir, f"training.total_frames={frames + 128}"))


@pytest.mark.slow
def test_a_signal_ends_all_ranks_after_one_iteration(tmp_path):
    run_dir = tmp_path / "run"
    processes = start(*SETTINGS, f"run_dir={run_dir}", "training.total_frames=1000000")
    wait_for_a_checkpoint(processes[0], run_dir)
    processes[1].send_signal(signal.SIGTERM)
    assert "interrupted" in finish(processes)
    assert newest_of(run_dir).frames == int(rows(run_dir)[-1]["frames"])


@pytest.mark.slow
def test_a_failing_rank_reports_and_leaves_a_checkpoint(tmp_path):
    run_dir = tmp_path / "run"
    settings = [word for word in SETTINGS if not word.startswith(("task.horizon", "task.kwargs", "task="))]
    task = ("task=vmas/custom", "task.scenario=tests.envs.failing_scenario:Scenario")
    processes = start(*task, *settings, "task.horizon=20", f"run_dir={run_dir}", "training.checkpoint_every=null")
    output = finish(processes, code=1)
    assert "the scenario of rank 1 fails" in output
    assert "another one failed" in output
    assert newest_of(run_dir).frames > 0


@pytest.mark.slow
def test_several_ranks_do_not_sweep(tmp_path):
    output = finish(start("-m", "seed=0,1", f"run_dir={tmp_path}"), code=2)
    assert output.count("a sweep (-m) must be started without torchrun") == 1
