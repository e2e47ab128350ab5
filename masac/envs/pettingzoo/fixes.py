"""Fixes for bugs in PettingZoo's own environments, and for work that its conversions do in vain."""

from __future__ import annotations

from functools import partial
from typing import Any

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import aec_to_parallel_wrapper
from pettingzoo.utils.wrappers import BaseParallelWrapper


def metadata_of(env: Any) -> dict[str, Any]:
    """``env.metadata``; empty for an environment without it, which PettingZoo declares and does not set."""
    return getattr(env, "metadata", None) or {}


def repair(env: ParallelEnv[Any, Any, Any]) -> ParallelEnv[Any, Any, Any]:
    """``env``, in a wrapper if it needs one."""
    if type(env) is aec_to_parallel_wrapper and type(env.aec_env).last is AECEnv.last:
        # Before each agent's action it asks for last(), and uses nothing of it: an observation per agent and step.
        env.aec_env.last = partial(env.aec_env.last, observe=False)
    if metadata_of(env).get("name") == "knights_archers_zombies_v11":
        return ZombiesFromTheStart(env)
    return env


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
