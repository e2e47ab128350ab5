"""The spaces of the pettingzoo suite in Gymnasium's own terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.spaces.utils import flatdim
from torchrl.envs import EnvBase

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo import make_one
from masac.envs.pettingzoo_wrapper import ReadableEnv, image_divisor
from masac.envs.spaces import GroupSpaces, ObservationPart, Path, end_of, observation_names, spaces_of_specs
from masac.envs.vector_observations import VectorObservations


def read_pettingzoo_spaces(task: TaskConfig) -> dict[str, GroupSpaces]:
    """The spaces of a task of the pettingzoo suite, by group; of a TorchRL environment what its specs say."""
    env = make_one(task, 1)
    try:
        return _read(env)
    finally:
        env.close(raise_if_closed=False)


def _read(env: EnvBase) -> dict[str, GroupSpaces]:
    readable = getattr(env, "_env", None)
    if not isinstance(readable, ReadableEnv):
        return spaces_of_specs(env)
    raw, out = readable.env, {}
    leaves = VectorObservations(env).leaves
    for group, agents in cast(dict[str, list[Any]], cast(Any, env).group_map).items():
        parts: list[ObservationPart] = []
        for leaf in leaves[group]:
            path, space = _follow(raw.observation_space(agents[0]), leaf[2:])
            for part in _parts_of_space(space, path):
                parts.append(replace(part, offset=end_of(parts)))
        action = raw.action_space(agents[0])
        out[group] = GroupSpaces(
            agents=tuple(map(str, agents)),
            parts=tuple(parts),
            feature_names=observation_names(raw, agents[0], str(agents[0]), end_of(parts)),
            action_shape=tuple(action.shape or ()),
            action_start=_start(action),
        )
    return out


def _follow(space: Space[Any], keys: Sequence[str]) -> tuple[Path, Space[Any]]:
    """What the keys of a TensorDict lead to in the space it was made of."""
    path: Path = ()
    for key in keys:
        assert isinstance(space, Dict)
        own = next(one for one in space.spaces if str(one) == key)
        path, space = (*path, own), space.spaces[own]
    return path, space


def _parts_of_space(space: Space[Any], path: Path) -> Iterator[ObservationPart]:
    """The parts of a space in the order of Gymnasium's ``flatten``, each with offset 0."""
    if isinstance(space, Dict | Tuple):
        inner = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in inner:
            yield from _parts_of_space(part, (*path, key))
        return
    fields: dict[str, Any] = {"encoding": "gymnasium"}
    if isinstance(space, Discrete):
        fields = {"encoding": "one-hot", "choices": (int(space.n),), "start": (int(space.start),)}
    elif isinstance(space, MultiDiscrete):
        choices, start = (tuple(map(int, one.reshape(-1))) for one in (space.nvec, space.start))
        fields = {"encoding": "one-hot", "choices": choices, "start": start}
    elif isinstance(space, Box | MultiBinary):
        fields = {"encoding": "values"}
    yield ObservationPart(
        path=path,
        offset=0,
        size=flatdim(space),
        shape=tuple(space.shape or ()),
        dtype=str(space.dtype),
        divide_by=image_divisor(space),
        **fields,
    )


def _start(action: Space[Any]) -> tuple[int, ...]:
    if isinstance(action, Discrete):
        return (int(action.start),)
    if isinstance(action, MultiDiscrete):
        return tuple(map(int, action.start.reshape(-1)))
    return (0,) * math.prod(action.shape or ()) if isinstance(action, MultiBinary) else ()
