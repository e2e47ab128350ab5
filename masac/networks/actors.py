"""Tanh-normal and categorical actors for a group of agents."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModule
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torchrl.data import Bounded, TensorSpec
from torchrl.modules import (
    MaskedCategorical,
    MaskedOneHotCategorical,
    OneHotCategorical,
    ProbabilisticActor,
    TanhNormal,
)

from masac.actions.discrete import read_discrete_actions
from masac.actions.multi_categorical import MultiCategorical
from masac.groups import action_bounds, check_bounds
from masac.images import ImageSpec
from masac.keys import as_path
from masac.layouts import GroupNetwork
from masac.networks.config import ModelConfig
from masac.networks.images import ImageEncoder
from masac.networks.layers import StackedMLP


class ActorNetwork(GroupNetwork):
    """Observations to the parameters of a distribution, by one MLP for all agents or one per agent.

    With ``model.memory`` it sees the output of a memory (:class:`masac.networks.memory.GroupMemory`) beside them.

    Args:
        n_agents: N.
        observation_dim: features of one agent's observation.
        outputs: parameters per agent.
        share_params: one set of weights for all agents, else one per agent.
        model: sizes and kinds of layers.
        position_dependent: whether something outside the weights differs between agents.
        images: that an agent sees beside the observation vector, for convolutions before the MLP.
    """

    def __init__(
        self,
        *,
        n_agents: int,
        observation_dim: int,
        outputs: int,
        share_params: bool,
        model: ModelConfig,
        position_dependent: bool = False,
        images: Sequence[ImageSpec] = (),
    ) -> None:
        agent_ids = model.agent_ids and share_params
        super().__init__(
            n_agents=n_agents,
            share_params=share_params,
            centralized=False,
            position_dependent=agent_ids or position_dependent,
        )
        self.agent_ids = agent_ids
        self.encoder = ImageEncoder(images, n_agents=n_agents, share_params=share_params, model=model)
        self.memory_dim = model.memory_dim
        self.mlp = StackedMLP(
            observation_dim + self.memory_dim + self.encoder.features + (n_agents if agent_ids else 0),
            outputs,
            hidden=model.hidden,
            activation=model.activation,
            layer_norm=model.layer_norm,
            stack=() if share_params else (n_agents,),
        )

    def forward(self, observation: Tensor, *others: Tensor) -> Tensor | tuple[Tensor, ...]:
        """``[*B, N, F]`` (shared, without ids: ``[..., F]``) to the parameters ``[*B, N, outputs]``.

        Args:
            observation: the vectors.
            others: the output of the memory, ``[*B, N, H]``, if there is one, and images, each ``[*B, N, *shape]``.
        """
        self.check_agents(observation)
        memory, images = others[: self.memory_dim > 0], others[self.memory_dim > 0 :]
        if memory:
            observation = torch.cat([observation, *memory], dim=-1)
        lead = observation.shape[:-1]
        if images:
            seen = [observation] if observation.shape[-1] else []  # ONNX Runtime may refuse tensors without entries
            observation = torch.cat([*seen, self.encoder(images)], dim=-1)
        if self.agent_ids:
            ids = torch.eye(lead[-1], dtype=observation.dtype, device=observation.device)
            observation = torch.cat([observation, ids.expand(*lead, lead[-1])], dim=-1)
        if self.share_params:
            out = self.mlp(observation.reshape(-1, observation.shape[-1]))
        else:
            out = self.mlp(observation.reshape(-1, *observation.shape[-2:]).transpose(0, 1)).transpose(0, 1)
        return self.distribution_parameters(out.reshape(*lead, -1))

    def of_agent(self, index: int) -> ActorNetwork:
        """A copy for one agent alone, ``[*B, F]`` to its parameters ``[*B, outputs]``."""
        alone = copy.deepcopy(self)
        with torch.no_grad():
            if not self.share_params:
                for parameter in alone.parameters():
                    parameter.data = parameter[index].clone()
            elif self.agent_ids:  # the id is constant now, and becomes part of the first layer's bias
                first = alone.mlp.first
                features = first.weight.shape[0] - cast(int, self.n_agents)
                first.bias.add_(first.weight[features + index])
                first.weight.data = first.weight[:features].clone()
        alone.share_params, alone.agent_ids, alone.position_dependent, alone.n_agents = True, False, False, 1
        alone.encoder.share_params, alone.encoder.n_agents = True, 1
        return alone

    def distribution_parameters(self, out: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Distribution parameters from the MLP's outputs ``[*B, N, outputs]``; logits unchanged."""
        return out


