"""Your own PettingZoo environment in which agents die: crabs feed where the tide may wash them away.

Shows what masac needs of a PettingZoo environment (only PettingZoo's rules), how masac finds it
(``task.factory="module:function"``), and how it treats ends. A crab that is washed away *terminates*: its value ends,
and nothing reported of it later counts. When the time is up, the living crabs are *truncated*, and the critic target
bootstraps from their last state.

Run it:

    python examples/pettingzoo_deaths.py                            # about a minute on two CPU cores
    python examples/pettingzoo_deaths.py --frames 1000 --crabs 2    # seconds; learns nothing yet
    python examples/rollout.py runs/crabs                           # then: roll the policy out
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from pettingzoo import ParallelEnv

from masac.cli.main import main as masac

STEPS = 50
"""Steps of an episode."""


class Tide(ParallelEnv):
    """Crabs on a line beside water that rises and falls. The nearer to the water, the better the food.

    Args:
        crabs: number of crabs.
    """

    metadata = {"name": "tide_v0", "render_modes": []}  # noqa: RUF012  PettingZoo's form
    render_mode = None

    def __init__(self, crabs: int = 4) -> None:
        self.possible_agents = [f"crab_{i}" for i in range(crabs)]
        self.agents: list[str] = []
        self.places = dict.fromkeys(self.possible_agents, 0.0)
        self.random = np.random.default_rng()

    @cache  # noqa: B019  PettingZoo expects the same object every time
    def observation_space(self, agent: str) -> Box:
        """Distance to the water, positions of water and crab, speed of the water, fraction of crabs alive."""
        return Box(-3.0, 3.0, (5,), np.float32)

    @cache  # noqa: B019
    def action_space(self, agent: str) -> Box:
        """Move towards the water (-1) or away from it (1)."""
        return Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Put all crabs on dry sand."""
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.phase, self.speed = self.random.uniform(0, 2 * np.pi), self.random.uniform(0.1, 0.3)
        self.places = {crab: self.water() + self.random.uniform(0.2, 1.0) for crab in self.agents}
        return self.observe(), {crab: {} for crab in self.agents}

    def step(self, actions: dict[str, np.ndarray]) -> tuple[dict, dict, dict, dict, dict]:
        """Move the living crabs, which are those with actions, then the water."""
        for crab, action in actions.items():
            self.places[crab] += 0.15 * float(action[0])
        self.time += 1
        heights = {crab: self.places[crab] - self.water() for crab in self.agents}
        rewards = {crab: max(1.0 - height, 0.0) if height > 0 else 0.0 for crab, height in heights.items()}
        terminations = {crab: height <= 0 for crab, height in heights.items()}  # washed away
        truncations = {crab: self.time >= STEPS and not terminations[crab] for crab in self.agents}  # time is up
        observations, infos = self.observe(), {crab: {} for crab in self.agents}
        self.agents = [crab for crab in self.agents if not (terminations[crab] or truncations[crab])]
        return observations, rewards, terminations, truncations, infos

    def water(self, ahead: int = 0) -> float:
        """Position of the water's edge, now or ``ahead`` steps later."""
        return 0.5 * float(np.sin(self.phase + self.speed * (self.time + ahead)))

    def observe(self) -> dict[str, np.ndarray]:
        """Observations of all crabs in ``agents``."""
        water, left = self.water(), len(self.agents) / len(self.possible_agents)
        speed = 5 * (self.water(ahead=1) - water)
        return {
            crab: np.array([self.places[crab] - water, water, self.places[crab], speed, left], np.float32).clip(-3, 3)
            for crab in self.agents
        }


def make(crabs: int = 4) -> Tide:
    """The factory that ``task.factory`` names; its arguments are ``task.kwargs``."""
    return Tide(crabs)


def main() -> None:
    """Train as from a shell, and print the mean return per agent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16_000, help="frames: steps, summed over the environments")
    parser.add_argument("--crabs", type=int, default=4, help="number of agents")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/crabs"), help="the folder of the run")
    arguments = parser.parse_args()

    # The same as "masac train ..." from a shell in this folder.
    masac(
        [
            "train",
            "task=pettingzoo/custom",
            "task.factory=pettingzoo_deaths:make",  # this file: Python searches the script's folder
            f"task.kwargs.crabs={arguments.crabs}",
            f"training.total_frames={arguments.frames}",
            "training.warmup_frames=500",
            "training.updates_per_frame=0.125",
            "algorithm.gamma=0.95",
            f"run_dir='{arguments.run_dir}'",
        ]
    )
    summary = json.loads((arguments.run_dir / "summary.json").read_text())
    print(f"mean return per agent (food per crab): {summary['eval_return_mean']:.1f} in at most {STEPS} steps")


if __name__ == "__main__":
    main()
