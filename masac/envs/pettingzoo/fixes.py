"""Fixes for bugs in PettingZoo's own environments, and for work that its conversions do in vain."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import aec_to_parallel_wrapper
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    BaseParallelWrapper,
    ClipOutOfBoundsWrapper,
    OrderEnforcingWrapper,
)

from masac.errors import RunFailedError

CHECKS = (OrderEnforcingWrapper, AssertOutOfBoundsWrapper, ClipOutOfBoundsWrapper)
"""Wrappers that check how an environment is used: no step before a reset, actions within bounds."""


def metadata_of(env: Any) -> dict[str, Any]:
    """``env.metadata``; empty for an environment without it, which PettingZoo declares and does not set."""
    return getattr(env, "metadata", None) or {}


def repair(env: ParallelEnv[Any, Any, Any]) -> ParallelEnv[Any, Any, Any]:
    """``env``, in a wrapper if it needs one."""
    if type(env) is aec_to_parallel_wrapper:
        # An environment here is reset first, and actions are in their space. Without the wrappers that check it, no
        # attribute is looked up through them, some thirty times per step.
        while type(env.aec_env) in CHECKS:
            env.aec_env = env.aec_env.env
        if type(env.aec_env).last is AECEnv.last:
            env.__class__ = TurnsWithoutLast  # not a new one, which would lose what its maker set on it
    if metadata_of(env).get("name") == "knights_archers_zombies_v11":
        return ZombiesFromTheStart(env)
    return env


class TurnsWithoutLast(aec_to_parallel_wrapper):  # pyright: ignore[reportMissingTypeArgument]
    """PettingZoo's conversion without its call of ``last()`` before each agent's turn.

    It uses nothing of what that returns, an observation among it. The environment keeps its ``last()``.
    """

    def step(self, actions: dict[Any, Any]) -> Any:
        """Give every agent its turn: observations, rewards, terminations, truncations and infos."""
        turns, rewards = self.aec_env, defaultdict(int)
        for agent in turns.agents:
            if turns.agent_selection != agent:
                raise RunFailedError(
                    "agents must take turns in the order of env.agents, and end only after the last turn of a cycle; "
                    f"got the turn of {turns.agent_selection!r} where {agent!r} is due. Fix the environment"
                )
            turns.step(actions[agent])
            for one in turns.agents:
                rewards[one] += turns.rewards[one]
        ends, infos = (dict(turns.terminations), dict(turns.truncations)), dict(turns.infos)
        observations = {agent: turns.observe(agent) for agent in turns.agents}
        while turns.agents and any(flags[turns.agent_selection] for flags in (turns.terminations, turns.truncations)):
            turns.step(None)  # so that the agents that ended leave
        self.agents = turns.agents
        return observations, rewards, *ends, infos


class ZombiesFromTheStart(BaseParallelWrapper):
    """knights_archers_zombies with a spawn timer that starts with the episode.

    In PettingZoo 1.27 the timer continues from the last episode, so the seed does not determine an episode.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode and its timer."""
        timer = getattr(self.unwrapped, "zombie_spawn_interval", None)
        if timer is not None:
            timer.reset()
        return self.env.reset(seed=seed, options=options)
