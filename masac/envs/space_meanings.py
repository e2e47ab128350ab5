"""What the numbers of observation vectors and actions mean in the environment's own terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torchrl.data import TensorSpec
from torchrl.envs import EnvBase

from masac.envs.config import TaskConfig
from masac.envs.suites import suite_named
from masac.envs.torchrl_observations import VectorObservations
from masac.errors import ConfigError

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class ObservationPart:
    """The features ``offset`` to ``offset + size`` of an agent's observation vector.

    Args:
        path: its keys and indices in the environment's observation; ``()`` for the whole observation.
        offset: index of its first feature.
        size: number of features.
        shape: in the environment.
        dtype: in the environment.
        encoding: ``"values"``, flattened in C order; ``"one-hot"``, concatenated one-hot vectors of the factors;
            ``"gymnasium"``, the result of ``gymnasium.spaces.utils.flatten``.
        choices: one-hot: number of choices per factor.
        start: one-hot: the lowest choice of each factor.
        divide_by: divisor of the flattened numbers.
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
    """Observations and actions of the agents of a group.

    Args:
        agents: their names, N of them.
        parts: of an agent's observation vector, in order.
        feature_names: of an agent's observation vector; None if the environment does not name them.
        action_shape: of an agent's action in the environment.
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
        ConfigError: for a task that cannot be made, or an environment whose ``observation_names`` do not fit.
    """
    return suite_named(task.suite).read_spaces(task)


def spaces_of_specs(env: EnvBase) -> dict[str, GroupSpaces]:
    """The spaces of a TorchRL environment, read from its specs."""
    names = getattr(env, "group_map", {})
    out = {}
    for group, leaves in VectorObservations(env).leaves.items():
        action = env.full_action_spec_unbatched[group, "action"]
        n_agents = action.shape[0]
        parts: list[ObservationPart] = []
        for leaf, spec in leaves.items():
            parts.append(_part_of_spec(spec, leaf[2:], end_of(parts), len(env.batch_size) + 1))
        agents = names.get(group) or [f"{group}_{index}" for index in range(n_agents)]
        out[group] = GroupSpaces(
            agents=tuple(map(str, agents)), parts=tuple(parts), action_shape=tuple(action.shape[1:])
        )
    return out


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


def observation_names(env: Any, agent: Any, name: str, size: int) -> tuple[str, ...] | None:
    """What the method ``observation_names(agent)`` of an environment returns, None if it has none.

    Args:
        env: a PettingZoo environment or a VMAS scenario.
        agent: as the environment knows it.
        name: of the agent.
        size: features of its observation vector.

    Raises:
        ConfigError: for another number of names.
    """
    method = getattr(env, "observation_names", None)
    if not callable(method):
        return None
    names = tuple(map(str, cast(Any, method(agent))))
    if len(names) != size:
        raise ConfigError(
            f"observation_names(agent) of the environment must name {size} features, those of one observation; it "
            f"names {len(names)} for {name!r}. Complete it in the environment."
        )
    return names


def end_of(parts: Sequence[ObservationPart]) -> int:
    """The number of features in the parts, which are in order."""
    return parts[-1].offset + parts[-1].size if parts else 0
