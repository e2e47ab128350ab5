"""Environments in processes of their own: the same data, crashes that explain themselves, no process left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.envs.worker_processes import STEP
from masac.errors import ConfigError, RunFailedError
from masac.groups import read_groups
from tests.processes import gone

pytestmark = pytest.mark.usefixtures("forked_workers")  # as users start them: test_workers_end_with_the_process_...

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


def pids_of(env):
    return [process.pid for process in env.stepper.processes]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(KAZ, id="knights_archers_zombies", marks=pytest.mark.slow),
    ],
)
def test_workers_give_the_same_episodes_as_this_process(fields):
    here = make_env(task(**fields), num_envs=4, seed=5)
    there = make_env(task(num_workers=2, **fields), num_envs=4, seed=5)
    assert there.batch_size == (4,)
    assert [group.name for group in read_groups(there)] == [group.name for group in read_groups(here)]
    pids = pids_of(there)
    assert (rollout(here, 70) == rollout(there, 70)).all()
    for env in (here, there):
        env.set_seed(6)
    assert (rollout(here, 10) == rollout(there, 10)).all()
    there.close()
    assert gone(pids)


@pytest.mark.slow
def test_workers_step_torchrl_environments_too():
    fields = {"factory": "tests.envs.factories:torch_env", "horizon": 3}
    here, there = (make_env(task(num_workers=w, **fields), num_envs=4, seed=0) for w in (0, 2))
    assert (rollout(here, 7) == rollout(there, 7)).all()
    there.close()


@pytest.mark.slow
def test_answers_to_an_interrupted_request_are_not_taken_for_the_next_one():
    here, there = (make_env(task(scenario="tests.envs.scripted", num_workers=w), num_envs=2, seed=0) for w in (0, 2))
    for env in (here, there):
        env.reset()
    for index, connection in enumerate(there.stepper._connections):  # as after Ctrl-C while it waits
        connection.send_bytes(STEP)
        there.stepper._unanswered[index] += 1
    for env in (here, there):
        env.set_seed(7)
    assert (rollout(here, 4) == rollout(there, 4)).all()
    there.close()
    with pytest.raises(RunFailedError, match="environments must be open to be stepped"):
        there.reset()


@pytest.mark.slow
def test_workers_share_environments_unevenly():
    env = make_env(task(scenario="tests.envs.scripted", num_workers=2), num_envs=1, seed=0)
    assert env.batch_size == (1,)
    assert len(pids_of(env)) == 1
    env.close()


@pytest.mark.slow
def test_a_workers_exception_is_raised_with_its_traceback(capfd):
    config = task(factory="tests.envs.factories:crashing", num_envs=2, num_workers=2)
    env = make_env(config, num_envs=2, seed=0)
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
    config = task(factory="tests.envs.factories:crashing", kwargs={"how": "exit"}, num_envs=1, num_workers=1)
    env = make_env(config, num_envs=1, seed=0)
    pids = pids_of(env)
    with pytest.raises(RunFailedError, match="ended with exit code 7 and no error message"):
        env.rollout(5)
    assert gone(pids)


def test_what_cannot_be_built_is_said_before_any_worker_starts():
    with pytest.raises(ConfigError, match="no world has size 3"):
        make_env(task(factory="tests.envs.factories:unwilling", kwargs={"size": 3}, num_workers=2), num_envs=2, seed=0)


STEPPING = """
    from masac.envs.config import TaskConfig
    from masac.envs.registry import make_env
    from masac.process.stop_signals import stop_on_signals

    if __name__ == "__main__":
        task = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None, num_envs=2, num_workers=1)
        env = make_env(task, num_envs=2, seed=0)
        print(*(process.pid for process in env.stepper.processes), flush=True)
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
    process.send_signal(how)
    out, err = process.communicate(timeout=120)  # a bound against a hang
    assert len(pids) == 1
    assert gone(pids)
    if how != signal.SIGKILL:
        assert (out, err) == ("closed\n", "")