class TanhNormalNetwork(ActorNetwork):
    """Observations to the mean and standard deviation of a normal distribution before tanh.

    The standard deviation is ``exp(log_std)``, with ``log_std`` squashed smoothly (by a tanh) into
    ``[log_std_min, log_std_max]``.

    Args:
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_dim: dimensions of one agent's action.
        share_params: one set of weights for all agents, else one per agent.
        model: sizes and kinds of layers.
        position_dependent: whether something outside the weights differs between agents.
        images: that an agent sees beside the observation vector.
    """

    def __init__(
        self,
        *,
        n_agents: int,
        observation_dim: int,
        action_dim: int,
        share_params: bool,
        model: ModelConfig,
        position_dependent: bool = False,
        images: Sequence[ImageSpec] = (),
    ) -> None:
        super().__init__(
            n_agents=n_agents,
            observation_dim=observation_dim,
            outputs=2 * action_dim,
            share_params=share_params,
            model=model,
            position_dependent=position_dependent,
            images=images,
        )
        self.log_std_bounds = (model.log_std_min, model.log_std_max)

    def distribution_parameters(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """``[*B, N, 2 d]`` to mean and standard deviation ``[*B, N, d]``."""
        return mean_and_std(out, self.log_std_bounds)


def mean_and_std(out: Tensor, log_std_bounds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """``[*B, N, 2 d]`` to mean and standard deviation ``[*B, N, d]``, the latter within the bounds of its logarithm."""
    mean, raw = out.chunk(2, dim=-1)
    return mean, bounded_std(raw, log_std_bounds)


def bounded_std(raw: Tensor, log_bounds: tuple[float, float]) -> Tensor:
    """A standard deviation whose logarithm a tanh squashes into bounds, from any number."""
    low, high = log_bounds
    return torch.exp(low + 0.5 * (high - low) * (torch.tanh(raw) + 1))


def make_tanh_normal_actor(
    *,
    group: NestedKey,
    n_agents: int,
    observation_dim: int,
    action_spec: TensorSpec,
    share_params: bool,
    model: ModelConfig,
    images: Sequence[ImageSpec] = (),
) -> ProbabilisticActor:
    """A TorchRL actor from ``(group, "observation")`` to ``(group, "action")``.

    With ``model.memory`` it reads ``(group, "actor_memory")`` too, which the losses compute.

    Args:
        group: key of the agents' entries.
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_spec: the bounded spec of the group's action, ``[N, d]``.
        share_params: one set of weights for all agents, else one per agent.
        model: sizes and kinds of layers.
        images: that the agents see beside the observation vector, each at ``(group, name)``.

    Raises:
        ValueError: if the action spec is not bounded or not ``[N, d]``.
    """
    bounds, same_for_all = tanh_bounds(action_spec, n_agents, group)
    network = TanhNormalNetwork(
        n_agents=n_agents,
        observation_dim=observation_dim,
        action_dim=action_spec.shape[-1],
        share_params=share_params,
        model=model,
        position_dependent=not same_for_all,
        images=images,
    )
    path = as_path(group)
    module = TensorDictModule(
        network, in_keys=observed_keys(path, images, model), out_keys=[(*path, "loc"), (*path, "scale")]
    )
    return ProbabilisticActor(
        module,
        in_keys={"loc": (*path, "loc"), "scale": (*path, "scale")},  # pyright: ignore[reportArgumentType]
        out_keys=[(*path, "action")],
        spec=action_spec,
        distribution_class=TanhNormal,
        distribution_kwargs=bounds,
        return_log_prob=True,
        log_prob_key=(*path, "action_log_prob"),
    )


def tanh_bounds(action_spec: TensorSpec, n_agents: int, group: NestedKey) -> tuple[dict[str, Any], bool]:
    """The arguments ``low`` and ``high`` of TorchRL's ``TanhNormal``, and whether they are the same for all agents.

    Raises:
        ValueError: if the action spec is not bounded or not ``[N, d]``.
    """
    if not isinstance(action_spec, Bounded) or len(action_spec.shape) != 2 or action_spec.shape[0] != n_agents:
        raise ValueError(
            f"action_spec must be a bounded continuous spec of shape [{n_agents}, d]; got {action_spec}. "
            "Build the environment with continuous actions and finite bounds."
        )
    check_bounds(action_spec, group)
    low, high = action_bounds(action_spec)
    same_for_all = bool((low == low[:1]).all() and (high == high[:1]).all())
    if same_for_all:
        low, high = low[0], high[0]
    if bool((low == low.flatten()[0]).all() and (high == high.flatten()[0]).all()):
        low, high = low.flatten()[0].item(), high.flatten()[0].item()  # plain numbers take a faster path in TanhNormal
    return {"low": low, "high": high}, same_for_all


def make_categorical_actor(
    *,
    group: NestedKey,
    n_agents: int,
    observation_dim: int,
    action_spec: TensorSpec,
    share_params: bool,
    model: ModelConfig,
    action_mask: bool = False,
    images: Sequence[ImageSpec] = (),
) -> ProbabilisticActor:
    """A TorchRL actor from ``(group, "observation")`` to a discrete ``(group, "action")`` in the encoding of its spec.

    Args:
        group: key of the agents' entries.
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_spec: ``Categorical`` ``[N]``, ``OneHot`` ``[N, D]``, ``MultiCategorical`` ``[N, K]``.
        share_params: one set of weights for all agents, else one per agent.
        model: sizes and kinds of layers.
        action_mask: whether the data has an action mask at ``(group, "action_mask")``, bool ``[*B, N, D]``.
        images: that the agents see beside the observation vector, each at ``(group, name)``.

    Raises:
        ValueError: for another spec, or a spec that differs between agents.
    """
    actions = read_discrete_actions(action_spec)
    if actions is None or actions.sizes is None or actions.encoding == "mult-one-hot":
        raise ValueError(
            "action_spec must be a Categorical, OneHot or MultiCategorical spec, equal for all agents; "
            f"got {action_spec}. Put agents that differ into groups of their own."
        )
    network = ActorNetwork(
        n_agents=n_agents,
        observation_dim=observation_dim,
        outputs=sum(actions.sizes),
        share_params=share_params,
        model=model,
        images=images,
    )
    path = as_path(group)
    parameters: dict[str, NestedKey] = {"logits": (*path, "logits")}
    distribution: type[Distribution] = OneHotCategorical if actions.encoding == "one-hot" else Categorical
    if action_mask:
        parameters["mask"] = (*path, "action_mask")
        distribution = MaskedOneHotCategorical if actions.encoding == "one-hot" else MaskedCategorical
    several = actions.encoding == "multi-discrete"
    return ProbabilisticActor(
        TensorDictModule(network, in_keys=observed_keys(path, images, model), out_keys=[(*path, "logits")]),
        in_keys=parameters,  # pyright: ignore[reportArgumentType]
        out_keys=[(*path, "action")],
        spec=action_spec,
        distribution_class=MultiCategorical if several else distribution,
        distribution_kwargs={"sizes": actions.sizes} if several else {},
        return_log_prob=True,
        log_prob_key=(*path, "action_log_prob"),
    )


def observed_keys(path: tuple[str, ...], images: Sequence[ImageSpec], model: ModelConfig) -> list[NestedKey]:
    """The keys of what an actor sees."""
    memory = ("actor_memory",) if model.memory_dim else ()
    return [(*path, name) for name in ("observation", *memory, *(image.name for image in images))]
