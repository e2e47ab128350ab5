"""Run K critics on a batch: one call where the network stacks them itself, else a vmap over their parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor

from masac.compat import parameters_in
from masac.keys import get_entry
from masac.layouts import StackedCritic

CriticValues = Callable[[TensorDictBase, TensorDictBase], Tensor]
"""A function of (inputs of batch size ``*B``, parameters of K critics): values ``[K, *B, N, V]`` or ``[K, *B, 1]``."""


def make_critic_values(
    critic: TensorDictModule, value_key: NestedKey, *, randomness: str, deactivate_vmap: bool
) -> CriticValues:
    """A function that runs K critics, given their stacked parameters.

    Args:
        critic: the module of one critic.
        value_key: where it writes its values.
        randomness: as ``torch.vmap`` takes it.
        deactivate_vmap: loop over the critics instead, for modules that vmap cannot handle.
    """

    def one(inputs: TensorDictBase, params: TensorDictBase) -> Tensor:
        with parameters_in(critic, params):
            return get_entry(critic(inputs.copy()), value_key, "the loss, of the critic's output,")

    if deactivate_vmap:
        return lambda inputs, params: torch.stack([one(inputs, critic_params) for critic_params in params.unbind(0)])
    if isinstance(critic, StackedCritic):
        return critic.stacked_values
    return torch.vmap(one, in_dims=(None, 0), randomness=randomness)


def own_gradient(q_value: Tensor, action: Tensor) -> Tensor:
    """``q_value`` with the gradient ∂Q_i/∂a_i alone: the gradient of each agent's action comes from its own value.

    Costs one backward pass per agent, from its values to the actions.

    Args:
        q_value: ``[*B, N, 1]``, a function of ``action``.
        action: ``[*B, N, *A]``, requires grad.

    Returns:
        ``[*B, N, 1]``, equal to ``q_value``; gradients reach ``action`` only.
    """
    n_agents = q_value.shape[-2]
    agent_dim = q_value.ndim - 2
    own = []
    for agent in range(n_agents):
        value = q_value.select(agent_dim, agent).sum()
        (gradient,) = torch.autograd.grad(value, action, retain_graph=True)
        own.append(gradient.select(agent_dim, agent))
    gradients = torch.stack(own, dim=agent_dim)
    # The term is 0, so the value stays; its gradient to the action is ∂Q_i/∂a_i.
    linear = (gradients * (action - action.detach())).flatten(agent_dim + 1).sum(-1, keepdim=True)
    return q_value.detach() + linear
