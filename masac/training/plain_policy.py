"""The policy of one group with plain tensors in and out, as PyTorch's exporters take it."""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchrl.data import Bounded

from masac.checks import ConfigError
from masac.discrete_actions import DiscreteActions
from masac.groups import GroupSpec, action_bounds
from masac.networks.actors import ActorNetwork
from masac.training.acting import read_network, squash
from masac.training.policy import Policy


class PlainPolicy(nn.Module):
    """From the observations of a group to its actions without noise, each agent's from its own observation.

    It does what evaluation does: normalization, network, and for continuous actions the mean through tanh, scaled to
    the bounds; for discrete ones the likeliest legal choice of every factor.

    Args:
        group: whose policy.
        network: to the mean and standard deviation, or to logits.
        normalizer: of observations.
    """

    low: Tensor
    high: Tensor

    def __init__(self, group: GroupSpec, network: ActorNetwork, normalizer: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.normalizer = normalizer
        self.discrete = group.discrete
        if group.discrete is None:
            low, high = action_bounds(cast(Bounded, group.action_spec))
            self.register_buffer("low", low)
            self.register_buffer("high", high)

    def forward(self, observation: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Act.

        Args:
            observation: ``[B, N, F]``.
            action_mask: bool ``[B, N, D]``, which choices are legal; all without one.

        Returns:
            ``[B, N, d]`` continuous; ``[B, N]`` indices, ``[B, N, K]`` indices of several factors, or ``[B, N, D]``
            one-hot.
        """
        out = self.network(observation if self.normalizer is None else self.normalizer(observation))
        if self.discrete is None:
            mean, _ = out
            return squash(mean, (self.high + self.low) / 2, (self.high - self.low) / 2)
        return _choose(out, action_mask, self.discrete)


def make_plain_policy(policy: Policy, group: GroupSpec) -> PlainPolicy:
    """The plain policy of a group, with copies of the weights of ``policy`` that want no gradients.

    Raises:
        ConfigError: for a group without an actor, or with one that is not masac's own.
    """
    if group.name not in policy.actors:
        raise ConfigError(
            f"a policy to export must be of a group that learned; {group.name!r} acts at random. "
            f"Groups that learned: {', '.join(policy.actors)}."
        )
    actor = policy.actors[group.name]
    network = _read_network(actor, group.name)
    normalizer = dict(policy.normalizers.items()).get(group.name)
    return copy.deepcopy(PlainPolicy(group, network, normalizer)).eval().requires_grad_(False)


def _read_network(actor: nn.Module, group: str) -> ActorNetwork:
    network = read_network(actor)
    if network is None:
        raise ConfigError(
            "an actor to export must be one that masac.make_tanh_normal_actor or masac.make_categorical_actor made; "
            f"that of group {group!r} is a {type(actor).__name__} of another kind. Export yours with torch.export."
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
    """The legal choice with the largest logit; of all choices, where none is legal.

    As ``functional.discrete_policy`` has it, in operations that ONNX Runtime knows (no ``where`` of booleans).
    """
    among_legal = torch.where(legal, logits, torch.full_like(logits, -torch.inf))
    return torch.where(legal.any(-1, keepdim=True), among_legal, logits).argmax(-1)
