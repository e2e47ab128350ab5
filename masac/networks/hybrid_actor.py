"""Actors of hybrid actions: a tanh-normal part and categorical factors, independent given the observation."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import NestedKey
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import Tensor
from torchrl.data import TensorSpec
from torchrl.modules import TanhNormal

from masac.actions.multi_categorical import MultiCategorical
from masac.groups import DISCRETE_ACTION
from masac.images import ImageSpec
from masac.keys import as_path
from masac.networks.actors import ActorNetwork, bounded_std, observed_keys, tanh_bounds
from masac.networks.config import ModelConfig


class HybridNetwork(ActorNetwork):
    """Observations to mean and standard deviation of the continuous part, and the logits of the discrete one.

    Args:
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_dim: dimensions of the continuous part.
        n_choices: choices of all factors of the discrete part.
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
        n_choices: int,
        share_params: bool,
        model: ModelConfig,
        position_dependent: bool = False,
        images: Sequence[ImageSpec] = (),
    ) -> None:
        super().__init__(
            n_agents=n_agents,
            observation_dim=observation_dim,
            outputs=2 * action_dim + n_choices,
            share_params=share_params,
            model=model,
            position_dependent=position_dependent,
            images=images,
        )
        self.parts = (action_dim, action_dim, n_choices)
        self.log_std_bounds = (model.log_std_min, model.log_std_max)

    def distribution_parameters(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[*B, N, 2 d + D]`` to mean and standard deviation ``[*B, N, d]`` and logits ``[*B, N, D]``."""
        mean, raw, logits = out.split(self.parts, dim=-1)
        return mean, bounded_std(raw, self.log_std_bounds), logits


def make_hybrid_actor(
    *,
    group: NestedKey,
    n_agents: int,
    observation_dim: int,
    action_spec: TensorSpec,
    sizes: Sequence[int],
    share_params: bool,
    model: ModelConfig,
    action_mask: bool = False,
    images: Sequence[ImageSpec] = (),
) -> ProbabilisticTensorDictSequential:
    """An actor from ``(group, "observation")`` to ``(group, "action")`` and ``(group, "discrete_action")``.

    Args:
        group: key of the agents' entries.
        n_agents: N.
        observation_dim: features of one agent's observation.
        action_spec: the bounded spec of the continuous part, ``[N, d]``.
        sizes: choices of each of the K factors of the discrete part, whose indices are ``[N, K]``.
        share_params: one set of weights for all agents, else one per agent.
        model: sizes and kinds of layers.
        action_mask: whether the data has an action mask at ``(group, "action_mask")``, bool ``[*B, N, D]``.
        images: that the agents see beside the observation vector, each at ``(group, name)``.

    Raises:
        ValueError: if the action spec is not bounded or not ``[N, d]``.
    """
    bounds, same_for_all = tanh_bounds(action_spec, n_agents, group)
    network = HybridNetwork(
        n_agents=n_agents,
        observation_dim=observation_dim,
        action_dim=action_spec.shape[-1],
        n_choices=sum(sizes),
        share_params=share_params,
        model=model,
        position_dependent=not same_for_all,
        images=images,
    )
    path = as_path(group)
    loc, scale, logits = ((*path, name) for name in ("loc", "scale", "logits"))
    choices: dict[str, NestedKey] = {"logits": logits}
    if action_mask:
        choices["mask"] = (*path, "action_mask")
    return ProbabilisticTensorDictSequential(  # pyright: ignore[reportCallIssue]
        TensorDictModule(  # pyright: ignore[reportArgumentType]
            network, in_keys=observed_keys(path, images, model), out_keys=[loc, scale, logits]
        ),
        ProbabilisticTensorDictModule(
            in_keys={"loc": loc, "scale": scale},  # pyright: ignore[reportArgumentType]
            out_keys=[(*path, "action")],
            distribution_class=TanhNormal,
            distribution_kwargs=bounds,
        ),
        ProbabilisticTensorDictModule(
            in_keys=choices,  # pyright: ignore[reportArgumentType]
            out_keys=[(*path, DISCRETE_ACTION)],
            distribution_class=MultiCategorical,
            distribution_kwargs={"sizes": tuple(sizes)},
        ),
    )
