"""Critics for a group of agents: independent, centralized (ego-first or pooled), or one for the team."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from masac.compat import parameters_in
from masac.images import ImageSpec
from masac.keys import as_path
from masac.layouts import GroupNetwork, StackedCritic
from masac.networks.config import ModelConfig
from masac.networks.images import ImageEncoder
from masac.networks.layers import ChoiceMLP, flat_rows, side_by_side, value_mlp
from masac.networks.other_group import OtherGroup
from masac.networks.pooled import PooledCriticNetwork


class CriticNetwork(GroupNetwork):
    """Observations and actions to Q-values.

    Kinds:
        ``"independent"``: Q_i(o_i, a_i).
        ``"centralized"``: Q_i(o, a), from the features of all agents in ego-first order: agent i's own, then those of
        agents i+1, i+2, ... around the group, so that shared weights can still distinguish agents (Lowe et al.
        2017, arXiv 1706.02275, use weights per agent instead). A row costs N times the features of N agents.
        ``"team"``: one Q(o, a).

    The last two also see the alive flag of every agent, because zero is a legal action. They may see other groups too.

    With ``n_actions`` the agent's own actions are discrete: Q_i(o_i, ·) or Q_i(o, a_{-i}, ·), one value per action, and
    agent i's values cannot depend on the action that agent i takes. Each action is an input in turn, or there is an
    output for each (``model.choices_as``). With ``own_action_dim`` too the actions are hybrid:
    Q_i(o_i, c_i, ·) or Q_i(o, c, d_{-i}, ·), one value per discrete action d of agent i, given its continuous action c.

    Args:
        kind: see above.
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_dim: dimensions of one agent's action as the critic sees it (one-hot for discrete ones).
        share_params: one set of weights for all agents, else one per agent.
        model: sizes and kinds of layers.
        n_actions: D, values per agent for discrete actions; None for continuous ones.
        own_action_dim: with ``n_actions``, the continuous dimensions of a hybrid action, which come first.
        others: the other groups it sees.

    Raises:
        ValueError: for a team critic of discrete actions, or an independent one that sees other groups.
    """

    def __init__(
        self,
        kind: Literal["independent", "centralized", "team"],
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
        if kind == "team" and n_actions is not None:
            raise ValueError(
                "the kind of a critic of discrete actions must be 'independent', 'centralized' or 'pooled'; got "
                "'team', which would need a value for every combination of the agents' actions. Use 'centralized' or "
                "'pooled' with a team reward."
            )
        if kind == "independent" and others:
            raise ValueError(
                "the kind of a critic that sees other groups must be 'centralized', 'pooled' or 'team'; "
                "got 'independent'. Use one of those."
            )
        super().__init__(n_agents=n_agents, share_params=share_params, centralized=kind != "independent")
        self.kind = kind
        self.values_actions = n_actions is not None
        self.own_action_dim = own_action_dim if self.values_actions else action_dim
        own = observation_dim + self.own_action_dim
        mate = observation_dim + action_dim + 1
        context_dim = sum(other.features for other in others)
        inputs = {
            "independent": own,
            "centralized": own + 1 + (n_agents - 1) * mate + context_dim,
            "team": n_agents * mate + context_dim,
        }[kind]
        self.mlp = value_mlp(inputs, n_actions, model, () if share_params or kind == "team" else (n_agents,))

    def forward(
        self,
        observation: Tensor,
        action: Tensor | None = None,
        alive: Tensor | None = None,
        context: Tensor | None = None,
        encoded: Tensor | None = None,
        *,
        own_gradient: bool = False,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """The Q-values; of K critics at once if the parameters have a leading K.

        Args:
            observation: ``[*B, N, F]``.
            action: ``[*B, N, d]``; None for an independent critic of discrete actions.
            alive: bool ``[*B, N, 1]``; None for an independent critic.
            context: ``[*B, C]``, the other groups; with a leading K where their images were encoded.
            encoded: the features of the images, ``[*B, N, E]``, or with a leading K; None without images.
            own_gradient: let the gradient of Q_i reach the action of agent i only (of a team's value: all actions).
            chosen: with a :class:`ChoiceMLP`, the only discrete actions to value, one-hot ``[*B, N, D]``.

        Returns:
            ``[*B, N, V]`` (V is 1, or D), or ``[*B, 1]`` for a team; with a leading K if the parameters have one.
        """
        self.check_agents(observation)
        batch, n_agents = observation.shape[:-2], observation.shape[-2]
        flags = [] if alive is None else [alive.to(observation.dtype)]
        actions = [] if action is None else [action.to(observation.dtype)]
        seen = [observation] if encoded is None else [side_by_side([observation, encoded])]
        features = flat_rows(side_by_side([*seen, *actions, *flags]), batch, trailing=2)
        own = features
        if self.values_actions:
            own_actions = [one[..., : self.own_action_dim] for one in actions]
            own = flat_rows(side_by_side([*seen, *own_actions, *flags]), batch, trailing=2)
        if self.kind == "team":
            rows = [features.flatten(-2), *([] if context is None else [flat_rows(context, batch, trailing=1)])]
            values = self.mlp(side_by_side(rows))
            return values.reshape(*values.shape[:-2], *batch, 1)
        if self.kind == "centralized":
            around = None if context is None else flat_rows(context, batch, trailing=1)
            own = _ego_first(own, features.detach() if own_gradient else features, around)
        only = [] if chosen is None else [flat_rows(chosen.to(own.dtype), batch, trailing=2)]
        if self.share_params:
            values = self.mlp(*(rows.flatten(-3, -2) for rows in (own, *only)))
            return values.reshape(*values.shape[:-2], *batch, n_agents, values.shape[-1])
        values = self.mlp(*(rows.transpose(-3, -2) for rows in (own, *only))).transpose(-3, -2)
        return values.reshape(*values.shape[:-3], *batch, n_agents, values.shape[-1])


class GroupCritic(StackedCritic):
    """A critic network that reads and writes a TensorDict, K critics in one pass.

    It reads observation, action and alive flag of its own group, as far as the network takes them, with
    ``model.memory`` the output of the critics' memory after the observation, and its images, then the same of the other
    groups, without memories. Images of a group are encoded once per critic for all agents that see them.

    Args:
        network: of the values.
        group: key of its agents' entries.
        entries: the names of the entries that the network takes, the observation first.
        encoder: of the images of its own group.
        others: the other groups that it sees.
        model: of the convolutions over images of other groups.
        out_key: of the values.
    """

    module: CriticNetwork | PooledCriticNetwork

    def __init__(
        self,
        network: CriticNetwork | PooledCriticNetwork,
        *,
        group: NestedKey,
        entries: Sequence[str],
        encoder: ImageEncoder,
        others: Sequence[OtherGroup],
        model: ModelConfig,
        out_key: NestedKey,
    ) -> None:
        encoders = [encoder, *(_encoder_of(other, model) for other in others)]
        groups = [as_path(group), *(as_path(other.group) for other in others)]
        memory = ("critic_memory",) if model.memory_dim else ()
        self._remembers = bool(memory)
        names = [("observation", *memory, *entries[1:]), *[("observation", "action", "alive")] * len(others)]
        seen = [
            [*((*path, name) for name in own), *((*path, cnn.image.name) for cnn in one.cnns)]  # pyright: ignore
            for path, own, one in zip(groups, names, encoders, strict=True)
        ]
        super().__init__(network, in_keys=[key for keys in seen for key in keys], out_keys=[out_key])
        self.encoders = nn.ModuleList(encoders)
        self._seen = [(keys[: len(own)], keys[len(own) :]) for keys, own in zip(seen, names, strict=True)]

    @property
    def hides_own_action(self) -> bool:
        """See :class:`masac.layouts.StackedCritic`."""
        return self.module.values_actions

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Write the values of one critic into ``tensordict``."""
        return tensordict.set(self.out_keys[0], self._values(tensordict))

    def stacked_values(self, inputs: TensorDictBase, params: TensorDictBase, *, own_gradient: bool = False) -> Tensor:
        """See :class:`masac.layouts.StackedCritic`."""
        with parameters_in(self, params):
            return self._values(inputs, own_gradient=own_gradient)

    def chosen_values(self, inputs: TensorDictBase, params: TensorDictBase, chosen: Tensor) -> Tensor:
        """See :class:`masac.layouts.StackedCritic`."""
        if not isinstance(self.module.mlp, ChoiceMLP):
            return super().chosen_values(inputs, params, chosen)
        with parameters_in(self, params):
            return self._values(inputs, chosen=chosen)

    def _values(self, inputs: TensorDictBase, **options: Any) -> Tensor:
        entries = [[inputs.get(key) for key in keys] for keys, _ in self._seen]
        encoded = [
            encoder([inputs.get(key) for key in images]) if images else None
            for encoder, (_, images) in zip(self.encoders, self._seen, strict=True)
        ]
        own, *others = entries
        if self._remembers:
            observation, memory, *rest = own
            own = [side_by_side([observation, memory]), *rest]
        if not others:
            return self.module(*own, encoded=encoded[0], **options)
        # [*B, N', ...] of every entry side by side, the alive flags as numbers
        parts = []
        for (observation, *more), images in zip(others, encoded[1:], strict=True):
            seen = observation if images is None else side_by_side([observation, images])
            parts += [entry.to(own[0].dtype).flatten(-2) for entry in (seen, *more)]
        return self.module(*own, context=side_by_side(parts), encoded=encoded[0], **options)


def _encoder_of(other: OtherGroup, model: ModelConfig) -> ImageEncoder:
    return ImageEncoder(other.images, n_agents=other.n_agents, share_params=True, model=model)


def _ego_first(own: Tensor, mates: Tensor, context: Tensor | None) -> Tensor:
    """The inputs for each agent's value: its own features, then those of the next agents around the group.

    Args:
        own: ``[M, N, E]``.
        mates: ``[M, N, G]``.
        context: ``[M, C]``, the same for all agents, appended.

    Returns:
        ``[M, N, E + (N - 1) * G + C]``; with a leading K if an argument has one.
    """
    n_agents = mates.shape[-2]
    windows = torch.cat([mates, mates[..., : n_agents - 1, :]], dim=-2).unfold(-2, n_agents, 1)
    parts = [own, windows[..., 1:].transpose(-1, -2).flatten(-2)]
    if context is not None:
        parts.append(context.unsqueeze(-2).expand(*context.shape[:-1], n_agents, -1))
    return side_by_side(parts)


@dataclass(frozen=True, kw_only=True)
class CriticKind:
    """A kind of critic.

    Args:
        build: takes the arguments of :class:`CriticNetwork` after its kind, and returns a network with its signature.
        summary: of the computed values, for the explanation of ``algorithm.critic``.
        sees_others: whether it may see other groups.
        of_team: whether it has one value for the whole group.
    """

    build: Callable[..., CriticNetwork | PooledCriticNetwork]
    summary: str
    sees_others: bool = True
    of_team: bool = False


CRITICS = {
    "independent": CriticKind(
        build=partial(CriticNetwork, "independent"),
        summary="Q_i of the agent's own observation and action",
        sees_others=False,
    ),
    "centralized": CriticKind(
        build=partial(CriticNetwork, "centralized"), summary="Q_i of all observations and actions of the group"
    ),
    "pooled": CriticKind(
        build=PooledCriticNetwork, summary="Q_i of the agent's own and a mean over its teammates: for large groups"
    ),
    "team": CriticKind(
        build=partial(CriticNetwork, "team"), summary="one Q for the group; continuous actions only", of_team=True
    ),
}
"""The critics by the name that ``make_critic`` and ``algorithm.critic`` take."""


def make_critic(
    kind: str,
    *,
    group: NestedKey,
    n_agents: int,
    observation_dim: int,
    action_dim: int,
    share_params: bool,
    model: ModelConfig,
    n_actions: int | None = None,
    own_action_dim: int = 0,
    others: Sequence[OtherGroup] = (),
    images: Sequence[ImageSpec] = (),
) -> GroupCritic:
    """A critic from the group's observations and actions to Q-values.

    The kinds are those of :data:`CRITICS`; see :class:`CriticNetwork` and
    :class:`masac.networks.pooled.PooledCriticNetwork` for the arguments.
    Values of continuous actions are written to ``(group, "state_action_value")``, those of a team beside the group,
    values of ``n_actions`` discrete actions to ``(group, "action_value")``. All critics but independent ones also read
    ``(group, "alive")``, which the losses write, and observations, actions and alive flags of the ``others``.
    ``images`` are the images that the agents see beside the observation vector, each at ``(group, name)``.

    Raises:
        ValueError: for another kind, or a kind that does not fit discrete actions or other groups.
    """
    if kind not in CRITICS:
        raise ValueError(f"the kind of a critic must be one of {', '.join(map(repr, CRITICS))}; got {kind!r}.")
    encoder = ImageEncoder(images, n_agents=n_agents, share_params=share_params or CRITICS[kind].of_team, model=model)
    network = CRITICS[kind].build(
        n_agents=n_agents,
        observation_dim=observation_dim + model.memory_dim + encoder.features,
        action_dim=action_dim,
        share_params=share_params,
        model=model,
        n_actions=n_actions,
        own_action_dim=own_action_dim,
        others=[_encoded(other, model) for other in others],
    )
    if network.centralized:
        names = ["observation", "action", "alive"]
    else:
        names = ["observation", "action"] if n_actions is None or own_action_dim else ["observation"]
    path = as_path(group)
    value_path = path[:-1] if CRITICS[kind].of_team else path  # a team's value does not fit the agents' batch size
    value_name = "state_action_value" if n_actions is None else "action_value"
    return GroupCritic(
        network,
        group=group,
        entries=names,
        encoder=encoder,
        others=others,
        model=model,
        out_key=(*value_path, value_name),
    )


def _encoded(other: OtherGroup, model: ModelConfig) -> OtherGroup:
    """Another group whose observations have the features of its images too."""
    return replace(other, observation_dim=other.observation_dim + _encoder_of(other, model).features, images=())
