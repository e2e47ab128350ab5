"""Gymnasium environments of two agents, with a Dict or a Tuple of spaces."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple


class Team(gymnasium.Env[Any, Any]):
    """The reward of an agent is its action; the first one ends in the second step, all are cut off after the third.

    Args:
        named: spaces are Dicts of ``left`` and ``right``, and all that is returned is by agent.
    """

    def __init__(self, *, named: bool = True) -> None:
        self.named, self.got = named, []
        parts = {"left": Box(-1, 1, (1,)), "right": Box(-1, 1, (2,))}
        actions = {"left": Discrete(2), "right": Discrete(3)}
        self.observation_space = Dict(parts) if named else Tuple(parts.values())
        self.action_space = Dict(actions) if named else Tuple(actions.values())

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.got.append(action)
        self.steps += 1
        ended, over = [self.steps >= 2, False], self.steps == 3
        if not self.named:
            return self._seen(), list(map(float, action)), ended, over, {}
        rewards = {agent: float(one) for agent, one in action.items()}
        info = {agent: {"action_mask": np.ones(2 if agent == "left" else 3)} for agent in action}
        return self._seen(), rewards, {"left": ended[0], "right": False}, {"__all__": over}, info

    def _seen(self) -> Any:
        seen = {"left": np.full(1, 0.5, np.float32), "right": np.full(2, 0.25, np.float32)}
        return seen if self.named else tuple(seen.values())


class Solo(gymnasium.Env[Any, Any]):
    observation_space, action_space = Box(-1, 1, (1,)), Discrete(2)


gymnasium.register("Team-v0", Team)
