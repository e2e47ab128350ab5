"""Agents that must remember: each is told a word once, and is asked for it when it leaves.

In the first step every agent hears one of two words. Agent i is asked in step i + 2, says a word, and is gone; all
others go on. It gets 1 for its own word and -1 for the other one.

The best return per agent is 1: say what you heard. Without a memory it is 0, whatever is learned: when an agent is
asked, its observation is the same for both words, and they are equally likely. So this task shows whether memories
reach from the first observation to the last, for agents that end at different times.

Run it:

    python examples/memory.py                   # with a memory, about a minute on two CPU cores
    python examples/memory.py --memory none     # without one
    python examples/memory.py --frames 1500     # seconds; learns nothing yet
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from masac.cli.main import main as masac


class Recall(ParallelEnv):
    """Every agent hears a word in the first step and must say it in its last one.

    Args:
        agents: number of agents.
    """

    metadata = {"name": "recall_v0", "render_modes": []}  # noqa: RUF012  PettingZoo's form
    render_mode = None

    def __init__(self, agents: int = 3) -> None:
        self.possible_agents = [f"agent_{i}" for i in range(agents)]
        self.agents: list[str] = []
        self.random = np.random.default_rng()

    @cache  # noqa: B019  PettingZoo expects the same object every time
    def observation_space(self, agent: str) -> Box:
        """The word (-1 or 1, and 0 after the first step), and whether the agent is asked now."""
        return Box(-1.0, 1.0, (2,), np.float32)

    @cache  # noqa: B019
    def action_space(self, agent: str) -> Discrete:
        """Say the first word (0) or the second (1)."""
        return Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Draw a word for every agent."""
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.words = {agent: int(self.random.integers(2)) for agent in self.agents}
        return self.observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        """Those who are asked answer and leave."""
        asked = {agent: self.time == self.asked_at(agent) for agent in self.agents}
        right = {agent: int(actions[agent]) == self.words[agent] for agent in self.agents}
        rewards = {agent: (1.0 if right[agent] else -1.0) if asked[agent] else 0.0 for agent in self.agents}
        self.time += 1
        observations, infos = self.observe(), {agent: {} for agent in self.agents}
        truncations = dict.fromkeys(self.agents, False)
        self.agents = [agent for agent in self.agents if not asked[agent]]
        return observations, rewards, asked, truncations, infos

    def asked_at(self, agent: str) -> int:
        """The step in which an agent is asked."""
        return self.possible_agents.index(agent) + 2

    def observe(self) -> dict[str, np.ndarray]:
        """Observations of all agents in ``agents``."""
        return {
            agent: np.array(
                [2 * self.words[agent] - 1 if self.time == 0 else 0, self.time == self.asked_at(agent)], np.float32
            )
            for agent in self.agents
        }


def make(agents: int = 3) -> Recall:
    """The factory that ``task.factory`` names; its arguments are ``task.kwargs``."""
    return Recall(agents)


def main() -> None:
    """Train as from a shell, and print the mean return per agent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", choices=("gru", "lstm", "none"), default="gru", help="what agents remember with")
    parser.add_argument("--frames", type=int, default=6_000, help="frames: steps, summed over the environments")
    parser.add_argument("--agents", type=int, default=3, help="number of agents")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/memory"), help="the folder of the run")
    arguments = parser.parse_args()

    # The same as "masac train ..." from a shell in this folder.
    masac(
        [
            "train",
            "task=pettingzoo/custom",
            "task.factory=memory:make",  # this file: Python searches the script's folder
            f"task.kwargs.agents={arguments.agents}",
            "task.num_envs=32",
            f"model.memory={arguments.memory}",
            "model.memory_size=32",
            "model.hidden=[64]",
            "training.sequence_length=10",
            "training.batch_size=64",
            f"training.total_frames={arguments.frames}",
            "training.warmup_frames=1000",
            "training.updates_per_frame=0.05",
            "training.actor_lr=3e-3",
            "training.critic_lr=3e-3",
            "evaluation.every_frames=2000",
            f"run_dir='{arguments.run_dir}'",
        ]
    )
    summary = json.loads((arguments.run_dir / "summary.json").read_text())
    best = 0 if arguments.memory == "none" else 1
    print(f"mean return per agent: {summary['eval_return_mean']:.2f} (the best possible with this memory: {best})")


if __name__ == "__main__":
    main()
