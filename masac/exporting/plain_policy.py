"""The policy of a group with plain tensors as inputs and outputs, as PyTorch's exporters require."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchrl.data import Bounded

from masac.actions.discrete import DiscreteActions
from masac.envs.space_meanings import GroupSpaces
from masac.errors import ConfigError
from masac.groups import GroupSpec, action_bounds
from masac.networks.actors import ActorNetwork
from masac.networks.hybrid_actor import HybridNetwork
from masac.networks.memory import GroupMemory
from masac.training.policies.direct_actions import read_network, squash
from masac.training.policies.policy import Policy


class PlainPolicy(nn.Module):
    """Maps the observations of a group (or of one agent) to actions without noise.

    It computes what evaluation does: normalization, then the network, then for continuous actions the tanh of the mean,
    scaled to the bounds, for discrete ones the most probable legal choice of every factor, and for hybrid ones both.
    Actions have the environment's form: choices start at its lowest ones, and an agent's action has its shape in the
    environment. The parts of a hybrid action are two vectors.

    Args:
        network: returns mean and standard deviation, or logits, or all three.
        normalizer: of observations.
        bounds: lowest and highest continuous actions, ``[N, d]`` (of one agent ``[d]``).
        discrete: the encoding of discrete actions, or of the discrete part of hybrid ones.
        spaces: of the group.
    """

    low: Tensor
    high: Tensor
    start: Tensor

    def __init__(
        self,
        network: ActorNetwork,
        normalizer: nn.Module | None,
        *,
        bounds: tuple[Tensor, Tensor] | None,
        discrete: DiscreteActions | None,
        spaces: GroupSpaces,
    ) -> None:
        super().__init__()
        self.network = network
        self.normalizer = normalizer
        self.discrete = discrete
        self.action_shape = spaces.action_shape
        if bounds is not None:
            self.register_buffer("low", bounds[0])
            self.register_buffer("high", bounds[1])
        self.starts_at_zero = not any(spaces.action_start)
        self.register_buffer("start", torch.tensor(spaces.action_start, dtype=torch.int64))

    def forward(self, observation: Tensor, action_mask: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Act.

        Args:
            observation: ``[B, N, F]``; of one agent ``[B, F]``.
            action_mask: bool ``[B, N, D]`` (``[B, D]``), the legal choices; all without one.

        Returns:
            ``[B, N, *S]`` (``[B, *S]``), where S is the shape of an agent's action; one-hot actions are ``[B, N, D]``.
            Of hybrid actions the continuous part ``[B, N, d]`` and the choices ``[B, N, K]``.
        """
        return self.act(observation, (), action_mask)

    def act(
        self, observation: Tensor, images: Sequence[Tensor], action_mask: Tensor | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """As :meth:`forward`, of images beside the observation vector too."""
        out = self.network(observation if self.normalizer is None else self.normalizer(observation), *images)
        if self.discrete is None:
            return self._shaped(self._continuous(out[0]))
        if isinstance(self.network, HybridNetwork):
            return self._continuous(out[0]), self._choices(out[2], action_mask, self.discrete)
        return self._shaped(self._choices(out, action_mask, self.discrete))

    def _continuous(self, mean: Tensor) -> Tensor:
        return squash(mean, (self.high + self.low) / 2, (self.high - self.low) / 2)

    def _choices(self, logits: Tensor, action_mask: Tensor | None, actions: DiscreteActions) -> Tensor:
        choices = _choose(logits, action_mask, actions)
        if self.starts_at_zero:
            return choices
        return choices + (self.start if actions.encoding == "multi-discrete" else self.start[0])

    def _shaped(self, action: Tensor) -> Tensor:
        return action.unflatten(-1, self.action_shape) if len(self.action_shape) > 1 else action


class PlainMemoryPolicy(nn.Module):
    """A plain policy that remembers: it takes and returns the memory.

    Args:
        plain: of the group.
        memory: of its actor.
    """

    def __init__(self, plain: PlainPolicy, memory: GroupMemory) -> None:
        super().__init__()
        self.plain, self.memory = plain, memory

    def forward(self, observation: Tensor, memory: Tensor, action_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Act, as :class:`PlainPolicy` does; returns the memory ``[B, N, S]`` (of one agent ``[B, S]``) after it, too.

        Args:
            observation: ``[B, N, F]``; of one agent ``[B, F]``.
            memory: before it, zeros in the first step.
            action_mask: see :class:`PlainPolicy`.
        """
        return self.act(observation, (), action_mask, memory)

    def act(
        self, observation: Tensor, images: Sequence[Tensor], action_mask: Tensor | None, memory: Tensor
    ) -> tuple[Tensor, ...]:
        """As :meth:`forward`, of images beside the observation vector too."""
        normalizer = self.plain.normalizer
        seen = self.memory.see(observation if normalizer is None else normalizer(observation), *images)
        after = self.memory.step(seen, memory)
        actions = self.plain.act(observation, (self.memory.output(after), *images), action_mask)
        return (*(actions if isinstance(actions, tuple) else (actions,)), after)


class PlainImagePolicy(nn.Module):
    """A plain policy that sees images, with all inputs by position.

    Args:
        plain: of the group.
        group: the group.
    """

    def __init__(self, plain: PlainPolicy | PlainMemoryPolicy, group: GroupSpec) -> None:
        super().__init__()
        self.plain = plain
        self.names = input_names(group, remembers=isinstance(plain, PlainMemoryPolicy))
        self.image_ndim = len(group.images[0].shape)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Act; images are ``[B, N, *shape]``, of one agent ``[B, *shape]``, the others as without images."""
        given = dict(zip(self.names, inputs, strict=True))
        mask, vector = given.pop("action_mask", None), given.pop("observation", None)
        memory = [given.pop("memory")] if "memory" in given else []
        images = list(given.values())
        if vector is None:
            vector = torch.zeros(*images[0].shape[: -self.image_ndim], 0)
        return self.plain.act(vector, images, mask, *memory)


AnyPlainPolicy = PlainPolicy | PlainImagePolicy | PlainMemoryPolicy


def input_names(group: GroupSpec, *, remembers: bool) -> list[str]:
    """The inputs in order: ``observation`` where there is a vector, ``memory``, images, ``action_mask``."""
    vector = ["observation"] if group.observation_dim else []
    memory = ["memory"] if remembers else []
    masks = ["action_mask"] if group.choices is not None and group.has_action_mask else []
    return [*vector, *memory, *(image.name for image in group.images), *masks]


def make_plain_policy(
    policy: Policy, group: GroupSpec, spaces: GroupSpaces, *, agent: int | None = None
) -> AnyPlainPolicy:
    """The plain policy of a group or of one of its agents, with copies of the weights without gradients.

    Args:
        policy: of the run.
        group: the group.
        spaces: of the group.
        agent: its index in the group; None for all agents.

    Raises:
        ConfigError: if the group has no actor, or one that is not masac's own.
    """
    network, normalizer = _own_actor(policy, group), dict(policy.normalizers.items()).get(group.name)
    bounds = None if group.discrete is not None else action_bounds(cast(Bounded, group.action_spec))
    if agent is not None:
        network = network.of_agent(agent)
        bounds = None if bounds is None else (bounds[0][agent].clone(), bounds[1][agent].clone())
    whole: PlainPolicy | PlainMemoryPolicy
    whole = plain = PlainPolicy(network, normalizer, bounds=bounds, discrete=group.choices, spaces=spaces)
    if group.name in policy.memories:
        memory = cast(GroupMemory, policy.memories[group.name])
        whole = PlainMemoryPolicy(plain, memory if agent is None else memory.of_agent(agent))
    exported = PlainImagePolicy(whole, group) if group.images else whole
    return copy.deepcopy(exported).eval().requires_grad_(False)


def acts_alike(policy: Policy, group: GroupSpec) -> bool:
    """Whether all agents of a group act alike when they observe the same.

    Raises:
        ConfigError: if the group has no actor, or one that is not masac's own.
    """
    network = _own_actor(policy, group)
    return group.n_agents == 1 or (network.share_params and not network.position_dependent)


def _own_actor(policy: Policy, group: GroupSpec) -> ActorNetwork:
    if group.name not in policy.actors:
        raise ConfigError(
            f"an exported policy must be of a group that learned; {group.name!r} acts at random. "
            f"Groups that learned: {', '.join(policy.actors)}."
        )
    actor = policy.actors[group.name]
    network = read_network(actor)
    if network is None:
        raise ConfigError(
            "an exported actor must be from masac.make_tanh_normal_actor, make_categorical_actor or make_hybrid_actor; "
            f"that of group {group.name!r} is another {type(actor).__name__}. Export it yourself with torch.export."
        )
    return network


def _choose(logits: Tensor, legal: Tensor | None, actions: DiscreteActions) -> Tensor:
    sizes = list(actions.sizes or ())
    if legal is None:
        legal = torch.ones_like(logits, dtype=torch.bool)
    choices = torch.stack(
        [
            _likeliest(part, part_legal)
            for part, part_legal in zip(logits.split(sizes, -1), legal.split(sizes, -1), strict=True)
        ],
        dim=-1,
    )
    if actions.encoding == "multi-discrete":
        return choices
    return F.one_hot(choices.squeeze(-1), sizes[0]) if actions.encoding == "one-hot" else choices.squeeze(-1)


def _likeliest(logits: Tensor, legal: Tensor) -> Tensor:
    """The legal choice with the largest logit, or of all choices if none is legal.

    Equals ``functional.discrete_policy``, in operations that ONNX Runtime supports (no ``where`` of booleans).
    """
    among_legal = torch.where(legal, logits, torch.full_like(logits, -torch.inf))
    return torch.where(legal.any(-1, keepdim=True), among_legal, logits).argmax(-1)
