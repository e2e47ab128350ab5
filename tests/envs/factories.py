"""Factories as a user would write them, and what can go wrong in them."""

import os

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from pettingzoo import ParallelEnv
from pettingzoo.classic import tictactoe_v3
from pettingzoo.utils.conversions import parallel_to_aec
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase
from torchrl.envs.libs.vmas import VmasEnv

from tests.envs.scripted import ScriptedDeaths


class Spaces(ParallelEnv):
    """Agents with the spaces they are given; remembers the actions it gets, and ends after three steps."""

    metadata = {"name": "spaces_v0"}  # noqa: RUF012  as PettingZoo has it
    render_mode = None

    def __init__(self, observations, actions, observe=None):
        self.possible_agents = list(observations)
        self.observations, self.actions, self.observe = observations, actions, observe
        self.got = []

    def observation_space(self, agent):
        return self.observations[agent]

    def action_space(self, agent):
        return self.actions[agent]

    def _observe(self):
        if self.observe is not None:
            return {agent: self.observe(agent) for agent in self.possible_agents}
        return {agent: self.observations[agent].sample() for agent in self.possible_agents}

    def reset(self, seed=None, options=None):
        self.agents, self.step_count = list(self.possible_agents), 0
        if seed is not None:
            for space in self.observations.values():
                space.seed(seed)
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.got.append(actions)
        self.step_count += 1
        agents, over = self.agents, self.step_count >= 3
        if over:
            self.agents = []
        flags = dict.fromkeys(agents, False)
        return self._observe(), dict.fromkeys(agents, 1.0), flags, dict.fromkeys(agents, over), {a: {} for a in agents}


NESTED = Dict(
    {
        "position": Box(-1, 1, (2,), np.float64),
        "camera": Box(0, 255, (2, 2, 3), np.uint8),
        "bits": Box(0, 1, (2,), np.uint8),
        "inner": Dict({"kind": Discrete(3, start=1), "pair": Tuple([MultiDiscrete([2, 3]), MultiBinary(2)])}),
    }
)
NESTED_VALUE = {
    "position": np.array([0.5, -0.25]),
    "camera": np.full((2, 2, 3), 51, np.uint8),
    "bits": np.array([0, 1], np.uint8),
    "inner": {"kind": 3, "pair": (np.array([1, 0]), np.array([1, 0], np.int8))},
}


def nested():
    return Spaces({"a_0": NESTED}, {"a_0": Discrete(2)}, lambda agent: NESTED_VALUE)


PICTURED = Tuple(
    [
        Box(0, 255, (2, 2), np.uint8),
        Discrete(3),
        Box(0, 3, (2,), np.uint8),
        Dict({"b": Box(0, 255, (1,), np.uint8), "a": Box(-1, 1, (1,), np.float64)}),
    ]
)
PICTURED_VALUE = (
    np.full((2, 2), 51, np.uint8),
    2,
    np.array([3, 1], np.uint8),
    {"b": np.array([102], np.uint8), "a": np.array([0.5])},
)


def pictured():
    """A Tuple with images, numbers of bytes that are none, and other things in it."""
    return Spaces({"a_0": PICTURED}, {"a_0": Discrete(2)}, lambda agent: PICTURED_VALUE)


def bytes_only():
    """A Tuple of bytes, of which one is an image."""
    space = Tuple([Box(0, 255, (2,), np.uint8), Box(0, 3, (2,), np.uint8)])
    value = (np.array([255, 51], np.uint8), np.array([3, 1], np.uint8))
    return Spaces({"a_0": space}, {"a_0": Discrete(2)}, lambda agent: value)


def masked_factors():
    """Two choices and three; only the second and the first are legal."""
    legal = {"observation": np.zeros(2, np.float32), "action_mask": np.array([0, 1, 1, 0, 0], np.int8)}
    space = Dict({"observation": Box(-1, 1, (2,)), "action_mask": MultiBinary(5)})
    return Spaces({"a_0": space}, {"a_0": MultiDiscrete([2, 3])}, lambda agent: legal)


def parts():
    """Two agents that see places, a number, an image and what is legal: of the choices 5 to 15 only 12."""
    place = Tuple((Discrete(6), Discrete(6, start=1)))
    seen = Dict(place=place, fuel=Box(0, 1, (1,)), map=Box(0, 255, (2, 3), np.uint8))
    space = Dict(observation=seen, action_mask=MultiBinary(11))
    image, mask = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50, np.arange(11) == 7
    observed = {"place": (2, 6), "fuel": np.float32([0.25]), "map": image}
    agents = ("car_0", "car_1")
    actions = dict.fromkeys(agents, Discrete(11, start=5))
    value = {"observation": observed, "action_mask": mask.astype(np.int8)}
    return Spaces(dict.fromkeys(agents, space), actions, lambda agent: dict(value))


def wrong_shape():
    return Spaces({"a_0": Box(0, 1, (2,))}, {"a_0": Discrete(2)}, lambda agent: np.zeros(3, np.float32))


def image(side=8):
    return Spaces({"a_0": Box(0, 255, (side, side, 3), np.uint8)}, {"a_0": Discrete(2)})


def board(side):
    """Numbers in a square, but neither bytes nor floats."""
    return Spaces({"a_0": Box(0, 9, (side, side), np.int64)}, {"a_0": Discrete(2)})


def sequence():
    return Spaces({"a_0": Dict({"list": Sequence(Box(0, 1, (2,)))})}, {"a_0": Discrete(2)})


def dict_actions():
    return Spaces({"a_0": Box(0, 1, (2,))}, {"a_0": Dict({"move": Discrete(2), "say": Tuple([Text(3)])})})


