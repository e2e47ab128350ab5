"""PettingZoo environments that leave out or mix up what the parallel API asks for, each in one way."""

from functools import cache

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Space
from pettingzoo import ParallelEnv


class Walkers(ParallelEnv):
    """Two walkers that see where they are; truncated after ``steps``.

    Args:
        names: of the agents.
        steps: of an episode.
        spoil: changes what step number t returns, ``spoil(env, t, out)``; reset is number 0 and returns two dicts.
        action: their space of actions.
        seeded: whether reset listens to its seed.
    """

    metadata = {"name": "walkers_v0"}  # noqa: RUF012  as PettingZoo has it
    render_mode = None

    def __init__(self, names=("a_0", "a_1"), steps=4, spoil=None, action=None, seeded=True):
        self.possible_agents, self.steps, self.seeded = list(names), steps, seeded
        self.spoil = spoil or (lambda env, t, out: out)
        self.action = action or Discrete(2)
        self.random = np.random.default_rng()

    @cache  # noqa: B019  PettingZoo wants the same object every time
    def observation_space(self, agent) -> Space:
        return Box(-9, 9, (2,))

    @cache  # noqa: B019
    def action_space(self, agent):
        return self.action

    def observed(self):
        return {agent: np.float32([self.place, self.t]) for agent in self.agents}

    def reset(self, seed=None, options=None):
        if seed is not None and self.seeded:
            self.random = np.random.default_rng(seed)
        self.agents, self.t, self.place = list(self.possible_agents), 0, self.random.uniform()
        return self.spoil(self, 0, (self.observed(), {agent: {} for agent in self.agents}))

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        acted = list(self.agents)
        over = self.t >= self.steps
        flags = dict.fromkeys(acted, False), dict.fromkeys(acted, over)
        out = (self.observed(), dict.fromkeys(acted, 1.0), *flags, {agent: {} for agent in acted})
        out = self.spoil(self, self.t, out)
        if over:
            self.agents = []
        return out


def drops(part, agent="a_1", at=1):
    """Leaves an agent out of one of the dicts."""

    def spoil(env, t, out):
        if t == at:
            out[part].pop(agent)
        return out

    return spoil


def says(part, value, agent="a_1", at=1):
    """Has something else for an agent in one of the dicts."""

    def spoil(env, t, out):
        if t == at:
            out[part][agent] = value
        return out

    return spoil


def returns(value, at=1):
    return lambda env, t, out: value if t == at else out


def walkers(**kwargs):
    return Walkers(**kwargs)


def unbounded():
    return Walkers(action=Box(-np.inf, np.inf, (2,)))


def deaf():
    return Walkers(seeded=False)


class Forgetful(Walkers):
    """Makes a new generator in every reset, from the seed or from nothing."""

    def reset(self, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        return super().reset()


def forgetful():
    return Forgetful()


def takes_anything(**options):
    return Walkers(steps=options.get("steps", 4))


def takes_any_attribute(**options):
    env = Walkers()
    for name, value in options.items():
        setattr(env, name, value)
    env.steps = min(env.steps, 10)
    return env


class Configured(Walkers):
    """Reads its configuration when an episode begins, with a name that is not in this file's quotes."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def reset(self, seed=None, options=None):
        self.steps = self.config.get("".join(("st", "eps")))
        return super().reset(seed, options)


def reads_its_config_in_reset(**kwargs):
    return Configured(kwargs)


class Lives(Walkers):
    """Agent a_0 dies at step 2; it is back at once, or in step 4 with ``later``."""

    def __init__(self, later):
        super().__init__(steps=6)
        self.later = later

    def step(self, actions):
        out = super().step(actions)
        if self.t == 2:
            out[2]["a_0"] = True
            if self.later:
                self.agents.remove("a_0")
        if self.t == 4 and self.later:
            self.agents.insert(0, "a_0")
            out[0]["a_0"] = np.float32([5, 5])
        return out


def lives(later=False):
    return Lives(later)


def masked_by_info(first=True, then=True, size=2):
    """Whether a mask comes with the reset, and with steps."""

    def spoil(env, t, out):
        if first if t == 0 else then:
            for agent in env.agents:
                out[-1][agent]["action_mask"] = np.ones(size, np.int8)
        return out

    return Walkers(spoil=spoil)


class Masked(Walkers):
    """Its observations are a Dict with the action mask in it."""

    def __init__(self, spoil=None):
        super().__init__(spoil=spoil)

    @cache  # noqa: B019
    def observation_space(self, agent) -> Space:
        return Dict(observation=Box(-9, 9, (2,)), action_mask=MultiBinary(2), kind=Discrete(3))

    def observed(self):
        mask = np.ones(2, np.int8)
        return {
            agent: {"observation": seen, "action_mask": mask, "kind": 1} for agent, seen in super().observed().items()
        }
