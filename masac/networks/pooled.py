"""A centralized critic with a cost linear in the number of agents: it sees a mean over the teammates.

Shape legend: ``*B`` batch, flattened to ``M`` rows, ``N`` agents, ``K`` critics, ``H`` features of an encoding, ``V``
values per agent (1, or one per action).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from masac.layouts import GroupNetwork
from masac.networks.config import ModelConfig
from masac.networks.layers import StackedMLP, flat_rows, side_by_side, value_mlp
from masac.networks.other_group import OtherGroup


class PooledCriticNetwork(GroupNetwork):
    """Q_i(o, a) = f(o_i, a_i, mean over living teammates j of g(o_j, a_j)), after Zaheer et al. 2017, arXiv 1703.06114.

    g has the hidden layers of the model and ends with the activation of the last one; f is an MLP of the same layers.
    Every agent is encoded once for all its teammates, so a row costs N times g and f, whereas the ego-first critic has
    N inputs with the features of N agents. With shared weights the order of the teammates cannot matter. f also sees
    whether agent i is alive, and the fraction of living teammates, because the mean over no agent is zero.

    Agents of another group are encoded by a g of that group, and their mean is another input of f.

    With weights per agent, f is that of agent i, and g that of the encoded agent.

    Args:
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_dim: dimensions of one agent's action, as the critic sees it (one-hot for discrete ones).
        share_params: one set of weights for all agents, else one each.
        model: sizes and kinds of layers, of f and of g.
        n_actions: V, values per agent for discrete actions, with f not seeing the own one; None for continuous ones.
        own_action_dim: with ``n_actions``, the continuous dimensions of a hybrid action, which come first; f sees them.
        others: the other groups it sees.
    """

    def __init__(
        self,
        *,
        n_agents: int,
        observation_dim: int,
        action_dim: int,
        share_params: bool,
        model: ModelConfig,
        n_actions: int | None = None,
        own_action_dim: int = 0,
        others: Sequence[OtherGroup] = (),
    ) -> None:
        super().__init__(n_agents=n_agents, share_params=share_params, centralized=True)
        self.values_actions = n_actions is not None
        self.own_action_dim = own_action_dim if self.values_actions else action_dim
        self.others = tuple(others)
        stack = () if share_params else (n_agents,)
        self.encoder = _encoder(observation_dim + action_dim, model, stack)
        encoders = [_encoder(other.observation_dim + other.action_dim, model, ()) for other in self.others]
        self.other_encoders = nn.ModuleList(encoders)
        own = observation_dim + self.own_action_dim + 1
        pooled = sum(encoder.out_features + 1 for encoder in (self.encoder, *encoders))
        self.mlp = value_mlp(own + pooled, n_actions, model, stack)

    def forward(
        self,
        observation: Tensor,
        action: Tensor,
        alive: Tensor,
        context: Tensor | None = None,
        encoded: Tensor | None = None,
        *,
        own_gradient: bool = False,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """The Q-values; of K critics at once if the parameters have a leading K.

        Args:
            observation: ``[*B, N, F]``.
            action: ``[*B, N, d]``.
            alive: bool ``[*B, N, 1]``.
            context: ``[*B, C]``, for every other group its observations, then its actions, then its alive flags; with a
                leading K where images of other groups were encoded.
            encoded: the features of the images, ``[*B, N, E]``, or with a leading K; None without images.
            own_gradient: let the gradient of Q_i reach the action of agent i only.
            chosen: with a :class:`ChoiceMLP`, the only discrete actions to value, one-hot ``[*B, N, D]``.

        Returns:
            ``[*B, N, V]``; with a leading K if the parameters have one.
        """
        self.check_agents(observation)
        batch = observation.shape[:-2]
        # Agents first, [N, M, F], so that shared weights and weights per agent differ in one place only.
        observation = flat_rows(observation, batch, trailing=2).transpose(0, 1)
        if encoded is not None:
            images = flat_rows(encoded, batch, trailing=2).transpose(-3, -2)
            observation = side_by_side([observation, images])
        action = flat_rows(action, batch, trailing=2).transpose(0, 1).to(observation.dtype)
        living = flat_rows(alive, batch, trailing=2).transpose(0, 1).bool()
        # Features of dead agents may be anything, and must reach neither g nor f: gradients would keep a NaN.
        pairs = _or_zero(side_by_side([observation, action]), living)
        own = pairs[..., : observation.shape[-1] + self.own_action_dim]
        encoded = self._per_agent(self.encoder, pairs.detach() if own_gradient else pairs)
        parts = [own, living.to(own.dtype), *mean_of_others(encoded, living)]
        if context is not None:
            parts += self._pooled_context(flat_rows(context, batch, trailing=1))
        only = [] if chosen is None else [flat_rows(chosen.to(own.dtype), batch, trailing=2).transpose(0, 1)]
        values = self._per_agent(self.mlp, side_by_side(parts), *only).movedim(-3, -2)
        return values.reshape(*values.shape[:-3], *batch, *values.shape[-2:])

    def _per_agent(self, network: nn.Module, *entries: Tensor) -> Tensor:
        """``[N, M, F]`` (with or without a leading K) through each agent's weights, ``[N, M, F']`` (or with the K)."""
        if not self.share_params:
            return network(*entries)
        return network(*(one.flatten(-3, -2) for one in entries)).unflatten(-2, entries[0].shape[-3:-1])

    def _pooled_context(self, context: Tensor) -> list[Tensor]:
        """``[M, C]`` to the mean of each other group, ``[1, M, H]``, and its living fraction; a leading K may come."""
        pooled = []
        seen = context.split([other.features for other in self.others], dim=-1)
        for other, encoder, entries in zip(self.others, self.other_encoders, seen, strict=True):
            sizes = (other.observation_dim, other.action_dim, 1)
            parts = entries.split([other.n_agents * size for size in sizes], dim=-1)
            observation, action, alive = (
                part.unflatten(-1, (other.n_agents, size)).transpose(-3, -2)
                for part, size in zip(parts, sizes, strict=True)
            )
            living = alive.bool()
            pairs = _or_zero(torch.cat([observation, action], dim=-1), living)
            encoded = encoder(pairs.flatten(-3, -2)).unflatten(-2, pairs.shape[-3:-1])
            pooled += mean_of_all(encoded, living)
        return pooled


def mean_of_others(entries: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """For every agent the mean over the other agents that are present, and the fraction of them that is present.

    Computed as the sum over all minus the agent's own: linear in N, with the rounding error of that sum.

    Args:
        entries: ``[..., N, M, H]``; entries of absent agents do not matter.
        present: bool ``[N, M, 1]``.

    Returns:
        ``[..., N, M, H]``, zero where no other is present, and ``[N, M, 1]``.
    """
    kept = _or_zero(entries, present)
    there = present.to(entries.dtype)
    count = there.sum(-3, keepdim=True) - there
    mean = (kept.sum(-3, keepdim=True) - kept) / count.clamp(min=1)
    return mean, count / max(present.shape[-3] - 1, 1)


def mean_of_all(entries: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over present agents, ``[..., 1, M, H]``, zero without any, and their fraction ``[1, M, 1]``.

    Args:
        entries: ``[..., N, M, H]``; entries of absent agents do not matter.
        present: bool ``[N, M, 1]``.
    """
    kept = _or_zero(entries, present)
    count = present.to(entries.dtype).sum(-3, keepdim=True)
    return kept.sum(-3, keepdim=True) / count.clamp(min=1), count / present.shape[-3]


def _or_zero(entries: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, entries, torch.zeros_like(entries))


def _encoder(features: int, model: ModelConfig, stack: Sequence[int]) -> StackedMLP:
    return StackedMLP(
        features, None, hidden=model.hidden, activation=model.activation, layer_norm=model.layer_norm, stack=stack
    )
