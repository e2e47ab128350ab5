"""Gymnasium's spaces as tensors: an observation of any make becomes a vector, an action what its space wants.

The observation rule, for every agent: the leaves of its observation (nested ones in the order of their keys) are
flattened, cast to float32 and put side by side. Unsigned bytes that reach 255 (images) are divided by 255, a choice
(``Discrete``, each entry of a ``MultiDiscrete``) becomes a one-hot vector. An ``action_mask`` next to the observation
(or in the infos) is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray
from torchrl.data import Bounded, Categorical, MultiCategorical, TensorSpec

from masac.checks import ConfigError

MAX_FEATURES = 20_000
"""More than this is an image that a layer over all of its values would choke on."""

ACTION_MASK = "action_mask"


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    path: tuple[Any, ...]
    shape: tuple[int, ...]
    scale: float
    choices: NDArray[np.int64] | None
    lowest: NDArray[np.int64] | None
    start: int
    stop: int


def check_features(size: int, whose: str) -> None:
    """Raise :class:`ConfigError` for an observation of ``size`` features that no network of ours would learn from."""
    if not 1 <= size <= MAX_FEATURES:
        raise ConfigError(
            f"an observation must have 1 to {MAX_FEATURES:,} features; that of {whose} has {size:,}. Shrink images in "
            "a task.factory of yours, with SuperSuit's resize_v1 and color_reduction_v0 say, or choose another kind of "
            "observation in task.kwargs."
        )


class ObservationVector:
    """How the observations of a space are written as vectors.

    Args:
        space: of one agent's observations.
        agent: whose, for messages.

    Raises:
        ConfigError: for a space without a fixed size, or a vector too long to learn from.
    """

    def __init__(self, space: Space[Any], agent: str) -> None:
        self.agent = agent
        self.has_action_mask = isinstance(space, Dict) and ACTION_MASK in space.spaces
        self.leaves: list[_Leaf] = []
        size = 0
        for path, part in _leaves(space, ()):
            if path == (ACTION_MASK,):
                continue
            leaf = _read_leaf(path, part, size, agent)
            self.leaves.append(leaf)
            size = leaf.stop
        self.size = size
        check_features(size, f"agent {agent!r}")

    def write(self, observation: Any, out: NDArray[np.float32]) -> None:
        """Write one observation into ``out [F]``.

        Raises:
            ValueError: if the observation has another shape than its space says.
        """
        for leaf in self.leaves:
            value = observation
            for key in leaf.path:
                value = value[key]
            part = out[leaf.start : leaf.stop]
            flat = np.asarray(value).reshape(-1)
            if flat.size != (part.size if leaf.choices is None else leaf.choices.size):
                raise ValueError(
                    f"an observation must have the shape of its space; that of {self.agent!r}"
                    f"{''.join(f'[{key!r}]' for key in leaf.path)} must have {list(leaf.shape)}, "
                    f"got {list(np.shape(value))}."
                )
            if leaf.choices is not None:
                first = np.concatenate([[0], np.cumsum(leaf.choices)[:-1]])
                part[:] = 0.0
                part[first + flat - leaf.lowest] = 1.0
            elif leaf.scale != 1.0:
                np.multiply(flat, leaf.scale, out=part, casting="unsafe")
            else:
                part[:] = flat


class ActionTranslator:
    """The actions of a group: how TorchRL writes them, and what the environment wants.

    Args:
        space: of one agent's actions.
        agent: whose, for messages.

    Raises:
        ConfigError: for actions that are neither vectors nor choices.
    """

    def __init__(self, space: Space[Any], agent: str) -> None:
        self.space = space
        if isinstance(space, MultiBinary):
            self.sizes: tuple[int, ...] | None = (2,) * int(np.prod(space.shape))
        elif isinstance(space, MultiDiscrete):
            self.sizes = tuple(space.nvec.reshape(-1).tolist())
        elif isinstance(space, Discrete):
            self.sizes = (int(space.n),)
        elif isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
            self.sizes = None
        else:
            raise ConfigError(
                f"actions must be in a Box of floats, Discrete, MultiDiscrete or MultiBinary; those of {agent!r} are "
                f"in {space}. Translate them in a task.factory of yours."
            )

    @property
    def choices(self) -> int:
        """The choices of all factors of a discrete action, 0 for a continuous one."""
        return sum(self.sizes or ())

    def spec(self, lead: tuple[int, ...]) -> TensorSpec:
        """TorchRL's spec of actions with leading dimensions ``lead``."""
        if isinstance(self.space, Discrete):
            return Categorical(self.choices, shape=torch.Size(lead), dtype=torch.int64)
        if self.sizes is not None:
            return MultiCategorical(self.sizes, shape=torch.Size([*lead, len(self.sizes)]), dtype=torch.int64)
        assert isinstance(self.space, Box)
        low, high = (
            torch.as_tensor(bound.reshape(-1), dtype=torch.float32).expand(*lead, -1)
            for bound in (self.space.low, self.space.high)
        )
        return Bounded(low, high, shape=low.shape, dtype=torch.float32)

    def translate(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions ``[E, N, ...]`` as TorchRL writes them to those that agents are given, ``[E, N, *shape]``."""
        space, lead = self.space, actions.shape[:2]
        if isinstance(space, Box):
            actions = actions.reshape(*lead, *space.shape)
            # float32 may round a bound outwards.
            return np.clip(actions.astype(space.dtype), space.low, space.high)
        if isinstance(space, Discrete):
            return actions + space.start
        shaped = actions.reshape(*lead, *(space.shape or ()))
        return (shaped + space.start if isinstance(space, MultiDiscrete) else shaped).astype(space.dtype)


def _leaves(space: Space[Any], path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Space[Any]]]:
    if isinstance(space, Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(space, Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, (*path, index))
    else:
        yield path, space


def _read_leaf(path: tuple[Any, ...], space: Space[Any], start: int, agent: str) -> _Leaf:
    choices = lowest = None
    scale = 1.0
    if isinstance(space, Discrete):
        choices, lowest = np.array([space.n]), np.array([space.start])
    elif isinstance(space, MultiDiscrete):
        choices, lowest = space.nvec.reshape(-1).astype(np.int64), space.start.reshape(-1)
    elif isinstance(space, Box):
        if space.dtype == np.uint8 and space.high.size and space.high.max() == 255:
            scale = 1.0 / 255.0
    elif not isinstance(space, MultiBinary):
        where = "".join(f"[{key!r}]" for key in path)
        raise ConfigError(
            f"observations must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple; that of "
            f"{agent!r}{where} is in {type(space).__name__}. Choose another kind of observation in task.kwargs, or "
            "translate it in a task.factory of yours."
        )
    shape = tuple(space.shape or ())
    size = int(np.prod(shape)) if choices is None else int(choices.sum())
    return _Leaf(path=path, shape=shape, scale=scale, choices=choices, lowest=lowest, start=start, stop=start + size)
