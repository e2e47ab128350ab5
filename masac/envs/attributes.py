"""Attributes of environments that a run changes while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchrl.envs import EnvBase

from masac.envs.vector_env import EpisodeStepper, VectorEnv
from masac.errors import ConfigError


def set_attributes(env: EnvBase, attributes: Mapping[str, Any]) -> None:
    """Set attributes of all environments.

    Args:
        env: vectorised environments in this process.
        attributes: by name.

    Raises:
        ConfigError: for an attribute that an environment does not have, or environments in other processes.
    """
    for target in _targets(env):
        for name, value in attributes.items():
            if not hasattr(target, name):
                raise ConfigError(
                    f"an attribute that a callback sets must exist in the environment; {type(target).__name__} has no "
                    f"{name!r}. It has: {', '.join(one for one in vars(target) if not one.startswith('_'))}."
                )
            setattr(target, name, value)


def _targets(env: EnvBase) -> list[Any]:
    """What holds a user's attributes: the VMAS scenario, or every environment without its wrappers."""
    if isinstance(env, VectorEnv):
        if not isinstance(env.stepper, EpisodeStepper):
            raise ConfigError(
                "set_environment must be called in a run whose environments are in this process; got "
                "task.num_workers above 0. Change it with task.num_workers=0"
            )
        raw = [getattr(episode.environment, "raw", episode.environment) for episode in env.stepper.episodes]
        return [getattr(one, "unwrapped", one) for one in raw]
    simulator = getattr(env, "vmas", None)
    return [env] if simulator is None else [simulator.scenario]
