"""Builds one environment of a task of the pettingzoo suite, with errors for what is not supported."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import gymnasium
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import aec_to_parallel
from torchrl.envs import EnvBase

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.fixes import metadata_of, repair
from masac.envs.pettingzoo.names import hint, install_hint
from masac.envs.suites import suite_named
from masac.errors import ConfigError
from masac.named_objects import find_object
from masac.process.tracebacks import construction_error


def build(task: TaskConfig, *, num_envs: int) -> ParallelEnv[Any, Any, Any] | EnvBase:
    """One environment from the module or the factory of a task; AEC environments are converted to parallel ones.

    Args:
        task: its ``scenario`` or ``factory``, and its ``kwargs``.
        num_envs: passed to a factory with a parameter of this name, which may make a batch.

    Raises:
        ConfigError: if the environment does not exist or is not supported.
    """
    kwargs, name = dict(task.kwargs), name_of(task)
    with _quiet(task):
        make = find(task)
        if task.factory is not None and "num_envs" in inspect.signature(make).parameters:
            kwargs.setdefault("num_envs", num_envs)
        env = _call(make, kwargs, name)
    return _as_parallel(env, name)


def with_render_mode(task: TaskConfig) -> TaskConfig:
    """The task with the keyword ``render_mode="rgb_array"``, if its module or factory takes that.

    Raises:
        ConfigError: if there is no such module or factory.
    """
    with _quiet(task):
        make = find(task)
    parameters = inspect.signature(make).parameters.values()
    if not any(one.name == "render_mode" or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return task
    return replace(task, kwargs={**task.kwargs, "render_mode": "rgb_array"})


@contextmanager
def _quiet(task: TaskConfig) -> Iterator[None]:
    """Suppress windows, sound and announcements."""
    os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "hide"
    if task.kwargs.get("render_mode") != "human":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ["SDL_AUDIODRIVER"] = "dummy"  # importing pettingzoo sets one that may not exist
    with warnings.catch_warnings():
        # PettingZoo 1.27 deprecates its modules for a registry, which does not contain mpe2's environments.
        warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
        yield


def name_of(task: TaskConfig) -> str:
    """The override that names the module or factory of a task."""
    return f"task.scenario={task.scenario}" if task.factory is None else f"task.factory={task.factory}"


def find(task: TaskConfig) -> Callable[..., Any]:
    """The function that makes the environment of a task.

    Raises:
        ConfigError: if there is none.
    """
    suite_named(task.suite).check_named(task)
    return _find_module(str(task.scenario)) if task.factory is None else _find_factory(task.factory)


def _find_factory(name: str) -> Callable[..., Any]:
    function = find_object(name, "task.factory")
    if not callable(function):
        raise ConfigError(f"task.factory must name a function; got {name!r}, which is {function!r}.")
    return function


def _find_module(name: str) -> Callable[..., Any]:
    try:
        module = import_module(name)
    except ImportError as error:
        raise ConfigError(_explain_import(name, error)) from error
    for function in ("parallel_env", "env"):
        if hasattr(module, function):
            return getattr(module, function)
    raise ConfigError(
        f"task.scenario must be a module with a parallel_env function; {name} has none. "
        f"It has: {', '.join(_public(module)) or 'nothing'}. Name another function with task.scenario=null "
        f"task.factory={name}:function."
    )


def _explain_import(name: str, error: ImportError) -> str:
    start = f"task.scenario must be a module that can be imported; got {name!r}"
    missing = error.name or ""
    if missing and not f"{name}.".startswith(f"{missing}."):
        return f"{start}, which needs the package {missing!r} ({error}). {install_hint(missing)}"
    return f"{start} ({error}). {hint(name)}".strip()


def _call(make: Callable[..., Any], kwargs: dict[str, Any], name: str) -> Any:
    try:
        return make(**kwargs)
    except ImportError as error:
        missing = error.name or getattr(error.__cause__, "name", None)  # Gymnasium raises its own, without the name
        needs = f"it needs {missing!r} ({error})" if missing else f"it raised {type(error).__name__}: {error}"
        raise ConfigError(f"{name} must be importable; {needs}. {install_hint(missing or '')}") from error
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"task.kwargs must fit {name}; got {_plain(kwargs)}, for which it raised {type(error).__name__}: {error}"
        ) from error
    except Exception as error:
        raise construction_error(name, error, kwargs) from error


def _plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in kwargs.items()}


def _as_parallel(env: Any, name: str) -> ParallelEnv[Any, Any, Any] | EnvBase:
    if isinstance(env, EnvBase):
        return env
    if isinstance(env, ParallelEnv):
        return repair(env)
    if isinstance(env, AECEnv):
        if metadata_of(env).get("is_parallelizable", False):
            return repair(aec_to_parallel(env))
        raise ConfigError(
            f"{name} must be a parallel environment; got one in which agents take turns (AEC). Turn-based games are "
            "not supported. If all agents act in every cycle and the environment advances only at its end, set "
            "metadata['is_parallelizable'] = True, or convert it in a task.factory of your own with "
            "pettingzoo.utils.conversions.aec_to_parallel."
        )
    if isinstance(env, gymnasium.Env):
        raise ConfigError(
            f"{name} must be an environment of several agents; got {env}, a single-agent Gymnasium environment. "
            "Train it with a library for single agents, or wrap it as a PettingZoo ParallelEnv in your own "
            "task.factory."
        )
    raise ConfigError(f"{name} must make a PettingZoo ParallelEnv or a TorchRL EnvBase; it made {type(env).__name__}.")


def _public(module: ModuleType) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))]
