"""Fixes for bugs in PettingZoo's own environments, and for work that its conversions do in vain."""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import aec_to_parallel_wrapper
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    BaseParallelWrapper,
    ClipOutOfBoundsWrapper,
    OrderEnforcingWrapper,
)

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
            # Before each agent's action the conversion asks for last(), and uses nothing of it.
            env.aec_env.last = _nothing_is_read
    if metadata_of(env).get("name") == "knights_archers_zombies_v11":
        return ZombiesFromTheStart(env)
    return env


def _nothing_is_read() -> tuple[None, ...]:
    """In place of ``last()``: observation, reward, both flags and info."""
    return (None,) * 5


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
