"""Two teams that pull on a rope: a symmetric game of two groups."""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

STEPS = 5


class TugOfWar(ParallelEnv):
    """Red and blue pull with an action in [-1, 1] each; a team gains what it pulls more than the other, per agent.

    An agent sees where the rope is, from its own side, and the fraction of the episode that is over.
    """

    metadata = {"name": "tug_of_war_v0"}  # noqa: RUF012  as PettingZoo has it
    render_mode = None

    def __init__(self, per_team=2, features=2, discrete=False):
        self.possible_agents = [f"{team}_{index}" for team in ("red", "blue") for index in range(per_team)]
        self.seen = Box(-100, 100, (features,), np.float32)
        self.acts = Discrete(3) if discrete else Box(-1, 1, (1,), np.float32)
        self.discrete = discrete

    def observation_space(self, agent):
        return self.seen

    def action_space(self, agent):
        return self.acts

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        start = np.random.default_rng(seed).uniform(-1, 1) if seed is not None else 0.0
        self.rope, self.steps = start, 0
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions):
        pulls = {agent: float(np.sum(action)) - self.discrete for agent, action in actions.items()}
        red, blue = (
            np.mean([pull for agent, pull in pulls.items() if agent.startswith(team)]) for team in ("red", "blue")
        )
        self.rope, self.steps = self.rope + red - blue, self.steps + 1
        agents, over = self.agents, self.steps == STEPS
        rewards = {agent: (red - blue) * (1 if agent.startswith("red") else -1) for agent in agents}
        observed = self._observe()
        self.agents = [] if over else agents
        flags = dict.fromkeys(agents, False)
        return observed, rewards, flags, dict.fromkeys(agents, over), {agent: {} for agent in agents}

    def _observe(self):
        found = {}
        for agent in self.agents:
            found[agent] = np.zeros(self.seen.shape, np.float32)
            found[agent][:2] = self.rope * (1 if agent.startswith("red") else -1), self.steps / STEPS
        return found


def tug(per_team=2, features=2, discrete=False):
    return TugOfWar(per_team, features, discrete)
