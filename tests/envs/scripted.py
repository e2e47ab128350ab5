"""A PettingZoo environment that does exactly what is written here, for numbers derived by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv

DEATH = 2
END = 5


class ScriptedDeaths(ParallelEnv):
    """Three agents; ``a_0`` dies at step 2, the others are cut short at step 5.

    An agent sees its own index as a one-hot vector, ``step / 5`` and who is alive, ``[3 + 1 + 3]``. It gets 1 a step
    for action 1 and 0 for action 0, or ``1 - action²`` for a continuous one.

    Args:
        continuous: actions in [-1, 1] instead of two discrete ones.
        action_mask: None, ``"observation"`` or ``"info"``: where to say that an agent may not do action 1 in odd steps.
    """

    metadata = {"name": "scripted_deaths_v0", "render_modes": []}  # noqa: RUF012  as PettingZoo has it
    render_mode = None

    def __init__(self, continuous: bool = False, action_mask: str | None = None) -> None:
        self.possible_agents = ["a_0", "a_1", "a_2"]
        self.agents: list[str] = []
        self.continuous, self.action_mask = continuous, action_mask
        self.step_count = 0

    @cache  # noqa: B019  PettingZoo wants the same object every time
    def observation_space(self, agent: str) -> Any:
        space = Box(0.0, 1.0, (7,), np.float32)
        if self.action_mask == "observation":
            return Dict({"observation": space, "action_mask": Box(0, 1, (2,), np.int8)})
        return space

    @cache  # noqa: B019
    def action_space(self, agent: str) -> Any:
        return Box(-1.0, 1.0, (1,), np.float32) if self.continuous else Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        self.agents = list(self.possible_agents)
        self.step_count = 0
        return self._observe(), self._infos()

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        assert set(actions) == set(self.agents), f"got actions of {sorted(actions)}, alive are {self.agents}"
        self.step_count += 1
        acted = list(self.agents)
        rewards = {
            agent: float(1.0 - actions[agent][0] ** 2) if self.continuous else float(actions[agent] == 1)
            for agent in acted
        }
        terminations = {agent: agent == "a_0" and self.step_count >= DEATH for agent in acted}
        truncations = {agent: self.step_count >= END and not terminations[agent] for agent in acted}
        alive = [agent for agent in acted if not terminations[agent]]
        observations, infos = self._observe(acted, alive), self._infos(acted)
        self.agents = [agent for agent in acted if not (terminations[agent] or truncations[agent])]
        return observations, rewards, terminations, truncations, infos

    def _observe(self, agents: list[str] | None = None, alive: list[str] | None = None) -> dict[str, Any]:
        agents, alive = agents or self.agents, self.agents if alive is None else alive
        living = [agent in alive for agent in self.possible_agents]
        out: dict[str, Any] = {}
        for agent in agents:
            own = [agent == other for other in self.possible_agents]
            vector = np.array([*own, self.step_count / END, *living], np.float32)
            masked = self.action_mask == "observation"
            out[agent] = {"observation": vector, "action_mask": self._legal()} if masked else vector
        return out

    def _infos(self, agents: list[str] | None = None) -> dict[str, Any]:
        agents = agents or self.agents
        # Infos may hold anything, and other things in other steps.
        note = {"note": f"step {self.step_count}"} if self.step_count % 2 else {}
        mask = {"action_mask": self._legal()} if self.action_mask == "info" else {}
        return {agent: {**note, **mask} for agent in agents}

    def _legal(self) -> np.ndarray:
        return np.array([1, (self.step_count + 1) % 2], np.int8)


def parallel_env(**kwargs: Any) -> ScriptedDeaths:
    return ScriptedDeaths(**kwargs)
