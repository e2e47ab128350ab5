"""A user's own environments and networks, passed in Python, as keys of the config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from masac.errors import ConfigError
from masac.named_objects import name_of
from masac.training.config import ExperimentConfig


def with_own_parts(
    config: ExperimentConfig,
    *,
    env: Callable[..., Any] | None = None,
    actor: Callable[..., Any] | None = None,
    critic: Callable[..., Any] | None = None,
) -> ExperimentConfig:
    """The config with the names of functions that were passed in Python; see :class:`Trainer` for the arguments.

    Raises:
        ConfigError: for something that cannot be called.
    """
    for name, made in (("env", env), ("actor", actor), ("critic", critic)):
        _check_callable(name, made)
    names = {key: name_of(made, key) for key, made in (("actor", actor), ("critic", critic)) if made is not None}
    config = replace(config, model=replace(config.model, **names))
    if env is not None:
        task = config.task
        if task.scenario is not None:  # its keywords and its success are those of another environment
            task = replace(task, kwargs={}, success=None)
        task = replace(task, suite="pettingzoo", scenario=None, factory=name_of(env, "env"), joint_resets=True)
        config = replace(config, task=task)
    return config


def _check_callable(name: str, made: object) -> None:
    if made is not None and not callable(made):
        raise ConfigError(
            f"{name} must be a function that makes it; got {type(made).__name__}. Pass a function, such as "
            f"Trainer(config, {name}=make_{name})"
        )