def all_actions():
    actions = {
        "discrete_0": Discrete(3, start=5),
        "several_0": MultiDiscrete([2, 3]),
        "binary_0": MultiBinary(3),
        "box_0": Box(np.float64([[0.1, -2], [0, 0]]), np.float64([[0.3, 2], [1, 1]]), dtype=np.float64),
    }
    return Spaces(dict.fromkeys(actions, Box(-1, 1, (2,))), actions)


def masked(actions, mask):
    """Two agents whose observations say which actions are legal."""
    space = Dict({"observation": Box(-1, 1, (2,)), "action_mask": Box(0, 1, (len(mask),), np.int8)})
    seen = {"observation": np.zeros(2, np.float32), "action_mask": np.array(mask, np.int8)}
    return Spaces({"a_0": space, "a_1": space}, {"a_0": actions, "a_1": actions}, lambda agent: dict(seen))


def differing():
    """Three kinds of agents with one prefix."""
    observations = {"a_0": Box(-1, 1, (2,)), "a_1": Box(-1, 1, (3,)), "a_2": Box(-1, 1, (2,)), "a_3": Box(-1, 1, (2,))}
    actions = {"a_0": Discrete(2), "a_1": Discrete(2), "a_2": Discrete(2), "a_3": Discrete(3)}
    return Spaces(observations, actions)


def names():
    agents = ["wolf_0", "wolf_1", "sheep7", "dog", "pack.x_0", 3, 4]
    return Spaces(dict.fromkeys(agents, Box(-1, 1, (2,))), dict.fromkeys(agents, Discrete(2)))


class Comings(ScriptedDeaths):
    """Agent a_0 leaves at step 2 without a word, or with False flags; a_2 comes at step 2."""

    def __init__(self, flags=False):
        super().__init__()
        self.flags = flags

    def reset(self, seed=None, options=None):
        observations, infos = super().reset(seed, options)
        self.agents.remove("a_2")
        return {agent: observations[agent] for agent in self.agents}, infos

    def step(self, actions):
        out = super().step(actions)
        if self.step_count == 2:
            for part in out:
                part.pop("a_0", None)
            if self.flags:
                out[2]["a_0"] = out[3]["a_0"] = False
            self.agents = ["a_1", "a_2"]
            for part, first in zip(out, (self._observe(["a_2"])["a_2"], 0.0, False, False, {}), strict=True):
                part["a_2"] = first
        return out


def comings(flags):
    return Comings(flags)


def stranger():
    env = ScriptedDeaths()
    env.possible_agents = ["a_0", "a_1"]

    def reset(seed=None, options=None):
        env.agents = ["b_0"]
        return {}, {}

    env.reset = reset
    return env


class Crashing(ScriptedDeaths):
    def __init__(self, how, at=2):
        super().__init__()
        self.how, self.at = how, at

    def step(self, actions):
        if self.step_count + 1 == self.at:
            if self.how == "exit":
                os._exit(7)
            raise ZeroDivisionError("the sheep ran out")
        return super().step(actions)


def crashing(how="raise", at=2):
    return Crashing(how, at)


def aec():
    return parallel_to_aec(ScriptedDeaths())


def turn_based():
    return tictactoe_v3.env()


def single_agent():
    return gymnasium.make("CartPole-v1")


def nothing():
    return 3


def no_agents():
    env = ScriptedDeaths()
    del env.possible_agents
    return env


def unwilling(size):
    raise ValueError(f"no world has size {size}")


NOT_CALLABLE = 3


class OneTorch(EnvBase):
    """Two agents, a nested observation with an image in it; counts its steps."""

    def __init__(self, grouped=True):
        super().__init__()
        seen = Composite(
            {
                "camera": Bounded(0, 255, (2, 2, 2), dtype=torch.uint8),
                "kind": Categorical(3, (2,), dtype=torch.int64),
                "place": Unbounded((2, 2), dtype=torch.float64),
            },
            shape=(2,) if grouped else (),
        )
        action = Bounded(-1.0, 1.0, (2, 1))
        if grouped:
            self.observation_spec = Composite(agents=Composite(observation=seen, shape=(2,)))
            self.action_spec = Composite(agents=Composite(action=action, shape=(2,)))
            self.reward_spec = Composite(agents=Composite(reward=Unbounded((2, 1)), shape=(2,)))
        else:
            self.observation_spec = Composite(observation=Unbounded((4,)))
            self.action_spec = Bounded(-1.0, 1.0, (1,))
        self.count = 0

    def _observe(self):
        seen = TensorDict(
            {
                "camera": torch.full((2, 2, 2), 51, dtype=torch.uint8),
                "kind": torch.tensor([0, 2]),
                "place": torch.tensor([[0.5, self.count], [0.25, self.count]], dtype=torch.float64),
            },
            [2],
        )
        return TensorDict({"agents": TensorDict({"observation": seen}, [2])})

    def _reset(self, tensordict=None, **kwargs):
        self.count = 0
        return self._observe()

    def _step(self, tensordict):
        self.count += 1
        out = self._observe()
        out["agents", "reward"] = torch.ones(2, 1)
        out["done"] = out["terminated"] = torch.zeros(1, dtype=torch.bool)
        return out

    def _set_seed(self, seed):
        pass


def torch_env(grouped=True):
    return OneTorch(grouped)


def torch_batch(num_envs):
    return VmasEnv("navigation", num_envs=num_envs, n_agents=2)


def torch_batch_of_three():
    return VmasEnv("navigation", num_envs=3, n_agents=2)
