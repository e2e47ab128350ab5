"""A scenario as a user would write one: two agents, nobody moves far, it ends for environments whose clock ran out."""

import torch
from vmas.simulator.core import Agent, World
from vmas.simulator.scenario import BaseScenario


class Scenario(BaseScenario):
    def make_world(self, batch_dim, device, **kwargs):
        self.n_agents = kwargs.pop("n_agents", 2)
        self.ends_after = kwargs.pop("ends_after", 3)
        assert not kwargs, f"unknown: {kwargs}"
        world = World(batch_dim, device)
        for i in range(self.n_agents):
            world.add_agent(Agent(name=f"agent_{i}"))
        self.clock = torch.zeros(batch_dim, device=device)
        return world

    def reset_world_at(self, env_index=None):
        for agent in self.world.agents:
            agent.set_pos(torch.zeros(2, device=self.world.device), batch_index=env_index)
        if env_index is None:
            self.clock[:] = 0
        else:
            self.clock[env_index] = 0

    def reward(self, agent):
        return -agent.state.pos.norm(dim=-1)

    def observation(self, agent):
        return torch.cat([agent.state.pos, agent.state.vel], dim=-1)

    def done(self):
        # Called once a step and once a reset; environments of even number end, the others go on.
        self.clock += 1
        even = torch.arange(len(self.clock)) % 2 == 0
        return even & (self.clock > self.ends_after)


class NoScenario:
    pass
