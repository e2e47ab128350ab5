"""Gymnasium environments of several agents, with Dicts or Tuples, as parallel ones."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from torchrl.envs.utils import check_env_specs

from masac.envs.config import TaskConfig
from masac.envs.from_gymnasium import from_gymnasium
from masac.envs.registry import make_env
from masac.errors import ConfigError
from tests.envs.common import wrap
from tests.envs.gymnasium_teams import Solo, Team


@pytest.mark.parametrize("named", [True, False])
def test_agents_get_their_parts_and_end_by_themselves(named):
    made = from_gymnasium("tests.envs.gymnasium_teams:Team-v0", named=named)
    first, second = made.possible_agents
    assert (first, second) == (("left", "right") if named else ("agent_0", "agent_1"))
    observations, infos = made.reset(seed=0)
    assert ({agent: len(seen) for agent, seen in observations.items()}, infos) == (
        {first: 1, second: 2},
        {first: {}, second: {}},
    )
    observations, rewards, terminated, truncated, infos = made.step({first: 1, second: 2})
    assert rewards == {first: 1.0, second: 2.0}
    assert not any([*terminated.values(), *truncated.values()])
    assert all(("action_mask" in info) == named for info in infos.values())
    _, _, terminated, _, _ = made.step({first: 1, second: 0})
    assert (terminated, made.agents) == ({first: True, second: False}, [second])
    _, rewards, _, truncated, _ = made.step({second: 1})
    assert (rewards, truncated, made.agents) == ({second: 1.0}, {second: True}, [])
    got = made.env.unwrapped.got
    assert got[-1] == ({"right": 1} if named else (1, 1))  # a Tuple needs an action of the one that left


def test_it_is_collected_from_like_any_environment():
    env = wrap(from_gymnasium(Team(named=False)))
    check_env_specs(env)
    data = env.rollout(3, break_when_any_done=False)[0]["next"]
    flags = [
        data[f"agent{number}", name].flatten().tolist() for number in (1, 2) for name in ("terminated", "truncated")
    ]
    assert flags[0][:2] == [False, True]
    assert flags[2:] == [[False] * 3, [False, False, True]]


def test_spaces_without_a_part_per_agent_are_errors():
    with pytest.raises(ConfigError, match=r"both a Dict or both a Tuple .*; got Box and Discrete. Divide them"):
        from_gymnasium(Solo())
    team = Team()
    team.action_space = Tuple([Discrete(2)])
    with pytest.raises(ConfigError, match="got Dict of 2 and Tuple of 1"):
        from_gymnasium(team)
    team.action_space = Dict(left=Discrete(2), middle=Discrete(2))
    team.observation_space = Dict(left=Box(0, 1, (1,)), right=Box(0, 1, (1,)))
    with pytest.raises(ConfigError, match="must have the same keys, its agents; got left, right and left, middle"):
        from_gymnasium(team)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.array(2.0), [2, 2]), (np.array([[1.0], [2.0]]), [1, 2]), ((1, 2), [1, 2]), (np.float32(2), [2, 2])],
)
def test_rewards_are_numbers_or_arrays_of_any_shape(value, expected):
    made = from_gymnasium(Team(named=False))
    assert list(made._each(value, made.possible_agents, float).values()) == expected


def test_too_few_rewards_are_an_error():
    made = from_gymnasium(Team(named=False))
    with pytest.raises(ConfigError, match="one entry per agent, also of those that left, or one for all; got 3 for 2"):
        made._each([1.0, 2.0, 3.0], made.possible_agents, float)


def test_a_missing_package_is_named():
    """Gymnasium raises an ImportError of its own, whose ``name`` is None."""
    kwargs = {"env": "no_such_package:Foraging-v3"}
    factory = "masac.envs.from_gymnasium:from_gymnasium"
    task = TaskConfig(suite="pettingzoo", scenario=None, factory=factory, kwargs=kwargs, horizon=None)
    with pytest.raises(ConfigError, match=r"must be importable; it needs 'no_such_package' \(No module .*Install it"):
        make_env(task, num_envs=1, seed=0)
