"""The spaces of the pettingzoo suite in Gymnasium's own terms."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.spaces.utils import flatdim

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.actions import ActionReader
from masac.envs.pettingzoo.encoding import ObservationWriter, divisor
from masac.envs.pettingzoo.environment import PettingZooEnvironment
from masac.envs.pettingzoo.make import make_single
from masac.envs.space_meanings import GroupSpaces, ObservationPart, Path, end_of, observation_names, spaces_of_specs


def read_pettingzoo_spaces(task: TaskConfig) -> dict[str, GroupSpaces]:
    """The spaces of a task of the pettingzoo suite, by group; of a TorchRL environment what its specs say."""
    env = make_single(task, 1)
    try:
        return _read(env) if isinstance(env, PettingZooEnvironment) else spaces_of_specs(env.raw)
    finally:
        env.close()


def _read(env: PettingZooEnvironment) -> dict[str, GroupSpaces]:
    raw, out = env.raw, {}
    for group, agents in env.specs.agents.items():
        parts: list[ObservationPart] = []
        for leaf in ObservationWriter(raw.observation_space(agents[0]), agents[0]).leaves:
            parts.append(_part_of_space(leaf.space, leaf.path, end_of(parts)))
        action = raw.action_space(agents[0])
        reader = ActionReader(action, agents[0])
        out[group] = GroupSpaces(
            agents=tuple(map(str, agents)),
            parts=tuple(parts),
            feature_names=observation_names(raw, agents[0], str(agents[0]), end_of(parts)),
            action_shape=tuple(action.shape or ()) if not isinstance(action, Dict | Tuple) else _flat_shape(reader),
            action_start=tuple(reader.starts()),
        )
    return out


def _part_of_space(space: Space[Any], path: Path, offset: int) -> ObservationPart:
    fields: dict[str, Any] = {"encoding": "gymnasium"}
    if isinstance(space, Discrete):
        fields = {"encoding": "one-hot", "choices": (int(space.n),), "start": (int(space.start),)}
    elif isinstance(space, MultiDiscrete):
        choices, start = (tuple(map(int, one.reshape(-1))) for one in (space.nvec, space.start))
        fields = {"encoding": "one-hot", "choices": choices, "start": start}
    elif isinstance(space, Box | MultiBinary):
        fields = {"encoding": "values"}
    return ObservationPart(
        path=path,
        offset=offset,
        size=flatdim(space),
        shape=tuple(space.shape or ()),
        dtype=str(space.dtype),
        divide_by=divisor(space),
        **fields,
    )


def _flat_shape(reader: ActionReader) -> tuple[int, ...]:
    """The shape of one agent's action that has parts: its continuous dimensions, or else its factors."""
    return tuple(reader.specs(1)["action"].shape[1:])
