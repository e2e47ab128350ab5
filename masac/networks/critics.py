"""Critics for a group of agents: independent, centralized, or one for the team."""

from __future__ import annotations

from typing import Literal

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from masac.compat import parameters_in
from masac.keys import as_path
from masac.layouts import GroupNetwork, StackedCritic
from masac.networks.config import ModelConfig
from masac.networks.layers import StackedMLP

CriticKind = Literal["independent", "centralized", "team"]


class CriticNetwork(GroupNetwork):
    """Observations and actions to Q-values.

    Kinds:
        ``"independent"``: Q_i(o_i, a_i).
        ``"centralized"``: Q_i(o, a), from the features of all agents in ego-first order: agent i's own, then those of
        agents i+1, i+2, ... round the group. So shared weights still tell agents apart (Lowe et al. 2017,
        arXiv 1706.02275, have weights an agent instead).
        ``"team"``: one Q(o, a).

    The last two also see, of every agent, whether it is alive: zero is a legal action.

    Args:
        kind: see above.
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_dim: dimensions of one agent's action.
        share_params: one set of weights for all agents, else one each.
        model: sizes and kinds of layers.
    """

    def __init__(
        self,
        kind: CriticKind,
        *,
        n_agents: int,
        observation_dim: int,
        action_dim: int,
        share_params: bool,
        model: ModelConfig,
    ) -> None:
        if kind not in ("independent", "centralized", "team"):
            raise ValueError(f"the kind of a critic must be 'independent', 'centralized' or 'team'; got {kind!r}.")
        super().__init__(n_agents=n_agents, share_params=share_params, centralized=kind != "independent")
        self.kind = kind
        per_agent = observation_dim + action_dim
        self.mlp = StackedMLP(
            per_agent if kind == "independent" else n_agents * (per_agent + 1),
            1,
            hidden=model.hidden,
            activation=model.activation,
            layer_norm=model.layer_norm,
            stack=() if share_params or kind == "team" else (n_agents,),
        )

    def forward(
        self, observation: Tensor, action: Tensor, alive: Tensor | None = None, *, own_gradient: bool = False
    ) -> Tensor:
        """The Q-values; of K critics at once if the parameters have a leading K.

        Args:
            observation: ``[*B, N, F]``.
            action: ``[*B, N, d]``.
            alive: bool ``[*B, N, 1]``; not of an independent critic.
            own_gradient: let the gradient of Q_i reach the action of agent i only (a team's value reaches all).

        Returns:
            ``[*B, N, 1]``, or ``[*B, 1]`` for a team; with a leading K if the parameters have one.
        """
        self.check_agents(observation)
        batch, n_agents = observation.shape[:-2], observation.shape[-2]
        parts = [observation, action] if alive is None else [observation, action, alive.to(observation.dtype)]
        features = torch.cat(parts, dim=-1).flatten(0, -3) if batch else torch.cat(parts, dim=-1).unsqueeze(0)
        if self.kind == "team":
            values = self.mlp(features.flatten(1))
            return values.reshape(*values.shape[:-2], *batch, 1)
        if self.kind == "centralized":
            features = _ego_first(features, own_gradient=own_gradient)
        if self.share_params:
            values = self.mlp(features.flatten(0, 1))
            return values.reshape(*values.shape[:-2], *batch, n_agents, 1)
        values = self.mlp(features.transpose(0, 1)).transpose(-3, -2)
        return values.reshape(*values.shape[:-3], *batch, n_agents, 1)


class GroupCritic(StackedCritic):
    """A :class:`CriticNetwork` that reads and writes a TensorDict, K critics in one pass."""

    module: CriticNetwork

    def stacked_values(self, inputs: TensorDictBase, params: TensorDictBase, *, own_gradient: bool = False) -> Tensor:
        """See :class:`masac.layouts.StackedCritic`."""
        with parameters_in(self, params):
            return self.module(*(inputs.get(key) for key in self.in_keys), own_gradient=own_gradient)


def make_critic(
    kind: CriticKind,
    *,
    group: NestedKey,
    n_agents: int,
    observation_dim: int,
    action_dim: int,
    share_params: bool,
    model: ModelConfig,
) -> GroupCritic:
    """A critic from the group's observation and action to ``(group, "state_action_value")``, a team's beside the group.

    See :class:`CriticNetwork` for the arguments. A centralized or team critic also reads ``(group, "alive")``, which
    the losses write.
    """
    network = CriticNetwork(
        kind,
        n_agents=n_agents,
        observation_dim=observation_dim,
        action_dim=action_dim,
        share_params=share_params,
        model=model,
    )
    names = ["observation", "action"] if kind == "independent" else ["observation", "action", "alive"]
    path = as_path(group)
    value_path = path[:-1] if kind == "team" else path  # a team's value does not fit into the agents' batch size
    return GroupCritic(
        network,
        in_keys=[(*path, name) for name in names],
        out_keys=[(*value_path, "state_action_value")],
    )


def _ego_first(features: Tensor, *, own_gradient: bool) -> Tensor:
    """The features of all agents, as each agent sees them: its own, then the next agents' round the group.

    Args:
        features: ``[M, N, G]``.
        own_gradient: detach the teammates' part.

    Returns:
        ``[M, N, N * G]``.
    """
    n_agents = features.shape[1]
    mates = features.detach() if own_gradient else features
    windows = torch.cat([mates, mates[:, : n_agents - 1]], dim=1).unfold(1, n_agents, 1)
    mates_first_to_last = windows[..., 1:].transpose(-1, -2).flatten(2)
    return torch.cat([features, mates_first_to_last], dim=-1)
