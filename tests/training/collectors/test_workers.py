"""Workers in other processes and in Ray's actors: the same data, deaths, errors, resuming, nothing left behind."""

import csv
import json
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from masac.envs.config import TaskConfig
from masac.errors import ConfigError, RunFailedError
from masac.training.checkpointing.checkpoints import newest_of
from masac.training.checkpointing.random_state import seed_everything
from masac.training.collectors.local import LocalCollector
from masac.training.config import CheckpointConfig
from masac.training.trainer import Trainer
from tests.processes import Command, alive, gone, wait_until
from tests.training.collectors.common import (
    NAVIGATION,
    QUIET,
    SCRIPTED,
    TAGGED,
    WITH_RAY,
    collector_of,
    experiment,
    groups_and_policy,
    pid_of,
)

pytestmark = pytest.mark.usefixtures("forked_workers")  # as users start them: test_workers_end_with_the_run_...

ROOT = Path(__file__).parents[3]
RAYS_AGENTS = (["ray::DashboardAgent"], ["ray::RuntimeEnvAgent"])


def train(config, path, *, meanwhile=lambda trainer: None, resumes=False):
    """Run to the end; returns the trainer, closed, and the pids of its workers at the end."""
    with Trainer(config, path, console=QUIET, resumes=resumes) as trainer:
        thread = threading.Thread(target=meanwhile, args=(trainer,))
        thread.start()
        try:
            trainer.run()
        finally:
            thread.join()
        pids = [pid_of(handle) for handle in getattr(trainer.collector, "_handles", [])]
    return trainer, pids


def rows(path):
    with (path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if not key.endswith(("_s", "_per_second"))} for row in table]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "kind"),
    [(NAVIGATION, "processes"), (SCRIPTED, "processes"), pytest.param(SCRIPTED, "ray", marks=WITH_RAY)],
)
def test_one_worker_without_lag_collects_bit_equal_data(kind, task):
    config = experiment(task, kind, workers=1, max_lag=0)
    env, policy = groups_and_policy(config)
    before = {name: value.clone() for name, value in policy.state_dict().items()}

    def collect(collector):
        """Three batches at random, then of a policy that changes."""
        policy.load_state_dict(before)
        policy.random_groups = policy.group_names
        for turn in range(5):
            if turn == 2:
                policy.random_groups = frozenset()
            yield collector.collect()
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.mul_(1.1)
                for normalizer in policy.normalizers.values():
                    normalizer.merge(
                        *normalizer.moments(torch.linspace(0, turn, 4 * normalizer.mean.numel()).view(4, -1))
                    )
            collector.updated(1)

    seed_everything(config.seed)
    here = LocalCollector(env, policy, steps=4)
    here.reset(config.seed)
    expected = list(collect(here))
    there = collector_of(config, policy)
    drawn = random.getstate()
    try:
        for ours, theirs in zip(expected, collect(there), strict=True):
            assert ours.batch_size == theirs.batch_size == (4, 4)
            assert set(ours.keys(True, True)) == set(theirs.keys(True, True))
            for key in ours.keys(True, True):
                assert torch.equal(ours[key], theirs[key]), key
            for group in policy.groups:
                assert ours[group.name].batch_size == theirs[group.name].batch_size
    finally:
        there.close()
    assert random.getstate() == drawn  # Ray draws ports and names
    assert any(batch["next", "done"].any() for batch in expected)


@pytest.mark.slow
def test_one_worker_without_lag_counts_like_a_local_run(tmp_path):
    tables = []
    for name in ("local", "processes"):
        more = {} if name == "local" else {"max_lag": 0}
        _, pids = train(experiment(NAVIGATION, name, workers=1, **more), tmp_path / name)
        assert gone(pids)
        tables.append(rows(tmp_path / name))
    for one, other in zip(*tables, strict=True):
        for column in ("frames", "updates", "buffer/rows", "collect/policy_lag", "collect/policy_lag_updates"):
            assert one[column] == other[column], column
    assert {row["collect/policy_lag"] for row in tables[1]} == {"0"}
    assert {row["collect/policy_lag_updates"] for row in tables[1]} == {"0"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "max_lag"), [("processes", 1), pytest.param("ray", 0, marks=WITH_RAY)])
def test_a_killed_worker_is_replaced_without_lost_transitions(tmp_path, kind, max_lag):
    killed = []

    def kill(trainer):
        while trainer.frames < 400:
            time.sleep(0.001)
        killed.append(pid_of(trainer.collector._handles[1]))
        os.kill(killed[0], signal.SIGKILL)

    training = {"total_frames": 3200, "warmup_frames": 3136, "buffer_size": 10_000}
    config = experiment(TAGGED, kind, training=training, max_lag=max_lag)
    trainer, pids = train(config, tmp_path, meanwhile=kill)
    assert trainer.frames == len(trainer.replay) == 3200
    table = rows(tmp_path)
    assert [int(row["frames"]) for row in table] == list(range(16, 3201, 16))
    assert [int(row["collect/restarts"]) for row in table[:5] + table[-5:]] == [0] * 5 + [1] * 5
    assert max(int(row["collect/policy_lag"]) for row in table) == max_lag

    data = trainer.replay.rows(0, 3200)
    before, after = (part["a", "observation"].squeeze(1).long() for part in (data, data["next"]))
    assert torch.equal(before[:, :2], after[:, :2])
    assert torch.equal(before[:, 2] + 1, after[:, 2])
    tags = set(map(tuple, after.tolist()))
    assert len(tags) == 3200
    steps = {}
    for pid, number, step in sorted(tags):
        steps.setdefault((pid, number), []).append(step)
    assert {pid for pid, _ in steps} == {*pids, *killed}
    assert len(steps) == 6
    for (pid, _), found in steps.items():
        assert found == list(range(1, len(found) + 1))
        assert len(found) % 4 == 0
        assert (len(found) == 800) == (pid == pids[0])
    # Episodes have seven steps: the one that was cut by the death is no episode, and makes none longer.
    assert {one.length for one in trainer.episodes.finished} == {7}
    assert gone([*pids, *killed])


