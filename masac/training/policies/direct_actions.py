"""Actions of masac's actors from plain tensors, without log-probabilities, which acting does not need."""

from __future__ import annotations

from typing import Any, cast

import torch
from tensordict.nn import ProbabilisticTensorDictSequential
from torch import Tensor
from torch.distributions import Categorical
from torchrl.data import Bounded
from torchrl.modules import (
    MaskedCategorical,
    MaskedOneHotCategorical,
    OneHotCategorical,
    ProbabilisticActor,
    TanhNormal,
)

from masac.actions.multi_categorical import MultiCategorical
from masac.groups import GroupSpec, action_bounds
from masac.networks.actors import ActorNetwork, TanhNormalNetwork
from masac.networks.hybrid_actor import HybridNetwork

KNOWN = {
    TanhNormalNetwork: (TanhNormal,),
    ActorNetwork: (
        Categorical,
        OneHotCategorical,
        MaskedCategorical,
        MaskedOneHotCategorical,
        MultiCategorical,
    ),
}
"""Our networks, and the distributions that may follow them."""


def read_network(actor: object) -> ActorNetwork | None:
    """The network of an actor that masac made; None for any other actor."""
    if isinstance(actor, ProbabilisticTensorDictSequential) and len(actor) == 3:
        network, last = getattr(actor[0], "module", None), [actor[index].distribution_class for index in (1, 2)]
        return network if isinstance(network, HybridNetwork) and last == [TanhNormal, MultiCategorical] else None
    if isinstance(actor, ProbabilisticActor) and len(actor) == 2:
        network = getattr(actor[0], "module", None)
        if isinstance(network, ActorNetwork) and actor[-1].distribution_class in KNOWN.get(type(network), ()):
            return network
    return None


class TanhNormalActions:
    """The actions of a tanh-normal actor, bit for bit.

    Args:
        actor: of the group.
        group: of the agents.
    """

    def __init__(self, actor: ProbabilisticTensorDictSequential, group: GroupSpec) -> None:
        self.network = cast(TanhNormalNetwork, read_network(actor))
        low, high = action_bounds(cast(Bounded, group.action_spec))
        if bool((low == low[:1]).all() and (high == high[:1]).all()):
            low, high = low[0], high[0]  # for any number of agents
        self.middle, self.half = (high + low) / 2, (high - low) / 2

    def __call__(self, observation: Tensor, *images: Tensor, mask: Tensor | None = None, noisy: bool) -> Tensor:
        """``[*B, N, F]`` to actions ``[*B, N, d]``.

        Args:
            observation: the vectors that the network sees.
            images: that it sees, each ``[*B, N, *shape]``.
            mask: unused, as continuous actions have none.
            noisy: draw the actions; otherwise tanh of the mean of the normal distribution.
        """
        mean, std = self.network(observation, *images)
        return squash(mean + torch.randn_like(mean) * std if noisy else mean, self.middle, self.half)


class CategoricalActions:
    """The actions of a discrete actor, bit for bit.

    Args:
        actor: of the group.
    """

    def __init__(self, actor: ProbabilisticActor) -> None:
        self.network = cast(ActorNetwork, read_network(actor))
        last = cast(Any, actor[-1])
        self.distribution, self.options = last.distribution_class, dict(last.distribution_kwargs)

    def __call__(self, observation: Tensor, *images: Tensor, mask: Tensor | None = None, noisy: bool) -> Tensor:
        """``[*B, N, F]`` to actions in the encoding of the group's action spec.

        Args:
            observation: the vectors that the network sees.
            images: that it sees, each ``[*B, N, *shape]``.
            mask: the action mask, bool ``[*B, N, D]``, if the group has one.
            noisy: draw the actions; otherwise the most likely ones.
        """
        options = self.options if mask is None else {**self.options, "mask": mask}
        distribution = self.distribution(logits=self.network(observation, *images), **options)
        return distribution.sample() if noisy else distribution.mode


class HybridActions(TanhNormalActions):
    """The actions of a hybrid actor.

    Args:
        actor: of the group.
        group: of the agents.
    """

    def __init__(self, actor: ProbabilisticTensorDictSequential, group: GroupSpec) -> None:
        super().__init__(actor, group)
        assert group.discrete_part is not None
        self.sizes = group.discrete_part.sizes or ()

    def __call__(self, observation: Tensor, *images: Tensor, mask: Tensor | None = None, noisy: bool) -> Tensor:
        """``[*B, N, F]`` to whole actions ``[*B, N, d + K]``, the indices after the continuous part.

        Args:
            observation: the vectors that the network sees.
            images: that it sees, each ``[*B, N, *shape]``.
            mask: the action mask, bool ``[*B, N, D]``, if the group has one.
            noisy: draw the actions; otherwise the most likely choices, and the tanh of the mean.
        """
        mean, std, logits = self.network(observation, *images)
        continuous = squash(mean + torch.randn_like(mean) * std if noisy else mean, self.middle, self.half)
        choices = MultiCategorical(logits, sizes=self.sizes, mask=mask)
        indices = choices.sample() if noisy else choices.mode
        return torch.cat([continuous, indices.to(continuous.dtype)], dim=-1)


def direct_actions(actor: object, group: GroupSpec) -> TanhNormalActions | CategoricalActions | None:
    """Actions of an actor of masac without a TensorDict around network and distribution; None for another actor."""
    network = read_network(actor)
    if network is None:
        return None
    actor = cast(ProbabilisticActor, actor)
    if isinstance(network, HybridNetwork):
        return HybridActions(actor, group)
    return TanhNormalActions(actor, group) if isinstance(network, TanhNormalNetwork) else CategoricalActions(actor)


def squash(value: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    """Map values through tanh into bounds, given the middle between the bounds and half their distance."""
    limit = 1.0 - torch.finfo(value.dtype).resolution  # TorchRL's TanhNormal stays this far inside its bounds
    return middle + half * torch.tanh(value).clamp(-limit, limit)
