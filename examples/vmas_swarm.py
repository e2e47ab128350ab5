"""Your own VMAS scenario: a dozen robots learn to form a ring around a beacon.

Shows what a scenario is (a class with five methods), how masac finds it (``task.scenario="module:Class"``), and how to
train from Python with an ``ExperimentConfig`` and a ``Trainer``. To train it from a shell in this folder:

    masac train task=vmas/custom task.scenario=vmas_swarm:Scenario task.kwargs.n_agents=12 run_dir=runs/swarm

Run it:

    python examples/vmas_swarm.py                                   # about two minutes on two CPU cores
    python examples/vmas_swarm.py --frames 2000 --agents 4          # seconds; learns nothing yet
    python examples/rollout.py runs/swarm                           # then: roll the policy out
    masac render runs/swarm -o runs/swarm.gif                       # and watch it
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vmas.simulator.core import Agent, Landmark, Sphere, World
from vmas.simulator.scenario import BaseScenario
from vmas.simulator.utils import Color, ScenarioUtils

from masac import AlgorithmConfig, EvaluationConfig, ExperimentConfig, TaskConfig, Trainer, TrainingConfig


class Scenario(BaseScenario):
    """Robots observe the beacon and their nearest neighbours, and are rewarded for places on the ring with room.

    VMAS simulates E environments at once: positions are ``[E, 2]``, rewards ``[E]``, observations ``[E, features]``.
    """

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> World:
        """Build the world once. Keywords come from ``task.kwargs``."""
        n_agents = kwargs.pop("n_agents", 12)
        self.ring = kwargs.pop("ring", 0.6)  # radius of the ring
        self.room = kwargs.pop("room", 0.2)  # wanted distance to the nearest neighbour
        self.neighbours = min(kwargs.pop("neighbours", 3), n_agents - 1)  # observed neighbours
        ScenarioUtils.check_kwargs_consumed(kwargs)  # makes a misspelt keyword an error
        world = World(batch_dim, device, x_semidim=1, y_semidim=1)
        for i in range(n_agents):
            world.add_agent(Agent(name=f"robot_{i}", shape=Sphere(0.04), collide=False, u_multiplier=0.5))
        self.beacon = Landmark("beacon", shape=Sphere(0.03), collide=False, color=Color.GREEN)
        world.add_landmark(self.beacon)
        return world

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Place everything at random in one environment, or in all (None)."""
        for entity, extent in [(self.beacon, 0.3), *((agent, 1.0) for agent in self.world.agents)]:
            shape = (self.world.batch_dim if env_index is None else 1, 2)
            place = torch.empty(shape, device=self.world.device).uniform_(-extent, extent)
            entity.set_pos(place if env_index is None else place[0], batch_index=env_index)

    def observation(self, agent: Agent) -> Tensor:
        """The robot's velocity, and the relative positions of the beacon and the nearest neighbours."""
        offsets = self._offsets(agent)
        nearest = offsets.norm(dim=-1).topk(self.neighbours, largest=False).indices  # [E, neighbours]
        seen = offsets.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 2)).flatten(1)
        return torch.cat([agent.state.vel, self.beacon.state.pos - agent.state.pos, seen], dim=-1)

    def reward(self, agent: Agent) -> Tensor:
        """Minus the distance to the ring, minus what the nearest neighbour lacks to the wanted distance."""
        off_ring = ((agent.state.pos - self.beacon.state.pos).norm(dim=-1) - self.ring).abs()
        nearest = self._offsets(agent).norm(dim=-1).amin(dim=-1)
        return -off_ring - (self.room - nearest).clamp(min=0)

    def done(self) -> Tensor:
        """Never True: episodes only end at the horizon, which is a truncation."""
        return torch.zeros(self.world.batch_dim, dtype=torch.bool, device=self.world.device)

    def _offsets(self, agent: Agent) -> Tensor:
        """Relative positions of all other robots, ``[E, N - 1, 2]``."""
        others = [other.state.pos for other in self.world.agents if other is not agent]
        return torch.stack(others, dim=1) - agent.state.pos.unsqueeze(1)


def main() -> None:
    """Train, and compare with random actions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60_000, help="frames: steps, summed over the environments")
    parser.add_argument("--agents", type=int, default=12, help="number of robots")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/swarm"), help="the folder of the run")
    arguments = parser.parse_args()

    config = ExperimentConfig(
        task=TaskConfig(
            suite="vmas",
            scenario="vmas_swarm:Scenario",  # this file: Python searches the script's folder
            kwargs={"n_agents": arguments.agents},
            num_envs=64,
            horizon=60,
        ),
        algorithm=AlgorithmConfig(name="isac", critic="independent", gamma=0.9),  # critics see their own robot
        training=TrainingConfig(total_frames=arguments.frames, warmup_frames=1_000),
        evaluation=EvaluationConfig(episodes=32, every_frames=10_000),
    )
    with Trainer(config, arguments.run_dir) as trainer:
        trainer.run()
        trained = trainer.evaluate()
        random = trainer.evaluate(random_groups=trainer.learning_names)
    print(f"mean return per agent over {config.evaluation.episodes} episodes:")
    print(f"  random  {random.returns['robot'].mean():7.2f}")
    print(f"  trained {trained.returns['robot'].mean():7.2f}")
    print(f"the policy is in {arguments.run_dir}; next: python examples/rollout.py {arguments.run_dir}")


if __name__ == "__main__":
    main()
