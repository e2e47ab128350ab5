"""A user's own environments and networks, passed in Python, as keys of the config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from masac.errors import ConfigError
from masac.named_objects import name_of
from masac.training.config import ExperimentConfig


def with_own_parts(config: ExperimentConfig, *, env: Callable[..., Any] | None) -> ExperimentConfig:
    """The config with the names of functions that were passed in Python; see :class:`Trainer` for the arguments.

    Raises:
        ConfigError: for something that cannot be called.
    """
    _check_callable("env", env)
    if env is not None:
        task = config.task
        if task.scenario is not None:  # its keywords and its success are those of another environment
            task = replace(task, kwargs={}, success=None)
        task = replace(task, suite="pettingzoo", scenario=None, factory=name_of(env), joint_resets=True)
        config = replace(config, task=task)
    return config


def _check_callable(name: str, made: object) -> None:
    if made is not None and not callable(made):
        raise ConfigError(
            f"{name} must be a function that makes it; got {type(made).__name__}. Pass a function, such as "
            f"Trainer(config, {name}=make_{name})"
        )
