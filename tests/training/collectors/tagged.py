"""An environment whose every transition can be told from all others."""

import itertools
import os

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

numbers = itertools.count()
"""Of the environments of this process."""


class Tagged(ParallelEnv):
    """One agent; sees the process it is in, the environment's number in it, and the steps this ever did."""

    metadata = {"name": "tagged_v0"}  # noqa: RUF012  as PettingZoo has it
    render_mode = None
    possible_agents = ["a_0"]  # noqa: RUF012

    def __init__(self):
        self.number = next(numbers)
        self.steps = 0

    def observation_space(self, agent):
        return Box(0.0, 2.0**24, (3,), np.float32)  # float32 has all integers up to there

    def action_space(self, agent):
        return Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents = ["a_0"]
        return self._observe(), {"a_0": {}}

    def step(self, actions):
        self.steps += 1
        return self._observe(), {"a_0": 1.0}, {"a_0": False}, {"a_0": False}, {"a_0": {}}

    def _observe(self):
        return {"a_0": np.array([os.getpid(), self.number, self.steps], np.float32)}


def make():
    return Tagged()