@pytest.mark.slow
def test_an_environments_exception_ends_the_run_with_traceback(tmp_path, capfd):
    task = TaskConfig(
        suite="pettingzoo",
        scenario=None,
        factory="tests.envs.factories:crashing",
        kwargs={"at": 3},
        num_envs=4,
        horizon=None,
    )
    with pytest.raises(RunFailedError, match=r"environments must not fail; in worker \d got Zero") as raised:
        train(experiment(task, "processes"), tmp_path)
    assert "ZeroDivisionError: the sheep ran out" in str(raised.value)
    assert "factories.py:" in str(raised.value)
    assert "the environment's own code, not masac's" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert "line" in raised.value.traceback
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_run(tmp_path):
    task = TaskConfig(
        suite="pettingzoo",
        scenario=None,
        factory="tests.envs.factories:crashing",
        kwargs={"how": "exit"},
        num_envs=1,
        horizon=None,
    )
    with pytest.raises(RunFailedError, match=r"collector\.max_restarts=1 times; worker 0 of 1 died: "):
        train(experiment(task, "processes", workers=1, max_restarts=1), tmp_path)


@pytest.mark.slow
def test_a_resumed_run_with_workers_equals_an_unbroken_one(tmp_path):
    checkpoint = CheckpointConfig(reset_environments=True)

    def config(total):
        training = {"total_frames": total, "checkpoint_every": "64"}
        return replace(experiment(NAVIGATION, "processes", training=training, push_every=3), checkpoint=checkpoint)

    train(config(256), tmp_path / "alone")
    train(config(128), tmp_path / "stopped")
    train(config(256), tmp_path / "stopped", resumes=True)
    alone, stopped = rows(tmp_path / "alone"), rows(tmp_path / "stopped")
    for table in (alone, stopped):
        for row in table:
            for name in [name for name in row if "eval/" in name]:  # the one that stopped was evaluated at 128 too
                del row[name]
    assert alone == stopped
    states = [newest_of(tmp_path / name).tensors() for name in ("alone", "stopped")]
    assert [name for name, value in states[0].items() if not torch.equal(value, states[1][name])] == []


@pytest.mark.slow
def test_a_run_may_go_on_with_other_collectors(tmp_path):
    train(experiment(NAVIGATION, "local", workers=1), tmp_path)
    trainer, _ = train(experiment(NAVIGATION, "processes", training={"total_frames": 512}), tmp_path, resumes=True)
    assert trainer.frames == 512
    assert [int(row["frames"]) for row in rows(tmp_path)] == list(range(16, 513, 16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"),
    [("processes", how) for how in (signal.SIGINT, signal.SIGKILL)]
    + [pytest.param("ray", how, marks=WITH_RAY) for how in (signal.SIGINT, signal.SIGKILL)],
)
def test_workers_end_with_the_run_however_it_ends(tmp_path, kind, how):
    settings = [
        *("task.num_envs=4", "task.kwargs.n_agents=2", "model.hidden=[8]", "evaluation.episodes=2"),
        *("evaluation.every_frames=0", "logging.loggers=[]", "training.compile=false", "training.warmup_frames=64"),
        *(f"collector={kind}", f"run_dir={tmp_path / 'run'}", "training.total_frames=100000000"),
    ]
    process = Command("train", *settings, cwd=ROOT, new_session=True)
    metrics = tmp_path / "run" / "metrics.csv"
    wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, process)
    children = psutil.Process(process.pid).children(recursive=True)
    agents = [child.pid for child in children if child.cmdline()[:1] in RAYS_AGENTS]
    # These wait for a cluster that is gone to come back, for longer than a test does, if nobody could end it.
    pids = [child.pid for child in children if how != signal.SIGKILL or child.pid not in agents]
    assert len(pids) >= 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, err = process.communicate(timeout=60)
    left = [] if gone(pids, 60) else [psutil.Process(pid).cmdline() for pid in pids if alive(pid)]
    for pid in filter(alive, agents):
        os.kill(pid, signal.SIGKILL)
    assert left == []
    if how != signal.SIGKILL:
        assert (process.returncode, err) == (128 + how, "")
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["interrupted"]
        assert float(rows(tmp_path / "run")[-1]["collect/restarts"]) == 0


@pytest.mark.slow
def test_an_address_without_a_cluster_is_an_error_that_says_so(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        ConfigError, match=r"collector\.address must be the address of a running Ray cluster; got 'auto'"
    ):
        train(experiment(NAVIGATION, "ray", address="auto"), tmp_path)
