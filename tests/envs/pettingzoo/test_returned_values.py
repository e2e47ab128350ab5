"""What reset and step of PettingZoo's parallel API return: made complete, or an error that names agent and dict."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.returned_values import read_observation, read_step
from masac.envs.registry import make_env
from masac.errors import ConfigError, EnvironmentWarning
from masac.groups import read_groups
from tests.envs.common import play, wrap
from tests.envs.misbehaving import Lives, Masked, Walkers, drops, masked_by_info, returns, says

OBSERVATIONS, REWARDS, TERMINATIONS, TRUNCATIONS, INFOS = range(5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drops(OBSERVATIONS), r"observations of step\(\) must have one of agent 'a_1', which is among its.*no entry"),
        (drops(OBSERVATIONS, at=0), r"observations of reset\(\) must have one of agent 'a_1'.*leave it out of agents"),
        (says(OBSERVATIONS, None), r"observations of step\(\) must have one of agent 'a_1'.*got None"),
        (
            drops(OBSERVATIONS, at=4),
            r"must have one of agent 'a_1', which is truncated: the critic target needs",
        ),
        (drops(REWARDS), r"rewards of step\(\) must have a number for agent 'a_1', which acted; got no entry"),
        (says(REWARDS, None), r"rewards of step\(\) must have a number for agent 'a_1'.*got None"),
        (says(REWARDS, "1"), r"rewards .* got '1'"),
        (says(REWARDS, np.ones(2)), r"rewards .* got array"),
        (drops(TERMINATIONS), r"terminations of step\(\) must have True or False for agent 'a_1'.*got no entry"),
        (drops(TRUNCATIONS), r"truncations of step\(\) must have True or False for agent 'a_1'.*got no entry"),
        (says(TERMINATIONS, None), r"terminations .* got None"),
        (says(TRUNCATIONS, "no"), r"truncations .* got 'no'"),
        (says(OBSERVATIONS, np.zeros(3)), r"observation of agent 'a_1' must be in its observation_space, Box.*\[3\]"),
        (says(OBSERVATIONS, np.float32(1)), r"observation of agent 'a_1' must be in its observation_space"),
        (says(OBSERVATIONS, ["a", "b"]), r"observation of agent 'a_1' must be in its observation_space"),
        (says(OBSERVATIONS, [[1], [1, 2]]), r"observation of agent 'a_1' must be in its observation_space"),
        (
            says(OBSERVATIONS, np.zeros(2), agent="b", at=0),
            r"got 'b' among the observations of reset\(\), but only 'a_0'",
        ),
        (says(OBSERVATIONS, np.zeros(2), agent="b"), r"got 'b' among the observations of step\(\)"),
        (returns(({}, {}, {}, {})), r"must return five dicts, .*; got 4 values .* replace the old done"),
        (returns(None), r"must return five dicts, .*; got NoneType"),
        (returns({"a_0": 1, "a_1": 1}, at=0), r"reset\(\) of the environment must return two dicts.*; got dict"),
    ],
)
def test_missing_entries_name_agent_and_dict(spoil, message):
    with pytest.raises(ConfigError, match=message) as error:
        play(Walkers(spoil=spoil))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (says(OBSERVATIONS, {"observation": np.zeros(2), "kind": 1}), r"must have the keys of its.*'action_mask' is"),
        (says(OBSERVATIONS, np.zeros(2)), r"the observation of agent 'a_1' must be in its observation_space, Dict"),
        (
            says(OBSERVATIONS, {"observation": np.zeros(2), "action_mask": np.ones(2, np.int8), "kind": 3}),
            r"the observation\['kind'\] of agent 'a_1' must be in its observation_space, Discrete\(3\); got 3",
        ),
        (
            says(OBSERVATIONS, {"observation": np.zeros(2), "action_mask": np.zeros(2, np.int8), "kind": 0}),
            r"the action mask of agent 'a_1' must allow an action; got \[False, False\]",
        ),
    ],
)
def test_parts_of_nested_observations_are_named(spoil, message):
    with pytest.raises(ConfigError, match=message):
        play(Masked(spoil))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (masked_by_info(first=False), r"infos must have an action_mask of agent 'a_0' either in every step or in none"),
        (masked_by_info(then=False), r"either in every step or in none; got none after a reset with one"),
        (masked_by_info(size=3), r"the action mask of agent 'a_0' must have 2 entries, one per choice; got 3"),
    ],
)
def test_masks_in_infos_are_there_always_or_never(env, message):
    with pytest.raises(ConfigError, match=message):
        play(env)
    assert play(masked_by_info())["a", "action_mask"].all()


def test_what_does_not_matter_may_be_missing():
    def spoil(env, t, out):
        out[-1].clear()  # infos
        if t == 2:  # a_1 dies; nobody needs what it sees
            out[OBSERVATIONS]["a_1"] = None
            out[TERMINATIONS]["a_1"] = np.bool_(True)
            out[REWARDS]["a_1"] = np.float32([7.0])
            env.agents.remove("a_1")
        if t == 3:  # what is said of the dead
            out[OBSERVATIONS]["a_1"], out[REWARDS]["a_1"] = "nothing", None
        return out

    data = play(Walkers(spoil=spoil), steps=3)
    assert data["a", "mask"].tolist() == [[True, True], [True, True], [True, False]]
    assert data["next", "a", "reward"][..., 0].tolist() == [[1, 1], [1, 7], [1, 0]]  # the last reward is not lost
    assert data["next", "a", "terminated"][..., 0].tolist() == [[False, False], [False, True], [False, True]]
    assert not data["next", "a", "truncated"][1, 1]
    assert data["next", "a", "observation"][1, 1].tolist() == [0, 0]


def test_tensors_and_rllibs_all_entries_are_accepted():
    def spoil(env, t, out):
        if t:
            out[OBSERVATIONS]["a_0"] = torch.tensor([0.5, t], requires_grad=True)
            out[REWARDS]["a_1"] = torch.tensor(2.5, requires_grad=True)
            out[TERMINATIONS]["a_1"], out[TRUNCATIONS]["a_1"] = torch.tensor(t == 2), torch.tensor([False])
            if t == 2:
                env.agents.remove("a_1")
            for part in (REWARDS, TERMINATIONS, TRUNCATIONS):
                out[part]["__all__"] = False
        return out

    data = play(Walkers(spoil=spoil), steps=2)
    assert data["next", "a", "observation"][1, 0].tolist() == [0.5, 2]
    assert data["next", "a", "reward"][:, 1, 0].tolist() == [2.5, 2.5]
    assert data["next", "a", "terminated"][:, 1, 0].tolist() == [False, True]


def test_silent_leavers_terminate_and_newcomers_need_no_reward():
    step = read_step(({"c": 1}, {}, {}, {}, {}), acted=["a"], agents=["c"], possible=["a", "c"])
    assert step.terminated == {"a": True, "c": False}
    assert step.rewards == {"a": 0.0, "c": 0.0}
    assert step.observations == {"a": None, "c": 1}
    cut = read_step(({"a": 1}, {"a": 1}, {"a": 0}, {"a": 1}, {}), acted=["a"], agents=[], possible=["a"])
    assert (cut.terminated, cut.truncated) == ({"a": False}, {"a": True})


@pytest.mark.parametrize("later", [False, True])
def test_agents_may_die_and_return(later):
    data = play(Lives(later), steps=6)
    here = [1, 1, 0, 0, 1, 1] if later else [1] * 6
    assert data["a", "mask"][:, 0].int().tolist() == here
    ended = data["next", "a", "terminated"][:, 0, 0] & data["a", "mask"][:, 0]
    assert ended.int().tolist() == [0, 1, 0, 0, 0, 0]
    assert not data["next", "a", "terminated"][:, 1].any()
    if later:
        assert data["a", "observation"][4, 0].tolist() == [5, 5]  # where its second life begins
    assert data["next", "done"][:, 0].int().tolist() == [0, 0, 0, 0, 0, 1]


def test_agents_that_end_and_stay_are_warned_of():
    def spoil(env, t, out):
        if t >= 2:
            out[TERMINATIONS]["a_1"] = True
        return out

    with pytest.warns(EnvironmentWarning, match="agent 'a_1' terminated in two consecutive steps and is still in"):
        play(Walkers(spoil=spoil), steps=4)


def test_an_environment_without_agents_is_an_error():
    env = Walkers()
    env.reset = lambda seed=None, options=None: ({}, {})
    with pytest.raises(ConfigError, match=r"must keep the agents that are present in a list, agents; Walkers has none"):
        play(env)


def test_spaces_of_another_package_are_an_error():
    class Space:
        shape = (2,)

    env = Walkers()
    env.observation_space = lambda agent: Space()
    with pytest.raises(ConfigError, match=r"observation_space\(agent\) must return a space of gymnasium; got .*Space"):
        wrap(env)


@pytest.mark.parametrize(
    ("low", "high", "got"),
    [
        ([-1, -1], [1, np.inf], r"low \[-1.0, -1.0\], high \[1.0, inf\]"),
        ([-np.inf] * 2, [np.inf] * 2, r"low \[-inf, -inf\], high \[inf, inf\]"),
        ([0, 1], [1, 1], r"low \[0.0, 1.0\], high \[1.0, 1.0\]"),
        ([0, 0], [1, 1e300], r"low \[0.0, 0.0\], high \[1.0, inf\]"),  # as float32
    ],
)
def test_actions_without_finite_bounds_are_an_error_in_one_line(low, high, got):
    env = wrap(Walkers(action=Box(np.array(low), np.array(high), dtype=np.float64)))
    with pytest.raises(
        ConfigError, match=f"finite bounds, low below high, .*; got bounds: {got}. Change them"
    ) as error:
        read_groups(env)
    assert "\n" not in str(error.value)


def test_the_dead_of_a_batch_do_not_disturb_the_living():
    task = TaskConfig(suite="pettingzoo", scenario=None, factory="tests.envs.misbehaving:lives", horizon=None)
    env = make_env(task, num_envs=3, seed=0)
    data = env.rollout(8, break_when_any_done=False)
    assert torch.equal(data["a", "mask"], torch.ones(3, 8, 2, dtype=torch.bool))


def test_an_image_of_bytes_has_no_fractions():
    """They would become zeros."""
    space = Box(0, 255, (8, 8, 3), np.uint8)
    np.testing.assert_equal(read_observation(space, np.full((8, 8, 3), 200), "a"), np.full((8, 8, 3), 200))
    with pytest.raises(
        ConfigError, match=r"must be in its observation_space, Box.*uint8.*; got .* dtype float32\. Ret"
    ):
        read_observation(space, np.full((8, 8, 3), 0.7, np.float32), "a")
    numbers = Box(0, 255, (3,), np.uint8)  # become float32 in the observation vector
    np.testing.assert_equal(read_observation(numbers, np.array([0.5, 1, 2]), "a"), [0.5, 1, 2])
