"""What an environment does that trains, but hardly as its author means it: said once, in a warning."""

from __future__ import annotations

import multiprocessing
import random
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase, TransformedEnv

from masac.envs.unused_keywords import said_of_unused
from masac.errors import EnvironmentWarning


def warn_of_wrappers(env: Any) -> None:
    """Warn of wrappers that show the dead as living: SuperSuit's ``black_death_v3`` and others of that name.

    Their agents stay until the episode ends for all, with zero observations and rewards, and a time limit comes out as
    a termination.

    Args:
        env: a PettingZoo environment, wrapped in any way.
    """
    for layer in _layers(env):
        name = f"{type(layer).__module__}.{type(layer).__qualname__}"
        if "blackdeath" in name.lower().replace("_", ""):
            _warn(
                f"the wrapper {type(layer).__qualname__} ({type(layer).__module__}) hides who is dead: agents that "
                "died count as living, and a time limit as a termination. Leave it out: masac takes environments whose "
                "agents leave when they die."
            )


def warn_of_agents_kept_after_termination(agents: Collection[Any]) -> None:
    """Warn of agents that terminated in two steps in a row and are still among those that act."""
    if agents:
        _warn(
            f"agent {min(agents, key=str)!r} terminated in two steps in a row and is still in agents, so it counts as "
            "living. An environment must take those that are over out of agents."
        )


def warn_of_unused_keywords(kwargs: Mapping[str, Any], name: str, functions: Sequence[Callable[..., Any]]) -> None:
    """Warn of keywords that seem to be used by nobody: see :func:`~masac.envs.unused_keywords.said_of_unused`."""
    if (message := said_of_unused(kwargs, name, functions)) is not None:
        _warn(message)


def warn_of_ignored_seed(env: EnvBase, name: str) -> None:
    """Warn where an environment begins otherwise under the same seed. It is reset; random numbers drawn are put back.

    Args:
        env: any.
        name: the override that names it.
    """
    with random_numbers_kept():
        first, again = _begin(env), _begin(env)
    if not same_numbers(first, again):
        warn_that_seed_is_ignored(name)


def warn_that_seed_is_ignored(name: str) -> None:
    """Warn that evaluations and resumed runs will not be repeatable."""
    _warn(
        f"{name} ignores its seed: two episodes begun with the same one began differently. Evaluations are on other "
        "episodes each time, and neither they nor runs can be repeated. Draw all random numbers from a generator that "
        "reset(seed=...) seeds, and leave that alone where the seed is None (a TorchRL environment: set_seed(); a VMAS "
        "scenario: PyTorch's own generator)."
    )


def same_numbers(a: TensorDictBase, b: TensorDictBase) -> bool:
    """Whether two TensorDicts of the same entries hold the same numbers, NaN included."""
    pairs = ((value, b.get(key)) for key, value in a.items(True, True))
    return all(
        isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and bool(((x == y) | (x != x)).all())
        for x, y in pairs
    )


def in_main_process() -> bool:
    """Whether this is the process that a user started, and not one of many that do the same."""
    return multiprocessing.parent_process() is None


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Random numbers drawn meanwhile from PyTorch's, NumPy's and Python's generators are as if they had not been."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _begin(env: EnvBase) -> TensorDictBase:
    env.set_seed(0)
    return env.reset().clone()


def _layers(env: Any) -> Iterator[Any]:
    """An environment and what it is wrapped around, from the outside to the inside."""
    seen: set[int] = set()
    while env is not None and id(env) not in seen:
        seen.add(id(env))
        yield env
        inside = vars(env) if hasattr(env, "__dict__") else {}
        env = inside.get("env", inside.get("aec_env", inside.get("_env")))


def raw_of(env: EnvBase) -> Any:
    """The PettingZoo environment inside one of TorchRL's, where there is one."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return vars(env).get("_env")


def _warn(message: str) -> None:
    warnings.warn(message, EnvironmentWarning, stacklevel=2)
