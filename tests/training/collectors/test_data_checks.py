"""What is checked of a rollout before it enters the replay buffer."""

import math

import pytest

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.errors import RunFailedError
from masac.groups import read_groups
from masac.training.collectors.data_checks import check_actions, check_actors, check_observations

MASKED = TaskConfig(
    suite="pettingzoo", scenario="tests.envs.scripted", kwargs={"action_mask": "observation"}, num_envs=2, horizon=None
)


@pytest.fixture
def rollout():
    """The groups, and a rollout ``[2, 4]`` of random actions; agent 0 is gone from step 2 on."""
    env = make_env(MASKED, num_envs=2, seed=0)
    yield read_groups(env), env.rollout(4, break_when_any_done=False)
    env.close()


def test_observations_of_living_agents_are_finite(rollout):
    groups, collected = rollout
    collected["a", "observation"][0, 3, 0] = math.nan  # gone
    check_observations(collected, groups, 0)
    collected["next", "a", "observation"][1, 1, 2, 4] = math.inf
    with pytest.raises(
        RunFailedError, match=r"agent 2 of group 'a' in environment 1, after step 1 of the batch that beg"
    ):
        check_observations(collected, groups, 0)
    collected["next", "a", "terminated"][1, 1, 2] = True  # then it is not used
    check_observations(collected, groups, 0)
    collected["a", "observation"][1, 0, 1, 4] = math.nan
    with pytest.raises(RunFailedError, match=r"got .*nan.* for agent 1 of group 'a' in environment 1, step 0"):
        check_observations(collected, groups, 0)


def test_actors_compute_finite_actions_from_finite_observations():
    continuous = {"scenario": "mpe2.simple_spread_v3", "kwargs": {"continuous_actions": True}}
    env = make_env(TaskConfig(suite="pettingzoo", horizon=None, **continuous), num_envs=2, seed=0)
    groups, collected = read_groups(env), env.rollout(4, break_when_any_done=False)
    env.close()
    collected["agent", "action"][1, 2, 0, 3] = math.nan
    collected["agent", "mask"][1, 2, 0] = False  # gone
    check_actors(collected, groups, 0)
    collected["agent", "action"][1, 3, 2, 4] = math.inf
    with pytest.raises(
        RunFailedError, match=r"got \[.*inf\] .* agent 2 of group 'agent' in environment 1, step 3 of the"
    ):
        check_actors(collected, groups, 0)
    with pytest.raises(RunFailedError, match=r"agent 2 of group 'agent' in environment 1\. Its actor"):
        check_actors(collected[:, 3:], groups, None)
    collected["agent", "observation"][1, 3, 2, 0] = math.nan  # then that is to blame
    check_actors(collected, groups, 0)


def test_living_agents_have_a_legal_action(rollout):
    groups, collected = rollout
    collected["a", "action_mask"][0, 3, 0] = False  # gone
    check_actions(collected, groups, 0)
    collected["a", "action_mask"][1, 2, 1] = False
    with pytest.raises(
        RunFailedError, match="agent 1 of group 'a' must have a legal action in environment 1, step 2 of"
    ):
        check_actions(collected, groups, 0)


def test_living_agents_have_a_legal_action_in_the_next_state(rollout):
    groups, collected = rollout
    collected["next", "a", "action_mask"][0, 0, 2] = False
    with pytest.raises(
        RunFailedError, match=r"agent 2 .* in environment 0, after step 0 of the batch that begins at frame 8"
    ):
        check_actions(collected, groups, 8)
    collected["next", "a", "terminated"][0, 0, 2] = True  # then it takes none
    check_actions(collected, groups, 8)


def test_living_agents_take_legal_actions(rollout):
    groups, collected = rollout
    assert not collected["a", "action_mask"][:, 1, :, 1].any()  # action 1 is illegal in odd steps
    collected["a", "action"][1, 1, 2] = 1
    with pytest.raises(RunFailedError, match=r"agent 2 .* must take a legal action in environment 1, step 1 .*; got "):
        check_actions(collected, groups, 0)
