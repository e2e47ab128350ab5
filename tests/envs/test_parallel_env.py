"""Environments in processes of their own: the same data, crashes that explain themselves, no process left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from masac.envs.config import TaskConfig
from masac.envs.parallel_env import Workers, children_without_signals, ignore_signals
from masac.envs.pettingzoo import make_batch
from masac.envs.registry import make_env
from masac.errors import ConfigError, RunFailedError
from masac.groups import read_groups
from tests.processes import FORKED

ROOT = Path(__file__).parents[2]
KAZ = {
    "scenario": "pettingzoo.butterfly.knights_archers_zombies_v11",
    "kwargs": {"spawn_delay": 2, "max_zombies": 30, "max_cycles": 40},
    "horizon": 30,
}


def task(**fields):
    return TaskConfig(**{"suite": "pettingzoo", "scenario": None, "num_envs": 4, "horizon": None, **fields})


def rollout(env, steps):
    torch.manual_seed(0)
    return env.rollout(steps, break_when_any_done=False)


def equal(one, other):
    """Whether [E, T] and [W, E / W, T] hold the same."""
    flat = other.flatten(0, 1)
    return one.batch_size == flat.batch_size and bool((one == flat).all())


def pids_of(env):
    return [process.pid for process in list(env._workers)]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=10.0):
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(KAZ, id="knights_archers_zombies", marks=pytest.mark.slow),  # every test here starts Python twice
    ],
)
def test_workers_give_the_same_episodes_as_this_process(fields):
    here = make_env(task(**fields), num_envs=4, seed=5)
    there = make_env(task(num_workers=2, **fields), num_envs=4, seed=5)
    threads = torch.get_num_threads()
    assert there.batch_size == (2, 2)
    assert [group.name for group in read_groups(there)] == [group.name for group in read_groups(here)]
    pids = pids_of(there.base_env)
    assert equal(rollout(here, 70), rollout(there, 70))
    for env in (here, there):
        env.set_seed(6)
    assert equal(rollout(here, 10), rollout(there, 10))
    there.close()
    assert gone(pids)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.parametrize("shared_memory", [True, False])
def test_both_ways_to_and_from_workers_carry_the_same(shared_memory, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64 if shared_memory else 1)
    config = task(scenario="tests.envs.scripted")
    here = make_batch(config, 4)
    there = Workers(2, partial(make_batch, config, 2))
    here.set_seed(0)
    there.set_seed(0)
    assert equal(rollout(here, 13), rollout(there, 13))
    there.close()


@pytest.mark.slow
def test_fewer_workers_share_a_number_of_environments_they_do_not_divide():
    env = make_env(task(scenario="tests.envs.scripted", num_workers=2), num_envs=1, seed=0)
    assert env.batch_size == (1, 1)
    env.close()


@pytest.mark.slow
def test_an_exception_in_a_worker_is_raised_here_with_its_traceback(capfd):
    config = task(factory="tests.envs.factories:crashing")
    env = Workers(2, partial(make_batch, config, 1))
    pids = pids_of(env)
    started = time.monotonic()
    with pytest.raises(RunFailedError, match="in a worker process got ZeroDivisionError") as raised:
        env.rollout(5, break_when_any_done=False)
    message = str(raised.value)
    assert "ZeroDivisionError: the sheep ran out" in message
    assert "factories.py:" in message
    assert len(message.splitlines()) == 1
    assert "Traceback" in raised.value.traceback
    assert gone(pids)
    assert time.monotonic() - started < 20  # a bound against a hang
    assert capfd.readouterr().err == ""
    env.close(raise_if_closed=False)


@pytest.mark.slow
def test_a_worker_that_is_gone_without_a_word_is_an_error_too():
    config = task(factory="tests.envs.factories:crashing", kwargs={"how": "exit"})
    env = Workers(1, partial(make_batch, config, 1))
    pids = pids_of(env)
    with pytest.raises(RunFailedError, match="ended with exit code 7 and no error message"):
        env.rollout(5)
    assert gone(pids)


def test_what_cannot_be_built_is_said_before_any_worker_starts():
    with pytest.raises(ConfigError, match="no world has size 3"):
        make_env(task(factory="tests.envs.factories:unwilling", kwargs={"size": 3}, num_workers=2), num_envs=2, seed=0)


def sleep_without_signals(ready):
    ignore_signals()
    ready.set()
    time.sleep(60)


def leave_a_worker():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    with children_without_signals():
        context.Process(target=sleep_without_signals, args=(ready,), daemon=True).start()
    ready.wait()


def test_a_process_that_does_not_close_its_workers_ends_all_the_same():
    parent = FORKED.Process(target=leave_a_worker)
    parent.start()
    parent.join(20)
    code = parent.exitcode
    parent.kill()
    assert code == 0


STEPPING = """
    from masac.envs.config import TaskConfig
    from masac.envs.registry import make_env
    from masac.process.stop_signals import stop_on_signals

    if __name__ == "__main__":
        task = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None, num_envs=2, num_workers=2)
        env = make_env(task, num_envs=2, seed=0)
        print(*(process.pid for process in env._workers), flush=True)
        with stop_on_signals() as stop:  # as in training: an exception of a signal may be lost where it arises
            while not stop.requested:
                env.rollout(5)
        env.close()
        print("closed", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_however_it_ends(tmp_path, how):
    script = tmp_path / "stepping.py"
    script.write_text(textwrap.dedent(STEPPING))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(1)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    out, err = process.communicate(timeout=30)
    assert len(pids) == 2
    assert gone(pids)
    if how != signal.SIGKILL:
        assert (out, err) == ("closed\n", "")
