"""The action space of one agent as tensors: choices start at 0, nested spaces are a continuous and a discrete part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from torchrl.data import Bounded, Categorical, MultiCategorical, TensorSpec

from masac.envs.pettingzoo.encoding import Array, Path, kind_of
from masac.errors import ConfigError
from masac.groups import DISCRETE_ACTION


class ActionReader:
    """Reads the actions of an agent from arrays.

    The Boxes of a Dict or Tuple form a continuous action together, side by side, and its other parts the factors of a
    discrete action, those of a Dict in alphabetical order of its keys. A space with both is hybrid.

    Args:
        space: the agent's action space.
        agent: its name, for errors.

    Attributes:
        sizes: the number of choices of each factor; empty for a continuous action.
        is_hybrid: whether there are a continuous and a discrete part.

    Raises:
        ConfigError: for a part that is neither a Box of floats nor discrete.
    """

    def __init__(self, space: Any, agent: Any) -> None:
        self.space = space
        leaves = list(_leaves(space, agent))
        self._boxes = [part for part in leaves if isinstance(part, Box)]
        self.sizes = [size for part in leaves if not isinstance(part, Box) for size in _factors(part)]
        self.is_hybrid = bool(self._boxes and self.sizes)

    def specs(self, n_agents: int) -> dict[str, TensorSpec]:
        """The specs of the action entries of N agents.

        They are ``[N]`` (Discrete), ``[N, factors]`` (other discrete ones) or ``[N, dimensions]`` (continuous ones).
        """
        discrete: TensorSpec | None = None
        if isinstance(self.space, Discrete):
            discrete = Categorical(int(self.space.n), shape=torch.Size([n_agents]), dtype=torch.int64)
        elif self.sizes:
            discrete = MultiCategorical(self.sizes, shape=torch.Size([n_agents, len(self.sizes)]))
        if not self._boxes:
            assert discrete is not None
            return {"action": discrete}
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which read_groups refuses
            low, high = (
                torch.from_numpy(
                    np.stack([np.concatenate([one.reshape(-1).astype(np.float32) for one in bounds])] * n_agents)
                )
                for bounds in ([box.low for box in self._boxes], [box.high for box in self._boxes])
            )
        continuous = Bounded(low, high, low.shape, dtype=torch.float32)
        return {"action": continuous} if discrete is None else {"action": continuous, DISCRETE_ACTION: discrete}

    def __call__(self, rows: Sequence[Array]) -> Any:
        """An action in the space, in its shape and dtype.

        Args:
            rows: of the agent, in the arrays of :meth:`specs`.
        """
        if isinstance(self.space, Discrete):
            return int(rows[0]) + int(self.space.start)
        return self._read(self.space, _Cursor(rows[0]), _Cursor(rows[-1]))

    def _read(self, space: Space[Any], continuous: _Cursor, discrete: _Cursor) -> Any:
        if isinstance(space, Dict):
            return {key: self._read(space[key], continuous, discrete) for key in _keys(space)}
        if isinstance(space, Tuple):
            return tuple(self._read(part, continuous, discrete) for part in space.spaces)
        if isinstance(space, Discrete):
            return int(discrete.take(1)[0]) + int(space.start)
        shape, dtype = space.shape or (), space.dtype
        size = math.prod(shape)
        if isinstance(space, Box):  # float32 may round a bound outwards
            action = continuous.take(size).reshape(shape).astype(dtype)
            return np.minimum(np.maximum(action, space.low), space.high)
        start = space.start if isinstance(space, MultiDiscrete) else 0
        return (discrete.take(size).reshape(shape) + start).astype(dtype)

    def starts(self) -> list[int]:
        """The lowest choice of each factor."""
        return [start for part in _leaves(self.space, "") for start in _starts(part)]


class _Cursor:
    """Takes the entries of a row one after another."""

    def __init__(self, row: Array) -> None:
        self.row, self.place = row, 0

    def take(self, number: int) -> Array:
        taken, self.place = self.row[self.place : self.place + number], self.place + number
        return taken


def read_action_mask(mask: Any, sizes: Sequence[int], agent: Any) -> Array:
    """The action mask of a living agent as a bool vector, one entry per choice, factors side by side.

    Args:
        mask: an array, or a tuple, list or dict of the masks of the factors, a dict in alphabetical order of its keys.
        sizes: the number of choices of each factor.
        agent: its name, for errors.

    Raises:
        ConfigError: for a mask of another size, or one that allows nothing.
    """
    flat = np.concatenate([np.asarray(part).reshape(-1) for part in _mask_parts(mask)]).astype(bool)
    choices = sum(sizes)
    if flat.size != choices:
        raise ConfigError(
            f"the action mask of agent {agent!r} must have {choices} entries, one per choice; got {flat.size}. "
            "Correct the mask in the environment."
        )
    if not flat.any():
        raise ConfigError(
            f"the action mask of agent {agent!r} must allow an action; got {flat.tolist()}. Correct "
            "the environment, or let the agent end."
        )
    return flat


def _mask_parts(mask: Any) -> Iterator[Any]:
    if isinstance(mask, Mapping):
        for key in sorted(mask, key=str):
            yield from _mask_parts(mask[key])
    elif isinstance(mask, tuple | list):
        for part in mask:
            yield from _mask_parts(part)
    else:
        yield mask


def _factors(space: Space[Any]) -> list[int]:
    """The number of choices of each factor of a discrete action."""
    if isinstance(space, Discrete):
        return [int(space.n)]
    if isinstance(space, MultiDiscrete):
        return [int(n) for n in space.nvec.reshape(-1)]
    return [2] * int(np.prod(cast(MultiBinary, space).shape))


def _starts(space: Space[Any]) -> list[int]:
    if isinstance(space, Discrete):
        return [int(space.start)]
    if isinstance(space, MultiDiscrete):
        return [int(start) for start in space.start.reshape(-1)]
    return [0] * int(np.prod(space.shape or ())) if isinstance(space, MultiBinary) else []


def _keys(space: Dict) -> list[Any]:
    return sorted(space.spaces, key=str)


def _leaves(space: Any, agent: Any, path: Path = ()) -> Iterator[Space[Any]]:
    """The parts of an action space that are neither Dict nor Tuple, in order."""
    if isinstance(space, Dict):
        for key in _keys(space):
            yield from _leaves(space.spaces[key], agent, (*path, key))
    elif isinstance(space, Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, agent, (*path, index))
    elif isinstance(space, Discrete | MultiDiscrete | MultiBinary) or (
        isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)
    ):
        yield space
    else:
        raise ConfigError(
            "actions must be in a Box of floats, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these; "
            f"those of {agent!r}{''.join(f'[{key!r}]' for key in path)} are in "
            f"{space if isinstance(space, Space) else kind_of(space)}. Convert them in a task.factory of your own."
        )
