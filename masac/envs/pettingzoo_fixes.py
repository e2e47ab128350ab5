"""What PettingZoo's own environments get wrong, put right around them."""

from __future__ import annotations

from typing import Any

from pettingzoo import ParallelEnv
from pettingzoo.utils.wrappers import BaseParallelWrapper


def repair(env: ParallelEnv[Any, Any, Any]) -> ParallelEnv[Any, Any, Any]:
    """``env``, in a wrapper where it needs one."""
    if env.metadata.get("name") == "knights_archers_zombies_v11":
        return ZombiesFromTheStart(env)
    return env


class ZombiesFromTheStart(BaseParallelWrapper):
    """knights_archers_zombies with a spawn timer that starts with the episode.

    PettingZoo 1.27 lets it run on from the last one, so that not even the seed of an episode decides what happens.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode, and its timer."""
        timer = getattr(self.unwrapped, "zombie_spawn_interval", None)
        if timer is not None:
            timer.reset()
        return self.env.reset(seed=seed, options=options)
