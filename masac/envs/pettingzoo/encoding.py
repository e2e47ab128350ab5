"""The observation space of one agent as tensors: observations become a vector and images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Space, Tuple
from gymnasium.spaces.utils import flatten, flatten_space
from torchrl.data import Bounded, TensorSpec, Unbounded

from masac.envs.pettingzoo.returned_values import read_observation
from masac.errors import ConfigError
from masac.images import ImageSpec, image_name, is_image

ACTION_MASK = "action_mask"

Path = tuple[str | int, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A part of an observation that is flattened as one.

    Args:
        path: the keys that lead to it; ``()`` for the whole observation.
        space: its space, neither a Dict nor a Tuple.
        features: the slice of the observation vector that it fills.
        divide_by: see :func:`divisor`.
    """

    path: Path
    space: Space[Any]
    features: slice
    divide_by: float


@dataclass(frozen=True, kw_only=True)
class ImageLeaf:
    """A part of an observation that is an image.

    Args:
        path: the keys that lead to it; ``()`` for the whole observation.
        space: its space.
        image: its name, shape and divisor.
    """

    path: Path
    space: Box
    image: ImageSpec

    def spec(self, n_agents: int) -> TensorSpec:
        """The spec of the images of N agents: bytes stay bytes, floats become float32."""
        shape = torch.Size([n_agents, *self.image.shape])
        low, high = (float(bound) for bound in (self.space.low.min(), self.space.high.max()))
        if self.space.dtype == np.uint8:
            return Bounded(int(low), int(high), shape, dtype=torch.uint8)
        if np.isfinite([low, high]).all() and low < high:
            return Bounded(low, high, shape, dtype=torch.float32)
        return Unbounded(shape, dtype=torch.float32)


class ObservationWriter:
    """Writes what an agent observes into a vector of float32 and, beside it, its images as they are.

    Which parts are images says :func:`masac.images.is_image`. The others stand side by side in the vector, those of a
    Dict in alphabetical order of its keys. A Box is flattened in C order; another space becomes a vector as in
    Gymnasium's ``flatten``. Bytes up to 255 are divided as :func:`divisor` says. An action mask at the top of a Dict is
    no feature.

    Args:
        space: the agent's observation space.
        agent: its name, for errors.

    Attributes:
        leaves: the parts of the vector, in order.
        images: the images, in order.
        size: features of the vector; 0 where all is images.
        has_mask: whether the observation holds an action mask.

    Raises:
        ConfigError: for a space that cannot be written as a vector.
    """

    def __init__(self, space: Any, agent: Any) -> None:
        self.space, self.agent = space, agent
        self.has_mask = isinstance(space, Dict) and ACTION_MASK in space.spaces
        self.leaves: list[Leaf] = []
        self.images: list[ImageLeaf] = []
        self.size = 0
        for path, part in _leaves(space, agent):
            if path == (ACTION_MASK,):
                continue
            if isinstance(part, Box) and is_image(part.shape, str(part.dtype)):
                name = image_name(path, [leaf.image.name for leaf in self.images])
                dtype = "uint8" if part.dtype == np.uint8 else "float32"
                image = ImageSpec(name=name, shape=part.shape, dtype=dtype, divide_by=divisor(part))
                self.images.append(ImageLeaf(path=path, space=part, image=image))
                continue
            start, self.size = self.size, self.size + int(np.prod(cast(Any, flatten_space(part).shape)))
            features = slice(start, self.size)
            self.leaves.append(Leaf(path=path, space=part, features=features, divide_by=divisor(part)))

    def write(self, observation: Any, vector: Array, images: Sequence[Array]) -> Any:
        """Write an observation; returns the action mask in it, None where it has none.

        Args:
            observation: as the environment returned it.
            vector: float32 ``[F]``.
            images: an array for each image.

        Raises:
            ConfigError: for an observation that is not in the space.
        """
        value = read_observation(self.space, observation, self.agent)
        for leaf in self.leaves:
            vector[leaf.features] = _flat(leaf, _at(value, leaf.path))
        for leaf, image in zip(self.images, images, strict=True):
            image[...] = _at(value, leaf.path)
        return value[ACTION_MASK] if self.has_mask else None


def divisor(space: Space[Any]) -> float:
    """The divisor of the numbers of an observation: 255 for bytes and images up to 255, else 1."""
    if not isinstance(space, Box) or not (space.high == 255).any():
        return 1.0
    return 255.0 if space.dtype == np.uint8 or is_image(space.shape, str(space.dtype)) else 1.0


def _leaves(space: Any, agent: Any, path: Path = ()) -> Iterator[tuple[Path, Space[Any]]]:
    """The parts of an observation space that are neither Dict nor Tuple, with the keys that lead to them."""
    if not isinstance(space, Space):
        raise ConfigError(
            f"observation_space(agent) must return a space of gymnasium; got {kind_of(space)} for {agent!r}. Use "
            "gymnasium.spaces in the environment."
        )
    if isinstance(space, Dict):
        for key in sorted(space.spaces, key=str):
            yield from _leaves(space.spaces[key], agent, (*path, key))
        return
    if isinstance(space, Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, agent, (*path, index))
        return
    if not isinstance(space, Box) and not space.is_np_flattenable:
        raise ConfigError(
            f"observations must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple; that of "
            f"{agent!r}{''.join(f'[{key!r}]' for key in path)} is in {type(space).__name__}. Choose another kind of "
            "observation in task.kwargs, or convert it in a task.factory of your own."
        )
    yield path, space


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _flat(leaf: Leaf, value: Any) -> Array:
    """A vector of all numbers of a value, in the order of Gymnasium's ``flatten``; bytes up to 255 are divided."""
    flat = value.reshape(-1) if isinstance(leaf.space, Box) else cast(Any, flatten(leaf.space, value))
    return flat if leaf.divide_by == 1 else flat / np.float32(leaf.divide_by)


def kind_of(value: Any) -> str:
    """The name of the class of a value, for errors."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
