"""VMAS scenarios whose agents have other names, senses and powers, and that look for their keywords in several ways."""

import numpy as np
import torch
from vmas.simulator.core import Agent, World
from vmas.simulator.scenario import BaseScenario


class Named(BaseScenario):
    """Agents with the names in ``names``, of which ``odd`` differs from the others: it sees more, or is stronger."""

    def make_world(self, batch_dim, device, **kwargs):
        self.odd, differs = kwargs.pop("odd", None), kwargs.pop("differs", "sight")
        self.sight = differs == "sight"
        world = World(batch_dim, device)
        for name in kwargs.pop("names"):
            strong = name == self.odd and differs == "strength"
            world.add_agent(Agent(name=name, u_range=2.0 if strong else 1.0))
        return world

    def reset_world_at(self, env_index=None):
        for agent in self.world.agents:
            agent.set_pos(torch.zeros(2, device=self.world.device), batch_index=env_index)

    def reward(self, agent):
        return -agent.state.pos.norm(dim=-1)

    def observation(self, agent):
        more = [agent.state.vel] if self.sight and agent.name == self.odd else []
        return torch.cat([agent.state.pos, *more], dim=-1)


class Deaf(Named):
    """Draws from a generator that nobody seeds."""

    random = np.random.default_rng()

    def reset_world_at(self, env_index=None):
        for agent in self.world.agents:
            pos = torch.as_tensor(self.random.uniform(size=2), dtype=torch.float32)
            agent.set_pos(pos, batch_index=env_index)


class DictSight(Named):
    def observation(self, agent):
        return {"pos": agent.state.pos}


class Attributes(Named):
    """Keeps all its keywords as attributes."""

    def make_world(self, batch_dim, device, **kwargs):
        for name, value in kwargs.items():
            setattr(self, name, value)
        return super().make_world(batch_dim, device, names=[f"agent_{i}" for i in range(self.n_agents)])


class Later(Attributes):
    """Looks some up later."""

    def make_world(self, batch_dim, device, n_agents=2, **kwargs):
        self.options = kwargs
        return super().make_world(batch_dim, device, n_agents=n_agents)

    def done(self):
        return super().done() & self.options["may_end"]
