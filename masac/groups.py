"""What a group of agents looks like: read once from a TorchRL environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Bounded, Composite, StackedComposite, TensorSpec, Unbounded
from torchrl.data.tensor_specs import ContinuousBox
from torchrl.envs import EnvBase

ActionKind = Literal["continuous", "discrete"]


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """One group of agents.

    Args:
        name: where the group's entries live in a TensorDict.
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_kind: continuous (bounded vectors) or discrete.
        action_spec: the group's action, ``[N, ...]``, without the environment's batch.
    """

    name: str
    n_agents: int
    observation_dim: int
    action_kind: ActionKind
    action_spec: TensorSpec

    @property
    def observation_key(self) -> NestedKey:
        """Where the observations ``[*B, N, F]`` live."""
        return (self.name, "observation")


def read_groups(env: EnvBase) -> list[GroupSpec]:
    """The groups of a TorchRL multi-agent environment.

    Raises:
        ValueError: if agents of one group differ in observation or action, or an observation is not a vector.
    """
    group_map: dict[str, list[str]] = env.group_map  # pyright: ignore[reportAssignmentType]
    return [_read_group(env, name, len(members)) for name, members in group_map.items()]


def action_bounds(spec: Bounded) -> tuple[Tensor, Tensor]:
    """The lowest and highest actions of a bounded spec, of its shape."""
    space = spec.space
    assert isinstance(space, ContinuousBox)
    return space.low, space.high


def _read_group(env: EnvBase, name: str, n_agents: int) -> GroupSpec:
    action = env.full_action_spec_unbatched[name, "action"]
    observations = env.full_observation_spec_unbatched[name]
    if isinstance(observations, StackedComposite) or isinstance(env.full_action_spec_unbatched[name], StackedComposite):
        raise ValueError(
            f"the agents of group {name!r} must have equal observations and actions; got different shapes. "
            "Put agents that differ into groups of their own."
        )
    assert isinstance(observations, Composite)
    observation = observations["observation"]
    if len(observation.shape) != 2:
        raise ValueError(
            f"observations of group {name!r} must be vectors, [{n_agents}, F]; got shape {list(observation.shape)}. "
            "Flatten them in the environment."
        )
    continuous = isinstance(action, Bounded | Unbounded) and action.dtype.is_floating_point
    if continuous and not _is_finite(action):
        raise ValueError(f"actions of group {name!r} must have finite bounds; got {action}.")
    return GroupSpec(
        name=name,
        n_agents=n_agents,
        observation_dim=observation.shape[-1],
        action_kind="continuous" if continuous else "discrete",
        action_spec=action,
    )


def _is_finite(spec: TensorSpec) -> bool:
    if not isinstance(spec, Bounded):
        return False
    return all(bool(torch.isfinite(bound).all()) for bound in action_bounds(spec))
