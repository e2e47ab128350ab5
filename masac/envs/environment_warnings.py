"""Warnings about environments that can be trained on but probably do not do what their author intended."""

from __future__ import annotations

import multiprocessing
import random
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from masac.envs.unused_keywords import unused_message
from masac.errors import EnvironmentWarning


def warn_of_wrappers(env: Any) -> None:
    """Warn of wrappers that keep dead agents in the environment, such as SuperSuit's ``black_death_v3``.

    With them agents stay until the episode ends, with zero observations and rewards, and a time limit is reported as a
    termination.

    Args:
        env: a PettingZoo environment with any wrappers.
    """
    for layer in _layers(env):
        name = f"{type(layer).__module__}.{type(layer).__qualname__}"
        if "blackdeath" in name.lower().replace("_", ""):
            _warn(
                f"the wrapper {type(layer).__qualname__} ({type(layer).__module__}) hides deaths: agents that "
                "died count as alive, and a time limit as a termination. Remove it: masac supports environments "
                "whose agents leave when they die."
            )


def warn_of_agents_kept_after_termination(agents: Collection[Any]) -> None:
    """Warn of agents that terminated in two consecutive steps and still act."""
    if agents:
        _warn(
            f"agent {min(agents, key=str)!r} terminated in two consecutive steps and is still in agents, so it "
            "counts as alive. An environment must remove agents that terminated from agents."
        )


def warn_of_unused_keywords(kwargs: Mapping[str, Any], name: str, functions: Sequence[Callable[..., Any]]) -> None:
    """Warn of keywords that seem not to be used; arguments as of :func:`~masac.envs.unused_keywords.unused_message`."""
    if (message := unused_message(kwargs, name, functions)) is not None:
        _warn(message)


def warn_of_ignored_seed(env: EnvBase, name: str) -> None:
    """Warn if the first states of an environment differ with the same seed. Random numbers of the process stay.

    Args:
        env: any environment; it is reset.
        name: the override that names it.
    """
    with random_numbers_kept():
        first, again = _begin(env), _begin(env)
    if not _same_numbers(first, again):
        _warn(
            f"{name} ignores its seed: two episodes with the same seed began differently. So each evaluation has other "
            "episodes, and neither evaluations nor runs can be repeated. Draw all random numbers from a generator that "
            "reset(seed=...) seeds unless the seed is None (in a TorchRL environment: set_seed(); in a VMAS scenario: "
            "PyTorch's own generator)."
        )


def in_main_process() -> bool:
    """Whether this is the process that the user started."""
    return multiprocessing.parent_process() is None


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Restore the random states of PyTorch, NumPy and Python afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _same_numbers(a: TensorDictBase, b: TensorDictBase) -> bool:
    """Whether two TensorDicts with the same keys hold the same numbers, where NaN equals NaN."""
    pairs = ((value, b.get(key)) for key, value in a.items(True, True))
    return all(
        isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and bool(((x == y) | (x != x)).all())
        for x, y in pairs
    )


def _begin(env: EnvBase) -> TensorDictBase:
    """The second episode after seeding, of the first environment: all episodes follow from the seed."""
    env.set_seed(0)
    first = torch.zeros(*env.batch_size, 1, dtype=torch.bool, device=env.device)
    first[:1] = True
    env.reset(TensorDict({"_reset": first}, env.batch_size, device=env.device))
    begun = env.reset(TensorDict({"_reset": first}, env.batch_size, device=env.device))
    return begun[:1].clone()


def _layers(env: Any) -> Iterator[Any]:
    """An environment and all that it wraps, from the outside in."""
    seen: set[int] = set()
    while env is not None and id(env) not in seen:
        seen.add(id(env))
        yield env
        inside = vars(env) if hasattr(env, "__dict__") else {}
        env = inside.get("env", inside.get("aec_env", inside.get("_env")))


def _warn(message: str) -> None:
    warnings.warn(message, EnvironmentWarning, stacklevel=2)
