"""Memories of policies in TorchRL's own loops, such as ``env.rollout``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs.transforms import Transform

from masac.groups import GroupSpec
from masac.networks.memory import GroupMemory


class Remembers(Protocol):
    """A policy with memories: see :class:`masac.training.policies.policy.Policy`."""

    def memory_entries(self) -> Iterator[tuple[GroupSpec, str, GroupMemory]]:
        """The group, the name of the entry and the network of every memory."""
        ...

    def begin(self, state: TensorDictBase, /) -> TensorDictBase:
        """Give the first state of episodes empty memories."""
        ...

    def carry(self, transition: TensorDictBase, state: TensorDictBase, /) -> TensorDictBase:
        """Give the state after a step the memories of its agents."""
        ...


class CarriedMemories(Transform):
    """Gives states the memories with which a policy acts, in the environment's own ``reset`` and ``step``.

    ``env = TransformedEnv(env, policy.make_tensordict_primer())`` is all that TorchRL's loops need.

    Args:
        policy: that acts in the environment.
    """

    policy: Remembers

    def __init__(self, policy: Remembers) -> None:
        super().__init__()
        object.__setattr__(self, "policy", policy)  # its weights are no part of the environment

    def transform_observation_spec(self, observation_spec: TensorSpec) -> TensorSpec:
        """Add the memories, and where they begin anew."""
        assert isinstance(observation_spec, Composite)
        for group, entry, memory in self.policy.memory_entries():
            lead, device = (*observation_spec.shape, group.n_agents), observation_spec.device
            observation_spec[group.name, entry] = Unbounded(torch.Size((*lead, memory.state_dim)), device=device)
            for name in ("is_init", "carried") if entry == "memory" else ():
                flag = Binary(shape=torch.Size((*lead, 1)), dtype=torch.bool, device=device)
                observation_spec[group.name, name] = flag
        return observation_spec

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self.policy.begin(tensordict_reset)  # TorchRL keeps those of environments that go on

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        transition: Any = tensordict.copy()
        return self.policy.carry(transition.set("next", next_tensordict), next_tensordict)
