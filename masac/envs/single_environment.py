"""What a single environment must have to be stepped beside others: specs, and entries written into NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torchrl.data import Composite, TensorSpec

Key = tuple[str, ...]
Row = Mapping[Key, np.ndarray[Any, Any]]
"""The entries of one environment, as views of arrays that hold those of many: writing into them is returning them."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpecs:
    """The specs of one environment, without a batch axis, as TorchRL has them.

    Args:
        action: ``(group, "action")``.
        observation: ``(group, "observation")``, ``[N, F]`` float32, and other entries of a state, such as ``mask``.
        reward: ``(group, "reward")``.
        done: ``done``, ``terminated``, ``truncated``, at the root, in the groups or both.
        agents: the names of the agents of each group, in order; empty where the environment does not say.
    """

    action: Composite
    observation: Composite
    reward: Composite
    done: Composite
    agents: Mapping[str, list[Any]]


class SingleEnvironment(Protocol):
    """One environment, which writes what it returns into a row of arrays.

    Attributes:
        specs: of its entries.
        raw: the environment as its library has it.
    """

    specs: EnvironmentSpecs
    raw: Any

    def reset(self, row: Row, *, seed: int | None) -> None:
        """Begin an episode; writes observations and flags.

        Args:
            row: observation and done entries.
            seed: of all that is random from now on; None to continue with the random numbers there are.
        """
        ...

    def step(self, actions: Row, row: Row) -> None:
        """Take a step.

        Args:
            actions: ``(group, "action")``; those of agents that are gone do not matter.
            row: observation, reward and done entries, written here.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def leaves(spec: Composite, path: Key = ()) -> Iterator[tuple[Key, TensorSpec]]:
    """The specs in a composite that are not composites themselves, by key."""
    for name, part in spec.items():
        if isinstance(part, Composite):
            yield from leaves(part, (*path, str(name)))
        elif part is not None:
            yield (*path, str(name)), part


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The same dtype in NumPy."""
    return torch.empty(0, dtype=dtype).numpy().dtype
