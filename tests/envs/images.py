"""Environments whose agents see images."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from pettingzoo import ParallelEnv

SIDE = 8


class Lights(ParallelEnv[str, Any, Any]):
    """Each agent sees where a light is, left or right, in an image; the reward is 1 for saying so.

    Args:
        seen: ``"image"``, an image of bytes alone; ``"dict"``, the image, one of floats with the channels first and a
            vector; ``"tuple"``, the image and a number.
        continuous: say it with a number from -1 (left) to 1, which the reward is, instead of a choice.
        dies: the first agent dies in the second step.
        nan: the second image has a NaN from the third state on.
    """

    metadata = {"name": "lights", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(
        self, seen: str = "image", *, continuous: bool = False, dies: bool = False, nan: bool = False, n_agents: int = 2
    ) -> None:
        self.possible_agents = [f"lamp_{index}" for index in range(n_agents)]
        self.agents: list[str] = []
        self.seen, self.continuous, self.dies, self.nan = seen, continuous, dies, nan
        self.random = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Any:
        image = Box(0, 255, (SIDE, SIDE, 1), np.uint8)
        if self.seen == "image":
            return image
        if self.seen == "tuple":
            return Tuple([image, Discrete(2)])
        return Dict(eye=Dict(left=image, depth=Box(0, 1, (2, 9, 10))), place=Box(-1, 1, (3,)))

    def action_space(self, agent: str) -> Any:
        return Box(-1, 1, (1,)) if self.continuous else Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.steps = list(self.possible_agents), 0
        return self._look(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        acted, self.steps = self.agents, self.steps + 1
        rewards = {agent: self._reward(self.where[agent], actions[agent]) for agent in acted}
        dead = {agent: self.dies and self.steps == 2 and agent == self.possible_agents[0] for agent in acted}
        over = self.steps == 5
        self.agents = [] if over else [agent for agent in acted if not dead[agent]]
        return self._look(acted), rewards, dead, dict.fromkeys(acted, over), {agent: {} for agent in acted}

    def _reward(self, where: int, action: Any) -> float:
        return float((2 * where - 1) * action[0]) if self.continuous else float(action == where)

    def _look(self, agents: list[str]) -> Any:
        self.where = {agent: int(self.random.integers(2)) for agent in agents}
        return {agent: self._seen_by(agent) for agent in agents}

    def _seen_by(self, agent: str) -> Any:
        image, first = self.random.integers(100, size=(SIDE, SIDE, 1), dtype=np.uint8), self.where[agent] * SIDE // 2
        image[:, first : first + SIDE // 2] += 155
        if self.seen == "image":
            return image
        if self.seen == "tuple":
            return image, 1
        depth = np.full((2, 9, 10), 0.5, np.float32)
        if self.nan and self.steps >= 3:
            depth[0, 0, 0] = np.nan
        return {"eye": {"left": image, "depth": depth}, "place": np.zeros(3, np.float32)}


def lights(**kwargs: Any) -> Lights:
    return Lights(**kwargs)
