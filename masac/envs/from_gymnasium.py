"""A Gymnasium environment of several agents as a PettingZoo parallel environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Tuple
from pettingzoo import ParallelEnv

from masac.errors import ConfigError


def from_gymnasium(env: gymnasium.Env[Any, Any] | str, **kwargs: Any) -> FromGymnasium:
    """A parallel environment from a Gymnasium one whose spaces have a part per agent.

    From the command line: ``task.factory=masac.envs.from_gymnasium:from_gymnasium task.kwargs.env=ID``.

    Args:
        env: the environment, or its id for ``gymnasium.make``, such as ``my_package.my_module:MyTeam-v0``.
        kwargs: of ``gymnasium.make``, for an id.

    Raises:
        ConfigError: for spaces without a part per agent.
    """
    made = gymnasium.make(env, disable_env_checker=True, **kwargs) if isinstance(env, str) else env
    return FromGymnasium(made)


class FromGymnasium(ParallelEnv[Any, Any, Any]):
    """Each agent has a part of the observation and action space, a Dict by agent or a Tuple (``agent_0``, ...).

    Observations and actions are then dicts or tuples too. Rewards and flags may be dicts, tuples, lists and arrays with
    one entry per agent, or one for all. An agent that ends leaves; a Dict may lack entries of agents that left. Infos
    by agent are kept where they are dicts, so that masks in them are found.

    Args:
        env: the environment.

    Raises:
        ConfigError: for spaces without a part per agent.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        seen, acted = env.observation_space, env.action_space
        if type(seen) is not type(acted) or not isinstance(seen, Dict | Tuple) or len(seen) != len(acted):  # pyright: ignore
            raise ConfigError(
                "a Gymnasium environment of several agents must have observation and action spaces that are both a "
                f"Dict or both a Tuple with an entry per agent; got {_kind(seen)} and {_kind(acted)}. Divide them "
                "among the agents in a task.factory of your own."
            )
        self.env, self.render_mode = env, env.render_mode
        self.metadata = {"name": "from_gymnasium_v0", **env.metadata}
        self._by_name = isinstance(seen, Dict)
        keys = list(acted.spaces) if isinstance(acted, Dict) else list(range(len(seen.spaces)))
        if isinstance(seen, Dict) and set(keys) != set(seen.spaces):
            raise ConfigError(
                "both spaces of a Gymnasium environment of several agents must have the same keys, its agents; got "
                f"{', '.join(map(str, seen.spaces))} and {', '.join(map(str, keys))}. Correct the environment."
            )
        self._keys = {key if self._by_name else f"agent_{key}": key for key in keys}
        self.possible_agents = list(self._keys)
        self.agents: list[Any] = []

    def observation_space(self, agent: Any) -> Any:
        """The part of an agent."""
        return self.env.observation_space[self._keys[agent]]  # pyright: ignore[reportIndexIssue]

    def action_space(self, agent: Any) -> Any:
        """The part of an agent."""
        return self.env.action_space[self._keys[agent]]  # pyright: ignore[reportIndexIssue]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode with all agents."""
        observations, info = self.env.reset(seed=seed, options=options)
        self.agents, self._last = list(self.possible_agents), {}
        return self._of(observations, self.agents), self._infos(info, self.agents)

    def step(self, actions: dict[Any, Any]) -> Any:
        """Let the agents act; for one of a Tuple that left, its last action is repeated."""
        self._last |= actions
        acted, agents = self.agents, self.agents if self._by_name else self.possible_agents
        given = {self._keys[agent]: self._last[agent] for agent in agents}
        observations, rewards, terminated, truncated, info = self.env.step(
            given if self._by_name else tuple(given.values())
        )
        ends, cuts = (self._each(flags, acted, bool) for flags in (terminated, truncated))
        self.agents = [agent for agent in acted if not ends[agent] and not cuts[agent]]
        return self._of(observations, acted), self._each(rewards, acted, float), ends, cuts, self._infos(info, acted)

    def render(self) -> Any:
        """As the environment draws itself."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _of(self, entries: Any, agents: Iterable[Any]) -> dict[Any, Any]:
        keyed: Mapping[Any, Any] = entries if self._by_name else dict(enumerate(entries))
        return {agent: keyed[self._keys[agent]] for agent in agents if self._keys[agent] in keyed}

    def _each(self, value: Any, agents: Iterable[Any], kind: type) -> dict[Any, Any]:
        """One entry per agent; flags under ``"__all__"`` are for all agents."""
        if isinstance(value, Mapping):
            common = kind(value.get("__all__", 0))
            return {agent: kind(value.get(self._keys[agent], 0)) or common for agent in agents}
        flat = np.asarray(value).reshape(-1)
        if flat.size not in (1, len(self._keys)):
            raise ConfigError(
                "rewards and flags of a Gymnasium environment of several agents must have one entry per agent, also of "
                f"those that left, or one for all; got {flat.size} for {len(self._keys)} agents. Correct the "
                "environment."
            )
        flat = np.broadcast_to(flat, len(self._keys))
        return {agent: kind(flat[index]) for index, agent in enumerate(self._keys) if agent in agents}

    def _infos(self, info: Any, agents: Iterable[Any]) -> dict[Any, Any]:
        found = {agent: info.get(self._keys[agent]) for agent in agents} if isinstance(info, Mapping) else {}
        return {agent: one if isinstance(one := found.get(agent), Mapping) else {} for agent in agents}


def _kind(space: Any) -> str:
    size = f" of {len(space)}" if isinstance(space, Dict | Tuple) else ""
    return f"{type(space).__name__}{size}"
