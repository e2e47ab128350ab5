"""Critic targets: one step, n steps or the λ-return, chosen by a value estimator of TorchRL.

Shape legend: ``*B`` batch, ``T`` time (its last dimension, for λ-returns), ``N`` agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import ValueEstimators
from torchrl.objectives.value import TD0Estimator, TD1Estimator, TDLambdaEstimator, ValueEstimatorBase

from masac import functional
from masac.compat import registered_value_estimator
from masac.group_signals import GroupSignals
from masac.keys import as_path

ESTIMATORS: dict[ValueEstimators, type[ValueEstimatorBase]] = {
    ValueEstimators.TD0: TD0Estimator,
    ValueEstimators.TD1: TD1Estimator,
    ValueEstimators.TDLambda: TDLambdaEstimator,
}
LAMBDA = 0.95
"""TorchRL's default."""


def make_estimator(
    value_type: ValueEstimators | ValueEstimatorBase | type | str,
    defaults: Mapping[str, Any],
    hyperparams: Mapping[str, Any],
) -> ValueEstimatorBase:
    """TorchRL's estimator, which holds the discount (and λ) as buffers; targets are computed in this module.

    Args:
        value_type: one of :data:`ESTIMATORS`, its name in any case, its class, an instance of it, or a name registered
            in TorchRL.
        defaults: ``gamma`` and ``device``.
        hyperparams: ``gamma``, ``lmbda`` for ``TDLambda``, and other arguments of TorchRL's estimator.

    Raises:
        NotImplementedError: for another estimator.
        ValueError: for settings that would change critic targets, or any setting together with an instance.
    """
    if isinstance(value_type, ValueEstimatorBase):
        if hyperparams:
            raise ValueError(
                f"{', '.join(hyperparams)} of make_value_estimator is not taken, because the estimator instance "
                "has its own. Pass the class, or set it in the instance."
            )
        return _checked(value_type)
    kind, registered = _estimator_class(value_type)
    if kind not in ESTIMATORS.values():
        raise _not_taken(value_type)
    more = {"lmbda": LAMBDA} if kind is TDLambdaEstimator else {}
    return _checked(kind(**{"value_network": None, **more, **registered, **defaults, **hyperparams}))


def _estimator_class(value_type: Any) -> tuple[type, Mapping[str, Any]]:
    """The class of an estimator, and the settings that it is registered with."""
    if isinstance(value_type, type):
        return value_type, {}
    if isinstance(value_type, str):
        names = {member.name.lower(): member for member in ValueEstimators}
        value_type = names.get(value_type.lower(), value_type)
    if value_type in ESTIMATORS:
        return ESTIMATORS[value_type], {}
    registered = None if isinstance(value_type, ValueEstimators) else registered_value_estimator(value_type)
    if registered is None:
        raise _not_taken(value_type)
    return registered


def _checked(estimator: ValueEstimatorBase) -> ValueEstimatorBase:
    if type(estimator) not in ESTIMATORS.values():
        raise _not_taken(type(estimator))
    if getattr(estimator, "average_rewards", False):
        raise ValueError(
            "average_rewards=True is not taken, because it would make rewards depend on the other rows of a batch. "
            "Scale rewards in the environment."
        )
    if getattr(estimator, "time_dim", None) not in (None, -2):
        raise ValueError(
            f"time_dim={estimator.time_dim} is not taken, because time is the last dimension of the batch size. "
            "Leave it out."
        )
    return estimator


def _not_taken(value_type: Any) -> NotImplementedError:
    name = value_type.__name__ if isinstance(value_type, type) else str(value_type)
    return NotImplementedError(
        f"the value estimator {name} is not taken, because group losses have critic targets of TD0, TD1 or TDLambda, "
        "computed for each agent. For n-step returns, pass data with a 'steps_to_next_obs' entry."
    )


def is_lambda_return(estimator: nn.Module) -> bool:
    """Whether critic targets are λ-returns (also with λ = 1), which need whole trajectories."""
    return isinstance(estimator, TDLambdaEstimator | TD1Estimator)


def estimated_target(
    estimator: nn.Module, tensordict: TensorDictBase, signals: GroupSignals, next_value: Tensor, *, steps_key: NestedKey
) -> Tensor:
    """The critic target of the shape of ``next_value``, ``[*B, N, 1]`` or ``[*B, 1]``; arbitrary for dead agents.

    Args:
        estimator: from :func:`make_estimator`.
        tensordict: the data.
        signals: of the data.
        next_value: soft values of the next states.
        steps_key: key of the number of steps to the next state, ``[*B]``, which n-step data has.
    """
    gamma = estimator.get_buffer("gamma")
    steps = tensordict.get(as_path(steps_key), None)
    reward, ends = signals.reward_for(next_value), signals.ends(next_value)
    if not is_lambda_return(estimator):
        return functional.soft_td_target(reward, ends, next_value, _discount(gamma, steps, signals, next_value))
    if steps is not None:
        raise ValueError(
            f"λ-returns must be given data of single steps; got the entry {steps_key!r} of n-step data. "
            "Leave out the n-step transform, or make_value_estimator(ValueEstimators.TD0)."
        )
    if len(signals.batch_size) < 2:
        raise ValueError(
            f"λ-returns must be given whole trajectories, batch size [..., T]; got {list(signals.batch_size)}. "
            "Sample slices (TorchRL's SliceSampler) and reshape them to [B, T], or "
            "make_value_estimator(ValueEstimators.TD0)."
        )
    lmbda = estimator.get_buffer("lmbda") if isinstance(estimator, TDLambdaEstimator) else torch.ones_like(gamma)
    time_dim = len(signals.batch_size) - 1
    return functional.soft_td_lambda_target(
        reward, ends, signals.ends_trajectory(next_value), next_value, gamma, lmbda, time_dim
    )


def _discount(gamma: Tensor, steps: Tensor | None, signals: GroupSignals, like: Tensor) -> Tensor:
    """γ, or γ^n per row for n-step data, broadcastable to ``like``."""
    if steps is None:
        return gamma
    batch_size = signals.batch_size
    if steps.shape not in (batch_size, (*batch_size, 1)):
        raise ValueError(
            f"steps_to_next_obs must have shape {list(batch_size)} or {[*batch_size, 1]}, one number per row; "
            f"got {list(steps.shape)}."
        )
    return gamma ** steps.reshape(*batch_size, *(1,) * (like.ndim - len(batch_size)))
