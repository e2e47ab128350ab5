"""The scripted deaths with observations that hide the time limit, so that optimal values can be derived by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from tests.envs.scripted import DEATH, ScriptedDeaths


class TimelessDeaths(ScriptedDeaths):
    """``a_0`` sees how far it is from its death, the others nothing that changes; all see their index."""

    @cache  # noqa: B019  PettingZoo wants the same object every time
    def observation_space(self, agent: str) -> Any:
        return Box(0.0, 1.0, (4,), np.float32)

    def _observe(self, agents: list[str] | None = None, alive: list[str] | None = None) -> dict[str, Any]:
        agents = agents or self.agents
        out: dict[str, Any] = {}
        for agent in agents:
            clock = min(self.step_count, DEATH) / DEATH if agent == "a_0" else 0.0
            out[agent] = np.array([*(agent == other for other in self.possible_agents), clock], np.float32)
        return out


def make(**kwargs: Any) -> TimelessDeaths:
    return TimelessDeaths(**kwargs)
