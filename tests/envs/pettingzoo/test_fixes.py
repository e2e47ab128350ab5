"""Environments whose agents take turns: what masac leaves out of PettingZoo's conversion changes nothing."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from mpe2 import simple_spread_v3, simple_tag_v3
from pettingzoo import AECEnv
from pettingzoo.butterfly import knights_archers_zombies_v11
from pettingzoo.utils.conversions import aec_to_parallel
from pettingzoo.utils.wrappers import BaseWrapper, OrderEnforcingWrapper

from masac.envs.pettingzoo.fixes import TurnsWithoutLast, repair
from masac.errors import RunFailedError


class Turns(AECEnv[Any, Any, Any]):
    """Two agents add to a number. What ``last()`` says decides whether an agent acts or leaves, and what it adds to."""

    render_mode = None
    order = ("agent_0", "agent_1")

    def __init__(self) -> None:
        super().__init__()
        self.metadata = {"name": "turns", "is_parallelizable": True}
        self.possible_agents = ["agent_0", "agent_1"]

    def observation_space(self, agent):
        return Box(-99, 99, (1,))

    def action_space(self, agent):
        return Discrete(2)

    def observe(self, agent):
        return np.array([self.numbers[agent]], np.float32)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.numbers = dict.fromkeys(self.agents, 0.0)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations, self.truncations = (dict.fromkeys(self.agents, False) for _ in range(2))
        self.infos = {agent: {} for agent in self.agents}
        self.turns, self.agent_selection = 0, self.order[0]

    def step(self, action):
        observation, _, terminated, truncated, _ = self.last()
        if terminated or truncated:
            self._was_dead_step(action)
            return
        agent = self.agent_selection
        self.numbers[agent] = float(observation[0]) + (2 if action else 1)
        self.turns += 1
        self.rewards = {one: self.numbers[one] * (self.turns % 2 == 0) for one in self.agents}
        if self.turns == 10:
            self.truncations = dict.fromkeys(self.agents, True)
        self.agent_selection = self.order[self.turns % 2]


class Doubled(BaseWrapper[Any, Any, Any]):
    """A wrapper that does something: observations are doubled."""

    def observe(self, agent):
        return 2 * super().observe(agent)


def _episode(env: Any, steps: int) -> list[Any]:
    """All that an environment returns, for the same actions in every call."""
    spaces = {agent: env.action_space(agent) for agent in env.possible_agents}
    for space in spaces.values():
        space.seed(5)
    returned = [env.reset(seed=3)]
    for _ in range(steps):
        if env.agents:
            returned.append(env.step({agent: spaces[agent].sample() for agent in env.agents}))
    return returned


@pytest.mark.parametrize(
    "make",
    [
        Turns,
        lambda: OrderEnforcingWrapper(Turns()),
        lambda: Doubled(Turns()),
        lambda: simple_tag_v3.env(continuous_actions=True),
        lambda: knights_archers_zombies_v11.env(spawn_delay=2, max_zombies=30, max_cycles=200),
    ],
    ids=["turns", "checked turns", "wrapped turns", "simple_tag", "knights_archers_zombies"],
)
def test_an_episode_is_that_of_pettingzoo(make):
    ours, theirs = repair(aec_to_parallel(make())), aec_to_parallel(make())
    assert isinstance(ours.unwrapped, AECEnv)
    found, expected = _episode(ours, 60), _episode(theirs, 60)
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_equal(tuple(map(dict, one)), tuple(map(dict, other)))


def test_only_wrappers_that_check_are_left_out():
    """Actions are legal and a reset comes first, so PettingZoo's checks find nothing; other wrappers stay."""
    checked: Any = repair(simple_spread_v3.parallel_env(continuous_actions=True))
    assert checked.aec_env is checked.unwrapped
    wrapped = Doubled(simple_spread_v3.env(continuous_actions=True))
    kept: Any = repair(aec_to_parallel(OrderEnforcingWrapper(wrapped)))
    assert isinstance(kept, TurnsWithoutLast)
    assert kept.aec_env is wrapped


def test_observations_are_made_once_per_step():
    """PettingZoo's conversion makes each one twice."""
    made = []

    class Counting(Turns):
        def observe(self, agent):
            made.append(agent)
            return super().observe(agent)

        def step(self, action):
            self.numbers[self.agent_selection] += 1
            self.agent_selection = self.order[self.order.index(self.agent_selection) - 1]

    env = repair(aec_to_parallel(Counting()))
    env.reset()
    made.clear()
    env.step({"agent_0": 0, "agent_1": 0})
    assert made == ["agent_0", "agent_1"]


def test_what_is_set_on_the_conversion_stays():
    turns = OrderEnforcingWrapper(Turns())
    converted: Any = aec_to_parallel(turns)
    converted.possible_agents, turns.unwrapped.metadata = ["agent_1", "agent_0"], {"name": "turns"}
    assert repair(converted).possible_agents == ["agent_1", "agent_0"]


def test_agents_out_of_turn_are_an_error():
    class Reversed(Turns):
        order = ("agent_1", "agent_0")

    env = repair(aec_to_parallel(Reversed()))
    env.reset()
    with pytest.raises(RunFailedError, match=r"got the turn of 'agent_1' where 'agent_0' is due"):
        env.step({"agent_0": 0, "agent_1": 0})
