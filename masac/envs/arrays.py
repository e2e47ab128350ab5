"""The memory in which environments leave what they observe and find what to do, for one process or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torchrl.data import Composite

from masac.envs.episode import STEP_COUNT, Episode
from masac.envs.single_environment import EnvironmentSpecs, Key, SingleEnvironment, leaves, numpy_dtype

NO_SEED = -1
ALIGNMENT = 64
"""Bytes to a multiple of which every array is aligned."""


class Arrays:
    """The entries of E environments as NumPy arrays ``[E, ...]``, in one piece of memory.

    Args:
        specs: of one environment.
        num_envs: E.
        counts_steps: whether there is a ``step_count``.
        memory: a buffer of :meth:`size` bytes that processes share; None for memory of this process.

    Attributes:
        actions: read by a step.
        following: what a step returned.
        current: what the next step begins with; complete after a reset only.
        over: whether the episode of an environment ended in the step, bool.
        begins: which environments are to begin an episode, bool.
        seeds: with which seeds they begin, int64, :data:`NO_SEED` for none.
    """

    def __init__(
        self, specs: EnvironmentSpecs, num_envs: int, *, counts_steps: bool, memory: Any | None = None
    ) -> None:
        shapes = _shapes(specs, num_envs, counts_steps=counts_steps)
        buffer = np.zeros(_size(shapes), np.uint8) if memory is None else np.frombuffer(memory, np.uint8)
        offset, tables = 0, {}
        for name, entries in shapes.items():
            tables[name] = {}
            for key, (shape, dtype) in entries.items():
                size = _bytes(shape, dtype)
                tables[name][key] = buffer[offset : offset + size].view(dtype).reshape(shape)
                offset += _aligned(size)
        self.actions: dict[Key, np.ndarray[Any, Any]] = tables["actions"]
        self.following: dict[Key, np.ndarray[Any, Any]] = tables["following"]
        self.current: dict[Key, np.ndarray[Any, Any]] = tables["current"]
        self.over, self.begins, self.seeds = (tables["control"][name,] for name in ("over", "begins", "seeds"))

    @staticmethod
    def size(specs: EnvironmentSpecs, num_envs: int, *, counts_steps: bool) -> int:
        """The bytes that the arrays take."""
        return _size(_shapes(specs, num_envs, counts_steps=counts_steps))

    def episode(self, index: int, environment: SingleEnvironment, *, horizon: int | None, rests: bool) -> Episode:
        """The episode of an environment that reads and writes the entries at ``index``."""
        actions, following, current = (
            {key: array[index] for key, array in table.items()}
            for table in (self.actions, self.following, self.current)
        )
        return Episode(environment, actions=actions, following=following, current=current, horizon=horizon, rests=rests)


def _shapes(
    specs: EnvironmentSpecs, num_envs: int, *, counts_steps: bool
) -> dict[str, dict[Key, tuple[tuple[int, ...], np.dtype[Any]]]]:
    """The shapes and dtypes of the arrays of ``num_envs`` environments, in the order in which they lie in memory."""

    def of(*composites: Composite) -> dict[Key, tuple[tuple[int, ...], np.dtype[Any]]]:
        return {
            key: ((num_envs, *spec.shape), numpy_dtype(cast(torch.dtype, spec.dtype)))
            for composite in composites
            for key, spec in leaves(composite)
        }

    count = {STEP_COUNT: ((num_envs, 1), np.dtype(np.int64))} if counts_steps else {}
    flags = {(name,): ((num_envs,), np.dtype(bool)) for name in ("over", "begins")}
    return {
        "actions": of(specs.action),
        "following": {**of(specs.observation, specs.reward, specs.done), **count},
        "current": {**of(specs.observation, specs.done), **count},
        "control": {**flags, ("seeds",): ((num_envs,), np.dtype(np.int64))},
    }


def _size(shapes: Mapping[str, Mapping[Key, tuple[tuple[int, ...], np.dtype[Any]]]]) -> int:
    return sum(_aligned(_bytes(shape, dtype)) for entries in shapes.values() for shape, dtype in entries.values())


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
