"""What the numbers of an observation vector and of an action mean, in the environment's own terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.spaces.utils import flatdim
from torchrl.data import TensorSpec
from torchrl.envs import EnvBase

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo import make_one
from masac.envs.pettingzoo_wrapper import ReadableEnv, image_divisor
from masac.envs.registry import make_env
from masac.envs.vector_observations import VectorObservations
from masac.envs.vmas_env import VmasVectorEnv
from masac.envs.vmas_private import discrete_controls
from masac.errors import ConfigError

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class ObservationPart:
    """The features ``offset`` to ``offset + size`` of one agent's observation vector.

    Args:
        path: the keys and indices that lead to it in what the environment observes for the agent; ``()`` for all of it.
        offset: its first feature.
        size: its features.
        shape: what the environment has there.
        dtype: of that.
        encoding: ``"values"``, flattened in C order; ``"one-hot"``, a one-hot vector for each factor, side by side;
            ``"gymnasium"``, as ``gymnasium.spaces.utils.flatten`` has it.
        choices: one-hot: of each factor.
        start: one-hot: the lowest choice of each factor.
        divide_by: by which the flattened numbers are divided.
    """

    path: Path
    offset: int
    size: int
    shape: tuple[int, ...]
    dtype: str
    encoding: str
    choices: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    divide_by: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GroupSpaces:
    """What goes into and out of the agents of one group.

    Args:
        agents: their names, N of them.
        parts: of one agent's observation vector, in order.
        feature_names: of one agent's observation vector; None where the environment does not say.
        action_shape: of one agent's action in the environment.
        action_start: discrete actions: the lowest choice of each factor.
        controls: VMAS's discrete actions: what each choice sets, ``u`` and (agents that speak) ``c`` after it.
    """

    agents: tuple[str, ...]
    parts: tuple[ObservationPart, ...]
    feature_names: tuple[str, ...] | None = None
    action_shape: tuple[int, ...]
    action_start: tuple[int, ...] = ()
    controls: tuple[tuple[float, ...], ...] | None = None


def read_spaces(task: TaskConfig) -> dict[str, GroupSpaces]:
    """The spaces of the groups of a task's environment, by group.

    Raises:
        ConfigError: for a task that cannot be built, or an environment whose ``observation_names`` do not fit.
    """
    if task.suite == "vmas":
        env = make_env(task, num_envs=1, seed=0)
        assert isinstance(env, VmasVectorEnv)
        return _close_after(env, lambda: _read_vmas(env, task))
    one = make_one(task, 1)
    return _close_after(one, lambda: _read_pettingzoo(one))


def spaces_of_specs(env: EnvBase) -> dict[str, GroupSpaces]:
    """The spaces of a TorchRL environment, which says no more than its specs do."""
    names = getattr(env, "group_map", {})
    out = {}
    for group, leaves in VectorObservations(env).leaves.items():
        action = env.full_action_spec_unbatched[group, "action"]
        n_agents = action.shape[0]
        parts: list[ObservationPart] = []
        for leaf, spec in leaves.items():
            parts.append(_part_of_spec(spec, leaf[2:], _end(parts), len(env.batch_size) + 1))
        agents = names.get(group) or [f"{group}_{index}" for index in range(n_agents)]
        out[group] = GroupSpaces(
            agents=tuple(map(str, agents)), parts=tuple(parts), action_shape=tuple(action.shape[1:])
        )
    return out


def _close_after(env: EnvBase, read: Callable[[], dict[str, GroupSpaces]]) -> dict[str, GroupSpaces]:
    try:
        return read()
    finally:
        env.close(raise_if_closed=False)


def _read_vmas(env: VmasVectorEnv, task: TaskConfig) -> dict[str, GroupSpaces]:
    out = {}
    agents = {agent.name: agent for agent in env.vmas.agents}
    for group, spaces in spaces_of_specs(env).items():
        name = spaces.agents[0]
        fields: dict[str, Any] = {"feature_names": _names(env.vmas.scenario, agents[name], name, _end(spaces.parts))}
        if not task.continuous_actions:
            fields["controls"] = _vmas_controls(task, name, env.full_action_spec_unbatched[group, "action"])
        out[group] = replace(spaces, **fields)
    return out


def _vmas_controls(task: TaskConfig, agent: str, spec: TensorSpec) -> tuple[tuple[float, ...], ...]:
    """What VMAS makes of every choice of an agent, each tried in an environment of its own."""
    env = make_env(task, num_envs=int(cast(Any, spec.space).n), seed=0)
    assert isinstance(env, VmasVectorEnv)
    controls = discrete_controls(env.vmas, agent)
    env.close(raise_if_closed=False)
    return tuple(tuple(round(value, 6) for value in row) for row in controls)


def _read_pettingzoo(env: EnvBase) -> dict[str, GroupSpaces]:
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
                parts.append(replace(part, offset=_end(parts)))
        action = raw.action_space(agents[0])
        out[group] = GroupSpaces(
            agents=tuple(map(str, agents)),
            parts=tuple(parts),
            feature_names=_names(raw, agents[0], str(agents[0]), _end(parts)),
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


def _part_of_spec(spec: TensorSpec, path: Path, offset: int, n_leading: int) -> ObservationPart:
    shape, fields = tuple(spec.shape[n_leading:]), cast(dict[str, Any], {"encoding": "values"})
    size = math.prod(shape)
    if VectorObservations.is_choice(spec):
        choices = int(cast(Any, spec.space).n)
        fields = {"encoding": "one-hot", "choices": (choices,) * size, "start": (0,) * size}
        size *= choices
    return ObservationPart(
        path=path,
        offset=offset,
        size=size,
        shape=shape,
        dtype=str(spec.dtype).removeprefix("torch."),
        divide_by=VectorObservations.divisor(spec),
        **fields,
    )


def _start(action: Space[Any]) -> tuple[int, ...]:
    if isinstance(action, Discrete):
        return (int(action.start),)
    if isinstance(action, MultiDiscrete):
        return tuple(map(int, action.start.reshape(-1)))
    return (0,) * math.prod(action.shape or ()) if isinstance(action, MultiBinary) else ()


def _names(env: Any, agent: Any, name: str, size: int) -> tuple[str, ...] | None:
    """What the environment's ``observation_names(agent)`` says, where it has that."""
    told = getattr(env, "observation_names", None)
    if not callable(told):
        return None
    names = tuple(map(str, cast(Any, told(agent))))
    if len(names) != size:
        raise ConfigError(
            f"observation_names(agent) of the environment must name {size} features, those of one observation; it "
            f"names {len(names)} for {name!r}. Complete it in the environment."
        )
    return names


def _end(parts: Sequence[ObservationPart]) -> int:
    return parts[-1].offset + parts[-1].size if parts else 0
