"""An environment whose agents act with a continuous and a discrete part."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from pettingzoo import ParallelEnv


class Tuner(ParallelEnv[str, Any, Any]):
    """Each agent sees a target in [-1, 1]: press the button that says its sign, and turn the knob to its size.

    The reward of a step is 1 for the right button, minus the distance of the knob to the size, which counts only if the
    button is right.

    Args:
        masks: only the first two of the three buttons are legal.
        dies: the first agent dies in the second step.
        switches: factors beside the button that do nothing, of two choices each.
    """

    metadata = {"name": "tuner", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(self, *, masks: bool = False, dies: bool = False, switches: int = 0, n_agents: int = 2) -> None:
        self.possible_agents = [f"radio_{index}" for index in range(n_agents)]
        self.agents: list[str] = []
        self.masks, self.dies, self.switches = masks, dies, switches
        self.random = np.random.default_rng(0)
        self.got: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> Any:
        return Box(-1, 1, (1,))

    def action_space(self, agent: str) -> Any:
        parts = {"knob": Box(0, 1, (1,)), "button": Discrete(3, start=1)}
        return Dict(parts | ({"switches": MultiDiscrete([2] * self.switches)} if self.switches else {}))

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.steps = list(self.possible_agents), 0
        return self._look(self.agents), self._infos(self.agents)

    def step(self, actions: dict[str, Any]) -> Any:
        acted, self.steps = self.agents, self.steps + 1
        self.got.append(actions)
        rewards = {agent: self._reward(float(self.target[agent][0]), actions[agent]) for agent in acted}
        dead = {agent: self.dies and self.steps == 2 and agent == self.possible_agents[0] for agent in acted}
        over = self.steps == 5
        self.agents = [] if over else [agent for agent in acted if not dead[agent]]
        return self._look(acted), rewards, dead, dict.fromkeys(acted, over), self._infos(acted)

    @staticmethod
    def _reward(target: float, action: dict[str, Any]) -> float:
        right = action["button"] == (2 if target > 0 else 1)
        return 1 - abs(abs(target) - float(action["knob"][0])) if right else 0.0

    def _look(self, agents: list[str]) -> Any:
        self.target = {agent: self.random.uniform(-1, 1, 1).astype(np.float32) for agent in agents}
        return dict(self.target)

    def _infos(self, agents: list[str]) -> dict[str, Any]:
        legal = np.array([1, 1, 0, *[1] * 2 * self.switches], np.int8)
        return {agent: {"action_mask": legal} if self.masks else {} for agent in agents}


def tuner(**kwargs: Any) -> Tuner:
    return Tuner(**kwargs)
