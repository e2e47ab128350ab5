"""Environments that rest once their episode is over, against the same ones that begin another."""

import pytest
import torch

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env

SCRIPTED = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None)
CUT_SHORT = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=3)


def steps(env, number, *, seed):
    """A rollout [E, T] in which everybody does action 0."""
    env.set_seed(seed)
    data, found = env.reset(), []
    for _ in range(number):
        step, data = env.step_and_maybe_reset(data.set(("a", "action"), env.full_action_spec["a", "action"].zero()))
        found.append(step.clone())
    return torch.stack(found, 1)


@pytest.mark.parametrize(("task", "length"), [(SCRIPTED, 5), (CUT_SHORT, 3)])
def test_the_episode_is_the_same_and_then_nothing_happens(task, length):
    going_on, once = (make_env(task, num_envs=2, seed=0, one_episode=rests) for rests in (False, True))
    for seed in (0, 1):  # seeding starts another
        expected, found = steps(going_on, 9, seed=seed), steps(once, 9, seed=seed)
        assert expected["next", "done"].squeeze(-1)[:, :length].tolist() == [[False] * (length - 1) + [True]] * 2
        first = found[:, :length]
        for key, value in expected[:, :length].items(True, True):
            torch.testing.assert_close(first[key], value, rtol=0, atol=0, equal_nan=True)
        rest = found[:, length:]["next"]
        assert torch.equal(rest["a", "observation"], found[:, :1]["a", "observation"].expand(2, 9 - length, 3, 7))
        assert rest["a", "mask"].all()
        for key in ("done", ("a", "done"), ("a", "reward")):
            assert not rest[key].any()
        assert all(one.environment.raw.step_count == length for one in list(once.stepper.episodes)), "it was stepped on"


def test_environments_that_step_as_one_batch_go_on():
    task = TaskConfig(suite="vmas", scenario="navigation", horizon=3)
    env = make_env(task, num_envs=2, seed=0, one_episode=True)
    data, dones = env.reset(), []
    for _ in range(6):
        step, data = env.step_and_maybe_reset(env.rand_action(data))
        dones.append(step["next", "done"].squeeze(-1).tolist())
    assert dones == [[False] * 2, [False] * 2, [True] * 2] * 2
