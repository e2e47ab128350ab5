"""What critics are trained to: one step, n steps or the λ-return, by the value estimator TorchRL knows.

Shape legend: ``*B`` batch, ``T`` time (its last dimension, for λ-returns), ``N`` agents.
"""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import ValueEstimators
from torchrl.objectives.value import TD0Estimator, TDLambdaEstimator

from masac import functional
from masac.keys import as_path
from masac.losses.batch import GroupBatch

LAMBDA = 0.95
"""TorchRL's default."""


def make_estimator(
    value_type: ValueEstimators, *, gamma: float, device: torch.device | None, **more: float
) -> nn.Module:
    """TorchRL's estimator, which holds the discount (and λ) as buffers.

    Args:
        value_type: ``ValueEstimators.TD0`` or ``ValueEstimators.TDLambda``.
        gamma: discount a step.
        device: of the buffers.
        more: ``lmbda`` of ``TDLambda``, and what else TorchRL's estimator takes.

    Raises:
        NotImplementedError: for another estimator.
    """
    settings = {"value_network": None, "gamma": gamma, "device": device, **more}
    if value_type is ValueEstimators.TD0:
        return TD0Estimator(**settings)  # pyright: ignore[reportArgumentType]
    if value_type is ValueEstimators.TDLambda:
        return TDLambdaEstimator(**{"lmbda": LAMBDA, **settings})  # pyright: ignore[reportArgumentType]
    raise NotImplementedError(
        f"the value estimator of a group loss must be ValueEstimators.TD0 or TDLambda; got {value_type}. "
        "For n-step returns, pass data with a 'steps_to_next_obs' entry."
    )


def is_lambda_return(estimator: nn.Module) -> bool:
    """Whether targets are λ-returns, which need whole trajectories."""
    return isinstance(estimator, TDLambdaEstimator)


def estimated_target(
    estimator: nn.Module, tensordict: TensorDictBase, batch: GroupBatch, next_value: Tensor, *, steps_key: NestedKey
) -> Tensor:
    """The critic target of the shape of ``next_value``, ``[*B, N, 1]`` or ``[*B, 1]``; anything for the dead.

    Args:
        estimator: of :func:`make_estimator`.
        tensordict: the data; its ``steps_key`` may say how many steps lie before the next state.
        batch: its signals.
        next_value: soft values of the next states.
        steps_key: where that is, ``[*B]``.
    """
    gamma = estimator.get_buffer("gamma")
    steps = tensordict.get(as_path(steps_key), None)
    reward, ends = batch.reward_for(next_value), batch.ends(next_value)
    if not is_lambda_return(estimator):
        return functional.soft_td_target(reward, ends, next_value, _discount(gamma, steps, batch, next_value))
    if steps is not None:
        raise ValueError(
            f"λ-returns must be given data of single steps; got the entry {steps_key!r} of n-step data. "
            "Leave out the n-step transform, or make_value_estimator(ValueEstimators.TD0)."
        )
    if len(batch.batch_size) < 2:
        raise ValueError(
            f"λ-returns must be given whole trajectories, batch size [..., T]; got {list(batch.batch_size)}. "
            "Sample slices (TorchRL's SliceSampler) and reshape them to [B, T], or "
            "make_value_estimator(ValueEstimators.TD0)."
        )
    lmbda = estimator.get_buffer("lmbda")
    time_dim = len(batch.batch_size) - 1
    return functional.soft_td_lambda_target(reward, ends, batch.cuts(next_value), next_value, gamma, lmbda, time_dim)


def _discount(gamma: Tensor, steps: Tensor | None, batch: GroupBatch, like: Tensor) -> Tensor:
    """γ, or γ^n a row for n-step data, broadcastable to ``like``."""
    if steps is None:
        return gamma
    batch_size = batch.batch_size
    if steps.shape not in (batch_size, (*batch_size, 1)):
        raise ValueError(
            f"steps_to_next_obs must have shape {list(batch_size)} or {[*batch_size, 1]}, a number of steps a row; "
            f"got {list(steps.shape)}."
        )
    return gamma ** steps.reshape(*batch_size, *(1,) * (like.ndim - len(batch_size)))
